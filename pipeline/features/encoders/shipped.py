"""The encoder that comes with Strata, so that everything runs with nothing to download: its name and its folder.

``encoder-small`` is a HuBERT of 6 layers of width 192, trained by ``run_pretraining``; its model card is the README.md
in its folder, which also holds codebooks of some of its layers.
"""

from pathlib import Path

NAME = "encoder-small"
FOLDER = Path(__file__).parents[2] / "assets" / NAME
CODEBOOKS = "codebooks"
LAYERS = (2, 4, 6)
"""Layers that have codebooks there, and that a run takes where it names none."""
NUM_CLUSTERS = 500
"""K of the codebooks that a tokenizer of this name takes, and that the vocoder that ships speaks."""


def is_shipped(name: str) -> bool:
    """Say whether a name means what ships; a folder of that name in the working directory comes first."""
    return name == NAME and not Path(name).exists()


def codebooks_folder(uri: str) -> str:
    """Give the codebooks that ship for the shipped encoder's name, and any other location as it is."""
    return str(FOLDER / CODEBOOKS) if is_shipped(uri) else uri
