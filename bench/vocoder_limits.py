"""What keeps a vocoder's speech from being understood: one network and training on ever richer tokens of one voice.

    python -m bench.vocoder_limits --data DATA --output limits [--steps 2000] [--variants shipped voice ...]

The tokens are those of encoder-small: with the codebooks that ship (``shipped``, K = 500, fitted on other speakers),
with codebooks of the same K fitted on the voice (``voice``), of all six layers (``six_layers``), and with four residual
stages of K = 1000 (``residual``), which leave little of the features out. Each vocoder hears all layers at every step,
so the figures are a ceiling of what layer dropout could reach. Prints a table and writes ``limits.md``; goes on where
it was.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.measuring import table
from bench.vocoder_study import job, listing, prepare

MEASURES = ("stft_distance", "log_mel_distance", "f0_correlation", "stoi", "speaker_similarity", "wer")
JUDGES = ("stft", "log_mel", "pitch", "stoi", "speaker", "recogniser")
FITTED = {
    "voice": {"layers": (2, 4, 6), "num_clusters": 500},
    "six_layers": {"layers": (1, 2, 3, 4, 5, 6), "num_clusters": 500},
    "residual": {"layers": (2, 4, 6), "num_clusters": 1000, "num_quantizers": 4},
}
"""Codebooks that are fitted on the voice."""


def tokens_of(name: str, data: Path, folder: Path) -> Path:
    """Make the tokens of a variant; give the folder that holds them and their manifest."""
    if name == "shipped":
        prepare(data, folder)
        return folder
    made = folder / name
    job("run_pipeline", corpus=listing(data, folder), layout="listing", roots=data, output=made, runner="here",
            **FITTED[name])  # fmt: skip
    return made


def made(name: str, data: Path, folder: Path, steps: int) -> list[str]:
    """Train and judge the vocoder of a variant, and give its line."""
    within = tokens_of(name, data, folder)
    inputs = {"tokens": within / "tokens", "manifest": within / "manifest"}
    vocoder, judged = folder / f"{name}_vocoder", folder / f"{name}_judged"
    job("train_vocoder", preset="vocoder_small", output=vocoder, runner="here", no_layer_dropout=(),
            threads_per_worker=1, num_steps=steps, warmup_steps=100, lr=2e-3, discriminators_from=steps,
            validate_every=500, checkpoint_every=500, log_every=250, **inputs)  # fmt: skip
    job("evaluate", vocoder=vocoder, output=judged, layer_sets=("all",), judges=JUDGES, **inputs)
    found = json.loads((judged / "metrics.json").read_text())
    figures = {each["condition"]: each["figures"] for each in found["conditions"]}
    intervals = [figures["all"][measure]["interval"] for measure in MEASURES]
    return [name, *(f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})" for told in intervals)]


def main() -> None:
    """Make every variant, two at a time where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--variants", nargs="+", choices=("shipped", *FITTED), default=["shipped", *FITTED])
    parser.add_argument("--at-once", type=int, default=1)
    given = parser.parse_args()
    with ThreadPoolExecutor(given.at_once) as pool:
        lines = list(pool.map(lambda name: made(name, given.data, given.output, given.steps), given.variants))
    told = table(("tokens", *MEASURES), lines)
    (given.output / "limits.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
