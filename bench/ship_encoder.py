"""Puts a trained encoder and its codebooks, with their cards, where they ship from.

    python -m bench.ship_encoder --encoder out/iteration_2/encoder --codebooks out/codebooks

Codebooks whose lineage names another encoder are refused. The model card, README.md, is a person's to write and stays.
"""

import argparse
import shutil
import sys
from pathlib import Path

from pipeline.features.encoders.files import folder_files
from pipeline.features.encoders.info import describe
from pipeline.features.encoders.shipped import CODEBOOKS, FOLDER
from pipeline.kmeans.read_codebooks import read_units
from pipeline.store.dataset import Dataset

_NOT_SHIPPED = ("_config.json", "_report.json", "_probe")
"""Files that name folders of the machine on which the codebooks were made."""


def ship(encoder: Path, codebooks: Path, target: Path = FOLDER) -> list[Path]:
    """Copy an encoder and its codebooks.

    Args:
        encoder: Folder of ``pretrain_encoder``.
        codebooks: Codebooks dataset, with cards.
        target: Where it ships from; what was there is replaced, but the model card.

    Returns:
        The files that were written.
    """
    weights = describe(str(encoder)).weights_sha256
    books = read_units(Dataset.open(str(codebooks), kind="codebooks"))
    if wrong := [name for name, book in books.items() if book.encoder != weights]:
        raise SystemExit(f"error: {', '.join(wrong)} of {codebooks} were fitted on another encoder than {encoder}")
    if absent := [name for name in books if not (codebooks / "_cards" / f"{name}.json").is_file()]:
        raise SystemExit(f"error: {', '.join(absent)} have no cards; run describe_codebooks")
    target.mkdir(parents=True, exist_ok=True)
    for path in folder_files(encoder):
        shutil.copyfile(path, target / path.name)
    shutil.rmtree(target / CODEBOOKS, ignore_errors=True)
    shutil.copytree(codebooks, target / CODEBOOKS, ignore=shutil.ignore_patterns(*_NOT_SHIPPED))
    return sorted(path for path in target.rglob("*") if path.is_file())


def main() -> None:
    """Copy, and list what ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of pretrain_encoder")
    parser.add_argument("--codebooks", type=Path, required=True, help="its codebooks, with cards")
    given = parser.parse_args()
    for path in ship(given.encoder, given.codebooks):
        print(f"{path.stat().st_size:>9,} {path.relative_to(FOLDER)}", file=sys.stderr)


if __name__ == "__main__":
    main()
