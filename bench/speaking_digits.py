"""How well joined digits that are spoken from text are understood, beside the same voices' recordings.

    python -m bench.speaking_digits --digits digits --output speaking_digits [--steps 1500]

``--digits`` is the folder of ``bench.vocoder_digits``: its training recordings, vocoder with a table of six speakers
and recogniser of digits are used here too. A text to speech with a table of the speakers is trained on the same
recordings, layers 2, 4 and 6, by attention and by ``concat``; it says the texts of the test, each by its speaker. What
is spoken is made into tokens again, and the recogniser hears those. Prints a table and writes
``speaking_digits.md``; goes on where it was.
"""

import argparse
import json
from pathlib import Path

from bench.measuring import table
from bench.vocoder_digits import TOKENS, listen
from bench.vocoder_study import job
from pipeline.audio.loading import Manifest

FUSIONS = ("attention", "concat")


def texts(manifest: Path, folder: Path) -> Path:
    """Write what is to be said, and who says it."""
    wanted = ["utterance_id", "text", "speaker"]
    lines = [row for _, rows in Manifest(str(manifest)).scan(wanted) for row in rows.select(wanted).to_pylist()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def main() -> None:
    """Train, speak, listen, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    train, test = given.digits / "train", given.digits / "test"
    recogniser, vocoder = given.digits / "recogniser", given.digits / "vocoder"
    said = texts(test / "manifest", given.output)
    of = {
        "recordings": (test / "manifest", test / "tokens", given.digits / "heard"),
        "vocoded recordings": (
            given.digits / "speech_all" / "_manifest",
            given.digits / "tokens_all",
            given.digits / "heard_all",
        ),
    }
    rows = [[name, *listen(recogniser, *places)] for name, places in of.items()]
    for fusion in FUSIONS:
        task, speech = given.output / f"tts_{fusion}", given.output / f"speech_{fusion}"
        job("train_task", preset="tts_small", output=task, tokens=train / "tokens", manifest=train / "manifest",
                fusion=fusion, speaker_input="table", num_steps=given.steps, test_fraction=0, runner="here",
                threads_per_worker=1)  # fmt: skip
        job("speak", text_file=said, task=task, vocoder=vocoder, output=speech, max_reject_fraction=1, runner="here")
        heard = given.output / f"tokens_{fusion}"
        job("tokenize_corpus", manifest=speech / "_manifest", output=heard, **TOKENS)
        said_by = given.output / f"heard_{fusion}"
        rows.append([f"from text, {fusion}", *listen(recogniser, speech / "_manifest", heard, said_by)])
    told = table(("what is heard", "wer", "digits"), rows)
    (given.output / "speaking_digits.md").write_text(told + "\n")
    print(told)


if __name__ == "__main__":
    main()
