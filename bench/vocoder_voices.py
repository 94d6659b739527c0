"""A vocoder of many voices beside one of a single voice: speaker vectors, more speech, the same held-out sentences.

    python -m bench.vocoder_voices --data DATA --study study --output voices [--steps 4000]

``--study`` is the folder of ``bench.vocoder_study``. The vocoder of many voices is trained on the same sentences of
slt, on bdl, and on 251 speakers of LibriSpeech, 108 minutes in all, with a vector of each recording's speaker.
Sentences of bdl that slt says in the test are left out. It is judged on what it held out, which of slt is what the
study held out too: ``comparison.md`` has the differences over those. Goes on where it was.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.study_corpora import read_speech
from bench.vocoder_study import LAYERS, job
from pipeline.batches.sides import share

HELD_OUT = 0.07
"""Share of the utterances that the study's trainings hold out, to validate and to test."""


def lines(data: Path) -> Iterator[dict[str, Any]]:
    """Give the recordings; those of slt by the names that the study has for them."""
    for told in read_speech(data):
        voice, _, sentence = told["utterance_id"].partition("-")
        if voice == "slt":
            told["utterance_id"] = sentence
        elif voice == "bdl" and share(0, sentence) < HELD_OUT:
            continue
        yield {name: told[name] for name in ("path", "utterance_id", "speaker", "text")}


def main() -> None:
    """Prepare, train, judge, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    given = parser.parse_args()
    folder = given.output
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "voices.jsonl"
    listing.write_text("".join(json.dumps(line) + "\n" for line in lines(given.data)))
    inputs = {"tokens": folder / "tokens", "manifest": folder / "manifest"}
    job("build_manifest", corpus=listing, layout="listing", roots=given.data, output=folder / "manifest")
    job("tokenize_corpus", manifest=folder / "manifest", encoder="encoder-small", layers=LAYERS,
            codebooks="encoder-small", num_clusters=500, output=folder / "tokens", runner="here")  # fmt: skip
    job("train_vocoder", preset="vocoder_small", output=folder / "vocoder", runner="here", threads_per_worker=1,
            speaker_input="vector", num_steps=given.steps, warmup_steps=100, lr=2e-3, discriminators_from=given.steps,
            validate_every=500, checkpoint_every=250, log_every=250, **inputs)  # fmt: skip
    job("evaluate", vocoder=folder / "vocoder", output=folder / "judged", num_utterances=200, **inputs)
    job("evaluate", compare=(folder / "judged", given.study / "scalable_0_judged"), output=folder)
    print((folder / "comparison.md").read_text())


if __name__ == "__main__":
    main()
