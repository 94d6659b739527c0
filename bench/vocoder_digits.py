"""How well joined digits that a vocoder of six voices speaks are understood, beside their originals.

    python -m bench.vocoder_digits --data DATA --output digits [--steps 2000]

DATA holds ``fsdd/recordings``. Takes 0 to 4 of each digit are the test, all others are trained on; takes of one speaker
are joined to utterances of four to seven digits, in training each three times. Tokens are those of encoder-small,
layers 2, 4 and 6, with the codebooks that ship. The vocoder has a table of the six speakers. Who listens is a
recogniser of digits, trained on the tokens of the same recordings: what is spoken is made into tokens again. A general
recogniser understands nothing of such recordings, originals included. Its errors are counted in words, and in digits
wherever it put spaces (``bench/heard_digits.py``). Prints a table and writes ``digits.md``; goes on where it was.
"""

import argparse
import json
import re
from pathlib import Path

from bench.heard_digits import error_rates
from bench.measuring import table
from bench.vocoder_study import LAYERS, job

TAKE = re.compile(r"(\d)_(\w+)_(\d+)")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = range(5)
SETS = {"all": LAYERS, **{f"layer_{layer:02d}": (layer,) for layer in LAYERS}}
"""Layers to speak from."""
TOKENS = {"encoder": "encoder-small", "layers": LAYERS, "codebooks": "encoder-small", "num_clusters": 500,
          "runner": "here"}  # fmt: skip


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
    job("tokenize_corpus", manifest=folder / "manifest", output=folder / "tokens", **TOKENS)


def listen(recogniser: Path, manifest: Path, tokens: Path, output: Path) -> tuple[str, str]:
    """Let the recogniser hear tokens; give its error rates in words and in digits, with their intervals."""
    job("evaluate", model=recogniser, manifest=manifest, tokens=tokens, sides="all", examples=0, output=output)
    return error_rates(output)


def main() -> None:
    """Prepare, train, speak, listen, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    train, test = given.output / "train", given.output / "test"
    prepare(given.data, train, test=False)
    prepare(given.data, test, test=True)
    vocoder, recogniser = given.output / "vocoder", given.output / "recogniser"
    of_train = {"tokens": train / "tokens", "manifest": train / "manifest"}
    job("train_task", preset="asr_small", output=recogniser, runner="here", threads_per_worker=1, **of_train)
    job("train_vocoder", preset="vocoder_small", output=vocoder, speaker_input="table", runner="here",
            threads_per_worker=1, num_steps=given.steps, discriminators_from=given.steps, validate_every=500,
            checkpoint_every=500, test_fraction=0, **of_train)  # fmt: skip
    rows = [["original", *listen(recogniser, test / "manifest", test / "tokens", given.output / "heard")]]
    for name, layers in SETS.items():
        speech, tokens = given.output / f"speech_{name}", given.output / f"tokens_{name}"
        job("synthesize", tokens=test / "tokens", manifest=test / "manifest", vocoder=vocoder, layers=layers,
                output=speech, runner="here")  # fmt: skip
        job("tokenize_corpus", manifest=speech / "_manifest", output=tokens, **TOKENS)
        heard = given.output / f"heard_{name}"
        rows.append([name, *listen(recogniser, speech / "_manifest", tokens, heard)])
    told = table(("from", "wer", "digits"), rows)
    (given.output / "digits.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
