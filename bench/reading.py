"""What reading costs: the headers of a folder of FLACs, as a manifest reads them, and the decoding of all of them.

    git worktree add ../before COMMIT
    python -m bench.reading --files 3000 --runs 3 --against ../before

makes the recordings, lets this checkout and the other take turns on them, and prints seconds and their ratio. Both use
``Decoder.probe`` and ``Decoder.decode`` in a process of their own, whose start is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
_READ = """
import json, sys, time
from pathlib import Path
from pipeline.audio.decode import Decoder
paths = [str(path) for path in sorted(Path(sys.argv[1]).rglob("*.flac"))]
with Decoder(sample_rate=16_000) as decoder:
    decoder.probe(paths[0])
    began = time.perf_counter()
    lengths = [decoder.probe(path).num_samples for path in paths]
    probed = time.perf_counter()
    for path, count in zip(paths, lengths):
        place = dict(offset_samples=0, num_samples=count, sample_rate=16_000, channel=None)
        decoder.decode(path, **place, utterance_id=path)
    print(json.dumps([probed - began, time.perf_counter() - probed]))
"""


def make_corpus(folder: Path, num_files: int) -> None:
    """Write recordings of 2 to 16 s, as long as those of LibriSpeech, in folders of 100."""
    rng = np.random.default_rng(0)
    for number in range(num_files):
        count = int(rng.integers(2 * RATE, 16 * RATE))
        voice = np.sin(np.cumsum(rng.normal(0.08, 0.02, count))) * np.abs(np.sin(np.arange(count) / 3000))
        path = folder / f"{number // 100:03d}" / f"{number:05d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * voice + 0.003 * rng.standard_normal(count), RATE)


def measure(checkout: Path, corpus: Path) -> tuple[float, float]:
    """Time the headers and the decoding of a corpus with the code of a checkout; seconds of each."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _READ, str(corpus)]
    run = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    headers, decoding = json.loads(run.stdout)
    return headers, decoding


def main() -> None:
    """Measure, and print a line for each run and one for the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", type=Path, required=True)
    given = parser.parse_args()
    checkouts = {"here": ROOT, "against": given.against.resolve()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder), given.files)
        for run in range(given.runs):
            # Each goes first in turn, so that neither always meets the files in the page cache of the other.
            for name in sorted(checkouts, reverse=bool(run % 2)):
                found[name].append(measure(checkouts[name], Path(folder)))
                headers, decoding = found[name][-1]
                print(f"run {run + 1} {name:8} headers {headers:6.2f} s, decoding {decoding:6.2f} s", flush=True)
    totals = {name: statistics.median(sum(times) for times in runs) for name, runs in found.items()}
    print(f"medians: here {totals['here']:.2f} s, against {totals['against']:.2f} s", end=", ")
    print(f"ratio {totals['here'] / totals['against']:.3f} for {given.files} files")


if __name__ == "__main__":
    main()
