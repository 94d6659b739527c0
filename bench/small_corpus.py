"""The recordings that the encoder which ships was trained on, and those that were kept from it.

    python jobs/synthesize_corpus.py --num-utterances 900 --num-voices 225 --output synthetic
    python -m bench.small_corpus --synthetic synthetic --output training.jsonl
    python -m bench.small_corpus --kept-out --output kept_out.jsonl

write listings of both, for the ``listing`` layout. Kept out are 40 speakers of LibriSpeech, takes
0 to 4 of every digit of FSDD, and all of one speaker of FSDD: what probes are measured on (``bench/probes.py``).
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STRATA_TEST_DATA", ROOT / "../shared/data")).resolve()

KEPT_OUT_TAKES = 5
"""Takes of FSDD below this number are its test set."""
KEPT_OUT_DIGIT_SPEAKER = "theo"
KEPT_OUT_READERS = 40
"""Speakers of LibriSpeech: every sixth of their sorted numbers, the first 40 of those."""
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file of the corpora, with what its name tells.

    Attributes:
        path: The file.
        corpus: ``librispeech`` or ``fsdd``.
        speaker: Number or name.
        digit: What FSDD's speaker says, 0 to 9; None elsewhere.
        take: Which repetition; None elsewhere.
    """

    path: Path
    corpus: str
    speaker: str
    digit: int | None = None
    take: int | None = None


def readers(data: Path = DATA) -> list[Recording]:
    """List the utterances of LibriSpeech, sorted by name."""
    paths = sorted((data / "LibriSpeech").rglob("*.flac"), key=lambda path: path.name)
    return [Recording(path=path, corpus="librispeech", speaker=path.name.split("-")[0]) for path in paths]


def digits(data: Path = DATA) -> list[Recording]:
    """List the spoken digits of FSDD, sorted by name."""
    found = []
    for path in sorted((data / "fsdd" / "recordings").glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        found.append(Recording(path=path, corpus="fsdd", speaker=speaker, digit=int(digit), take=int(take)))
    return found


def kept_out_readers(recordings: list[Recording]) -> set[str]:
    """Name the speakers of LibriSpeech that training never hears."""
    speakers = sorted({recording.speaker for recording in recordings})
    return set(speakers[::6][:KEPT_OUT_READERS])


def is_kept_out(recording: Recording, readers_kept_out: set[str]) -> bool:
    """Say whether training never hears a recording."""
    if recording.take is None:
        return recording.speaker in readers_kept_out
    return recording.take < KEPT_OUT_TAKES or recording.speaker == KEPT_OUT_DIGIT_SPEAKER


def chosen(*, kept_out: bool, data: Path = DATA) -> list[Recording]:
    """Give what the encoder is trained on, or what is kept from it, in a stable order."""
    read = readers(data)
    apart = kept_out_readers(read)
    return [found for found in read + digits(data) if is_kept_out(found, apart) == kept_out]


def row(recording: Recording) -> dict[str, str]:
    """Give the row of a listing."""
    found = {"audio_filepath": str(recording.path), "id": recording.path.stem}
    found["speaker"] = f"{recording.corpus}-{recording.speaker}"
    return found if recording.digit is None else found | {"text": NAMES[recording.digit]}


def synthetic_rows(folder: Path) -> list[dict[str, str]]:
    """Give the rows of a synthetic corpus."""
    listed = [json.loads(line) for line in (folder / "listing.jsonl").read_text().splitlines()]
    return [
        {"audio_filepath": str((folder / found["uri"]).resolve()), "id": found["utterance_id"]}
        | {"speaker": found["speaker"], "text": found["text"]}
        for found in listed
    ]


def main() -> None:
    """Write the listing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, required=True, help="listing to write, ending in .jsonl")
    parser.add_argument("--kept-out", action="store_true", help="list what is kept from training instead")
    parser.add_argument("--synthetic", type=Path, help="folder of synthesize_corpus, whose voices are added")
    given = parser.parse_args()
    output: Path = given.output
    rows = [row(found) for found in chosen(kept_out=given.kept_out)]
    if rows and given.synthetic is not None:
        rows += synthetic_rows(given.synthetic)
    if not rows:
        sys.exit(f"error: no recordings under {DATA}; set STRATA_TEST_DATA to the folder of the corpora")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    print(json.dumps({"listing": str(output), "recordings": len(rows)}))


if __name__ == "__main__":
    main()
