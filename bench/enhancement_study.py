"""Enhancement on tokens of one, two and six layers, on real speech: token errors, and what judges say of the speech.

    python -m bench.enhancement_study --data DATA --output enhancement [--steps 4000] [--vocoder-steps 8000]
        [--encoder robust/encoder] [--passes 4] [--runs NAME...] [--parts tokens speech]

DATA holds LibriSpeech, cmu_arctic, noise, rir and VoiceBank-DEMAND. Everything is learned from 108 minutes of read
speech in ``--passes`` mixtures each at 0 to 15 dB, half of them in rooms 1 or 2, with noises 1 to 3 and what is made
without recordings of noise (``bench/more_noises.py``). Judged are 26 speakers of LibriSpeech who were heard in no
training, in noise 5 and room 4, and VoiceBank-DEMAND, another kind of noise and corpus. Tokens are those of
``--encoder`` (encoder-small, or what ``bench.noise_robust_encoder`` makes of it) with codebooks of the clean speech,
K = 500, layers 1 to 6. One vocoder, without a table of speakers,
speaks every set of layers: the voice is in the tokens. Prints tables and writes ``enhancement.md``; goes on where it
was.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measuring import table
from bench.more_noises import written
from bench.study_corpora import LAYERS, write_listing
from bench.vocoder_study import job

SETS = {"layer 6": (6,), "layers 2 6": (2, 6), "layers 1 to 6": LAYERS}
"""What is heard and said."""
RUNS = {**{name: (layers, "attention") for name, layers in SETS.items()}, "layers 1 to 6, concat": (LAYERS, "concat")}
"""What is trained: layers, and how they are fused."""
SIDES = {"train": (1, 2, 3), "valid": (4,), "test": (5,)}
ROOM_SIDES = {"train": (1, 2), "valid": (3,), "test": (4,)}
HERE: dict[str, Any] = {"runner": "here"}
PARTS = ("tokens", "speech")
MEASURES = ("stoi", "dnsmos_ovrl", "speaker_similarity", "dwer", "wer")


def sounds(
    data: Path, folder: Path, kind: str, stem: str, sides: Mapping[str, Iterable[int]], more: Iterable[Path] = ()
) -> Path:
    """Make the manifest of noises or rooms, each of one side; what is made beside them is for training."""
    lines = [json.dumps({"path": str(path), "split": "train"}) for path in more]
    lines += [
        json.dumps({"path": str(data / kind / f"{stem}{number}.wav"), "split": side})
        for side, numbers in sides.items()
        for number in numbers
    ]
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / f"{kind}.jsonl"
    listing.write_text("\n".join(lines) + "\n")
    job("build_manifest", corpus=listing, layout="listing", roots=(data, folder), output=folder / kind, **HERE)
    return folder / kind


def more_noises(data: Path, folder: Path, listing: Path) -> list[Path]:
    """Make noises of the recordings, and of the speakers, that training hears."""
    told = [json.loads(line) for line in listing.read_text().splitlines()]
    talkers = [data / line["path"] for line in told if line["split"] == "train" and "LibriSpeech" in line["path"]]
    recordings = [data / "noise" / f"noise{number}.wav" for number in SIDES["train"]]
    return written(folder / "made_noises", recordings, talkers)


def training_sounds(data: Path, folder: Path, listing: Path) -> tuple[Path, Path]:
    """Make the manifests of noises and of rooms, those of every side."""
    noises = sounds(data, folder, "noise", "noise", SIDES, more_noises(data, folder, listing))
    return noises, sounds(data, folder, "rir", "rir", ROOM_SIDES)


def held_listing(data: Path, folder: Path) -> Path:
    """List the speakers that are judged."""
    listing, held = write_listing("read", data, folder / "read"), folder / "test.jsonl"
    held.write_text("".join(line + "\n" for line in listing.read_text().splitlines() if '"split": "test"' in line))
    return held


def tokens(folder: Path, encoder: str, manifest: Path, name: str) -> Path:
    """Tokenise with the codebooks of the clean speech."""
    job("tokenize_corpus", manifest=manifest, encoder=encoder, layers=LAYERS, num_clusters=500,
            codebooks=folder / "read" / "codebooks", output=folder / name, **HERE)  # fmt: skip
    return folder / name


def prepare(data: Path, folder: Path, encoder: str, passes: int) -> None:
    """Make clean speech, its codebooks and tokens, mixtures and their tokens, and both sides of VoiceBank-DEMAND."""
    listing = write_listing("read", data, folder / "read")
    job("run_pipeline", corpus=listing, layout="listing", roots=data, output=folder / "read", encoder=encoder,
            layers=LAYERS, num_clusters=500, **HERE)  # fmt: skip
    noises, rooms = training_sounds(data, folder, listing)
    mixed = {"noises": noises, "rooms": rooms, "snr_db": (0, 15), **HERE}
    job("mix_corpus", manifest=folder / "read" / "manifest", output=folder / "noisy", passes=passes, **mixed)
    tokens(folder, encoder, folder / "noisy" / "_manifest", "noisy_tokens")
    held = held_listing(data, folder)
    job("build_manifest", corpus=held, layout="listing", roots=data, output=folder / "test", **HERE)
    job("mix_corpus", manifest=folder / "test", output=folder / "test_noisy", seed=1, **mixed)
    for side, layout in (("bank", "voicebank-clean"), ("bank_noisy", "voicebank")):
        job("build_manifest", corpus=data / "VoiceBank-DEMAND", layout=layout, output=folder / side, **HERE)
    for name, manifest in manifests(folder).items():
        tokens(folder, encoder, manifest, f"{name}_tokens")


def manifests(folder: Path) -> dict[str, Path]:
    """Give the manifests of the two tests, clean and noisy."""
    return {
        "test": folder / "test",
        "test_noisy": folder / "test_noisy" / "_manifest",
        "bank": folder / "bank",
        "bank_noisy": folder / "bank_noisy",
    }


def slug(name: str) -> str:
    """Give a name as part of a folder's."""
    return name.replace(",", "").replace(" ", "_")


