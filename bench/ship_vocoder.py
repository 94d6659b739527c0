"""Puts a trained vocoder where it ships from.

    python -m bench.ship_vocoder --vocoder study/scalable_0

One that was trained on other codebooks than those that ship, or whose weights are above 8 MB, is refused. The model
card, README.md, is a person's to write and stays.
"""

import argparse
import shutil
import sys
from pathlib import Path

from pipeline.features.encoders.info import describe
from pipeline.features.encoders.shipped import NAME
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.vocoder.saved import CONFIG, WEIGHTS, load_vocoder, read_spec
from pipeline.vocoder.shipped import FOLDER

MOST_BYTES = 8_000_000


def ship(vocoder: Path, target: Path = FOLDER) -> list[Path]:
    """Copy a vocoder.

    Args:
        vocoder: Folder of ``train_vocoder``.
        target: Where it ships from; what was there is replaced, but the model card.

    Returns:
        The files that were written.
    """
    spec = read_spec(str(vocoder)).spec
    books = {
        book.column: book.sha256 for book in read_codebooks(NAME, num_clusters=max(spec.fuser.num_clusters.values()))
    }
    spec.check_tokens({"encoder_sha256": describe(NAME).weights_sha256, "codebooks": books})
    load_vocoder(str(vocoder))
    if (size := (vocoder / WEIGHTS).stat().st_size) > MOST_BYTES:
        raise SystemExit(f"error: {vocoder / WEIGHTS} has {size:,} bytes; at most {MOST_BYTES:,} ship")
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, CONFIG):
        shutil.copyfile(vocoder / name, target / name)
    return sorted(path for path in target.iterdir() if path.is_file())


def main() -> None:
    """Copy, and list what ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--vocoder", type=Path, required=True, help="folder of train_vocoder")
    given = parser.parse_args()
    for path in ship(given.vocoder):
        print(f"{path.stat().st_size:>9,} {path.relative_to(FOLDER)}", file=sys.stderr)


if __name__ == "__main__":
    main()
