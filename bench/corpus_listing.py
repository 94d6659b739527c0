"""How fast manifests become candidates, and in how much memory, beside lhotse's lazy reading of the same files.

    python -m bench.corpus_listing [--rows 10000 100000] [--pairs 3] [--forms listing cuts nemo] [--json FILE]

Rows of three forms are made in a temporary folder: a listing of ours as JSON lines, a CutSet as lhotse writes it, and
lines of a plain NeMo manifest. Each is read to its end in a child of its own, by turns: ours with ``read_corpus``,
which gives a checked candidate for each row; lhotse's with what its users iterate. That is ``CutSet.from_jsonl_lazy``
for cuts; for NeMo's lines the cut of a recording and a supervision of each line, made as NeMo's own adapter makes them
with the sampling rate given; for a listing, which lhotse does not know, its ``LazyJsonlIterator``: dictionaries alone.

Rows per second are of CPU time, so that what else runs on the machine counts little; medians of the pairs. Memory is
the peak of resident memory behind the imports, less what was resident then.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.measuring import peak_bytes, restart_peak, run_child, table, write_json

FORMS = {"listing": "listing", "cuts": "lhotse", "nemo": "listing"}
"""The forms, and the layout that reads each."""

READERS = ("strata", "lhotse")
RATE = 16_000


def make(form: str, rows: int, folder: Path) -> Path:
    """Write a file of so many rows."""
    path = folder / f"{form}-{rows}.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            file.write(json.dumps(_row(form, number)) + "\n")
    return path


def _row(form: str, number: int) -> dict[str, Any]:
    name = f"speaker-{number % 997:03d}/chapter-{number % 8117:04d}/utterance-{number:08d}"
    audio, seconds = f"audio/{name}.flac", 2 + number % 1000 / 100
    text = " ".join(["THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG"] * (1 + number % 3))
    speaker = f"{number % 997}"
    if form == "listing":
        row = {"utterance_id": name, "uri": audio, "offset": 1.5, "duration": seconds, "text": text}
        return {**row, "speaker": speaker, "language": "en", "split": "train"}
    if form == "nemo":
        row = {"audio_filepath": audio, "offset": 1.5, "duration": seconds, "text": text, "lang": "en"}
        return {**row, "speaker": speaker, "sampling_rate": RATE}
    source = {"type": "file", "channels": [0], "source": audio}
    recording = {"id": f"{name}-r", "sources": [source], "sampling_rate": RATE, "num_samples": 20 * RATE}
    recording |= {"duration": 20.0, "channel_ids": [0]}
    told = {"id": f"{name}-s", "recording_id": f"{name}-r", "start": 0.0, "duration": seconds, "channel": 0}
    told |= {"text": text, "language": "en", "speaker": speaker}
    cut = {"id": name, "start": 1.5, "duration": seconds, "channel": 0, "supervisions": [told]}
    return {**cut, "recording": recording, "type": "MonoCut"}


def read(form: str, reader: str, path: Path) -> Iterator[Any]:
    """Give what a reader makes of a file; what it needs is imported when this returns."""
    if reader == "strata":
        from pipeline.audio.corpora import read_corpus
        from pipeline.passed_over import PassedOver

        return read_corpus(str(path), FORMS[form], passed_over=PassedOver())
    import lhotse  # type: ignore[import-untyped]
    from lhotse.lazy import LazyJsonlIterator  # type: ignore[import-untyped]

    if form == "cuts":
        return iter(lhotse.CutSet.from_jsonl_lazy(path))
    lines = LazyJsonlIterator(path)
    return iter(lines) if form == "listing" else _cuts_of(lines)


def _cuts_of(lines: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """Make cuts of NeMo's lines."""
    from lhotse import AudioSource, Recording, SupervisionSegment
    from lhotse.utils import compute_num_samples  # type: ignore[import-untyped]

    for line in lines:
        path, duration, offset = line.pop("audio_filepath"), line.pop("duration"), line.pop("offset")
        rate = line.pop("sampling_rate")
        source = AudioSource(type="file", channels=[0], source=path)
        length = offset + duration
        samples = compute_num_samples(length, rate)
        recording = Recording(id=path, sources=[source], sampling_rate=rate, num_samples=samples, duration=length)
        cut = recording.to_cut().truncate(offset=offset, duration=duration, preserve_id=True)
        told = {"text": line.get("text"), "language": line.get("lang")}
        cut.supervisions.append(SupervisionSegment(cut.id, cut.recording_id, 0, cut.duration, **told))
        cut.custom = line
        yield cut


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Read a file to its end: rows, CPU seconds, and bytes of memory behind the imports."""
    form, reader, path = case["form"], case["reader"], Path(case["path"])
    # The first rows import what is imported late, and fill caches of both.
    for _ in itertools.islice(read(form, reader, path), 100):
        pass
    items = read(form, reader, path)
    before = restart_peak()
    start = time.process_time()
    rows = sum(1 for _ in items)
    seconds = time.process_time() - start
    return {"rows": rows, "seconds": seconds, "bytes": max(0, peak_bytes() - before)}


def compare(form: str, rows: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Read a file of so many rows by both readers in turns."""
    path = make(form, rows, folder)
    found: dict[str, list[dict[str, Any]]] = {reader: [] for reader in READERS}
    for _ in range(pairs):
        for reader in READERS:
            run = run_child("bench.corpus_listing", {"form": form, "reader": reader, "path": str(path)})
            if run["rows"] != rows:
                raise RuntimeError(f"{reader} read {run['rows']} of {rows} rows")
            found[reader].append(run)
    size = path.stat().st_size
    path.unlink()
    return {"form": form, "rows": rows, "file_bytes": size, **found}


def line(found: dict[str, Any]) -> list[str]:
    """Lay the figures of a comparison out: rows per second of each, their ratio, and memory."""
    speeds = {reader: statistics.median(found["rows"] / run["seconds"] for run in found[reader]) for reader in READERS}
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(*map(found.get, READERS), strict=True)]
    memory = {reader: max(run["bytes"] for run in found[reader]) for reader in READERS}
    return [
        found["form"],
        f"{found['rows']:,}",
        f"{found['file_bytes'] / found['rows']:.0f}",
        *(f"{speeds[reader]:,.0f}" for reader in READERS),
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        *(f"{memory[reader] / 1e6:.1f} MB" for reader in READERS),
    ]


def main() -> None:
    """Measure, and print a table."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=tuple(FORMS), default=list(FORMS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runs = [compare(form, rows, given.pairs, Path(name)) for rows in given.rows for form in given.forms]
    header = ["form", "rows", "bytes a row", "strata, rows/s", "lhotse, rows/s", "strata / lhotse", *READERS]
    print(table(header, [line(run) for run in runs]))
    write_json(given.json, {"runs": runs})


if __name__ == "__main__":
    main()