def train(folder: Path, name: str, steps: int) -> None:
    """Train one, and count its token errors on both tests."""
    layers, fusion = RUNS[name]
    output = folder / f"se_{slug(name)}"
    clean = {"clean_tokens": folder / "read" / "tokens", "clean_manifest": folder / "read" / "manifest"}
    job("train_task", preset="se_small", output=output, tokens=folder / "noisy_tokens", layers=layers, fusion=fusion,
            embedding_init="centroids", embedding_dim=192, codebooks=folder / "read" / "codebooks",
            threads_per_worker=1,
            manifest=folder / "noisy" / "_manifest", num_steps=steps, **clean, **HERE)  # fmt: skip
    for corpus in ("test", "bank"):
        there = manifests(folder)
        job("evaluate", model=output, manifest=there[f"{corpus}_noisy"], tokens=folder / f"{corpus}_noisy_tokens",
                clean_manifest=there[corpus], clean_tokens=folder / f"{corpus}_tokens", sides="all", examples=0,
                output=folder / f"se_{slug(name)}_{corpus}")  # fmt: skip


def speak(folder: Path, corpus: str, names: Sequence[str]) -> None:
    """Speak noisy tokens, what is said of them, and clean tokens, from each set of layers; and judge all of it."""
    vocoder, there = folder / "vocoder", manifests(folder)
    noisy, heard = folder / f"{corpus}_noisy_tokens", {"noisy": there[f"{corpus}_noisy"]}
    for name in names:
        layers, _ = RUNS[name]
        said = folder / f"{corpus}_said_{slug(name)}"
        job("enhance", tokens=noisy, manifest=there[f"{corpus}_noisy"], task=folder / f"se_{slug(name)}", output=said,
                vocoder=vocoder, layers=layers, **HERE)  # fmt: skip
        heard[f"{name}, enhanced"] = said / "_manifest"
    for name, layers in SETS.items():
        if not any(RUNS[each][0] == layers for each in names):
            continue
        ceiling = folder / f"{corpus}_ceiling_{slug(name)}"
        job("synthesize", tokens=folder / f"{corpus}_tokens", manifest=there[corpus], output=ceiling, vocoder=vocoder,
                layers=layers, **HERE)  # fmt: skip
        heard[f"{name}, clean tokens"] = ceiling / "_manifest"
    plain = folder / f"{corpus}_plain"
    job("synthesize", tokens=noisy, manifest=there[f"{corpus}_noisy"], vocoder=vocoder, layers=LAYERS, output=plain,
            **HERE)  # fmt: skip
    heard["layers 1 to 6, noisy tokens"] = plain / "_manifest"
    job("evaluate", recorded=tuple(heard.values()), names=tuple(heard), reference=there[corpus],
            judges=("stoi", "dnsmos", "speaker", "recogniser"), output=folder / f"{corpus}_judged")  # fmt: skip


def token_table(folder: Path, names: Sequence[str]) -> str:
    """Give token error rates of the noisy tokens and of what is said, of each layer."""
    rows = []
    for corpus in ("test", "bank"):
        for name in names:
            found = json.loads((folder / f"se_{slug(name)}_{corpus}" / "metrics.json").read_text())
            for metric, told in found["sides"]["all"]["metrics"].items():
                if metric.startswith("token_error_rate"):
                    before = found["sides"]["all"]["metrics"].get(f"noisy_{metric}")
                    noisy = "" if before is None else f"{before['value']:.3f}"
                    rows.append([corpus, name, metric.removeprefix("token_error_rate").strip("_") or "all", noisy,
                                 f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})"])  # fmt: skip
    return table(("corpus", "set", "layer", "noisy tokens", "what is said"), rows)


def speech_table(folder: Path, corpus: str) -> str:
    """Give what judges say."""
    found = json.loads((folder / f"{corpus}_judged" / "metrics.json").read_text())
    rows = []
    for told in found["conditions"]:
        cells = [told["figures"][measure]["interval"] for measure in MEASURES]
        rows.append([told["condition"], *("" if cell is None else f"{cell['value']:.3f}" for cell in cells)])
    return table((corpus, *MEASURES), rows)


def main() -> None:
    """Prepare, train, speak, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--vocoder-steps", type=int, default=8000)
    parser.add_argument("--encoder", default="encoder-small")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), help="what is trained")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="token errors, and speech judged")
    given = parser.parse_args()
    folder = given.output
    prepare(given.data, folder, given.encoder, given.passes)
    for name in given.runs:
        train(folder, name, given.steps)
    told = [token_table(folder, given.runs)]
    if "speech" in given.parts:
        job("train_vocoder", preset="vocoder_small", tokens=folder / "read" / "tokens", splits="train",
                manifest=folder / "read" / "manifest", output=folder / "vocoder", threads_per_worker=1,
                num_steps=given.vocoder_steps, discriminators_from=given.vocoder_steps, **HERE)  # fmt: skip
        for corpus in ("test", "bank"):
            speak(folder, corpus, given.runs)
            told.append(speech_table(folder, corpus))
    text = "\n\n".join(told)
    (folder / "enhancement.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
