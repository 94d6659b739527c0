"""How many tokens of the encoder that ships noise and rooms change, before anything enhances them.

    python -m bench.noise_in_tokens --data DATA --output noise_in_tokens

DATA holds LibriSpeech, cmu_arctic, noise and rir. The speakers who test enhancement are heard clean, in a room without
noise, and in noise of 30 dB and of 0 to 15 dB; tokens are those of encoder-small with the codebooks that ship. Prints a
table of the share of tokens that are not those of the clean recording, and writes ``noise_in_tokens.md``; goes on where
it was.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bench.enhancement_study import HERE, ROOM_SIDES, SIDES, held_listing, sounds
from bench.measuring import table
from bench.vocoder_study import LAYERS, job

SIZES = (100, 500)
QUIET_DB = 60.0


def conditions(folder: Path) -> dict[str, dict[str, Any]]:
    """Say how each is mixed."""
    noises, rooms = {"noises": folder / "noise"}, {"rooms": folder / "rir", "room_probability": 1}
    return {
        "noise, 30 dB": {**noises, "snr_db": (30, 30)},
        "a room": {**noises, **rooms, "snr_db": (QUIET_DB, QUIET_DB)},
        "noise, 0 to 15 dB": {**noises, "snr_db": (0, 15)},
        "noise, 0 to 15 dB, in a room": {**noises, **rooms, "snr_db": (0, 15)},
    }


def tokens(folder: Path, name: str, manifest: Path, num_clusters: int) -> Mapping[str, Mapping[str, Any]]:
    """Make and read the tokens of a condition, by utterance."""
    output = folder / f"{name}_{num_clusters}"
    job("tokenize_corpus", manifest=manifest, encoder="encoder-small", layers=LAYERS, num_clusters=num_clusters,
            codebooks="encoder-small", output=output, **HERE)  # fmt: skip
    rows = [row for path in sorted(output.glob("shard-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["utterance_id"]: row for row in rows}


def changed(clean: Mapping[str, Mapping[str, Any]], noisy: Mapping[str, Mapping[str, Any]], column: str) -> float:
    """Give the share of frames whose token is another one."""
    pairs = [(np.array(row[column]), np.array(clean[name][column])) for name, row in noisy.items()]
    return float(sum((ours != theirs).sum() for ours, theirs in pairs) / sum(len(ours) for ours, _ in pairs))


def main() -> None:
    """Mix, tokenise, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    folder = given.output
    clean = folder / "clean"
    job("build_manifest", corpus=held_listing(given.data, folder), layout="listing", roots=given.data, output=clean,
            **HERE)  # fmt: skip
    sounds(given.data, folder, "noise", "noise", SIDES)
    sounds(given.data, folder, "rir", "rir", ROOM_SIDES)
    rows = []
    for number, (name, mixed) in enumerate(conditions(folder).items()):
        job("mix_corpus", manifest=clean, output=folder / f"mixed_{number}", seed=1, **mixed, **HERE)
        cells: list[str] = []
        for size in SIZES:
            found = tokens(folder, f"noisy_{number}", folder / f"mixed_{number}" / "_manifest", size)
            wanted = tokens(folder, "tokens", clean, size)
            cells += [f"{changed(wanted, found, f'layer_{layer:02d}'):.3f}" for layer in LAYERS]
        rows.append([name, *cells])
    told = table(("", *(f"layer {layer}, K = {size}" for size in SIZES for layer in LAYERS)), rows)
    (folder / "noise_in_tokens.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
