"""How well a recogniser understands joined digits spoken by a vocoder of six voices, beside their originals.

    python -m bench.vocoder_digits --data DATA --output digits [--steps 2000]

DATA holds ``fsdd/recordings``. Takes 0 to 4 of each digit are the test, all others are trained on; takes of one speaker
are joined to utterances of four to seven digits, in training each three times. Tokens are those of encoder-small,
layers 2, 4 and 6, with the codebooks that ship. The vocoder has a table of the six speakers. Prints a table and writes
``digits.md``; goes on where it was.
"""

import argparse
import json
import re
from pathlib import Path

from bench.measuring import table
from bench.vocoder_study import LAYERS, job

TAKE = re.compile(r"(\d)_(\w+)_(\d+)")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = range(5)
MEASURES = ("stft_distance", "log_mel_distance", "f0_correlation", "stoi", "speaker_similarity", "wer")


def listing(data: Path, folder: Path, *, test: bool) -> Path:
    """List the takes of one side."""
    lines = []
    for path in sorted((data / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, take = TAKE.fullmatch(path.stem).groups()  # type: ignore[union-attr]
        if (int(take) in TEST_TAKES) == test:
            lines.append({"path": str(path), "utterance_id": path.stem, "speaker": speaker, "text": NAMES[int(digit)]})
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "takes.jsonl"
    found.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def prepare(data: Path, folder: Path, *, test: bool) -> None:
    """Make the manifest of joined digits of one side, and their tokens."""
    job("build_manifest", corpus=listing(data, folder, test=test), layout="listing", roots=data,
            output=folder / "takes")  # fmt: skip
    job("concatenate_corpus", manifest=folder / "takes", output=folder / "manifest", passes=1 if test else 3, seed=0)
    job("tokenize_corpus", manifest=folder / "manifest", encoder="encoder-small", layers=LAYERS,
            codebooks="encoder-small", num_clusters=500, output=folder / "tokens", runner="here")  # fmt: skip


def main() -> None:
    """Prepare, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    train, test = given.output / "train", given.output / "test"
    prepare(given.data, train, test=False)
    prepare(given.data, test, test=True)
    vocoder, judged = given.output / "vocoder", given.output / "judged"
    job("train_vocoder", preset="vocoder_small", tokens=train / "tokens", manifest=train / "manifest", output=vocoder,
            speaker_input="table", runner="here", threads_per_worker=1, num_steps=given.steps, warmup_steps=100,
            lr=2e-3, discriminators_from=given.steps, validate_every=500, checkpoint_every=500,
            test_fraction=0)  # fmt: skip
    job("evaluate", vocoder=vocoder, tokens=test / "tokens", manifest=test / "manifest", output=judged)
    rows = [
        [told["condition"], *(f"{told['figures'][each]['interval']['value']:.3f}" for each in MEASURES)]
        for told in json.loads((judged / "metrics.json").read_text())["conditions"]
    ]
    told = table(("from", *MEASURES), rows)
    (given.output / "digits.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
