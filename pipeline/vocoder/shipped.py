"""The vocoder that comes with Strata, so that tokens of the encoder that ships can be heard: its name and its folder.

``vocoder-small`` speaks tokens of ``encoder-small``, layers 2, 4 and 6, K = 500, of the codebooks that ship; its model
card is the README.md in its folder.
"""

from pathlib import Path

NAME = "vocoder-small"
FOLDER = Path(__file__).parents[1] / "assets" / NAME


def is_shipped(name: str) -> bool:
    """Say whether a name means what ships; a folder of that name in the working directory comes first."""
    return name == NAME and not Path(name).exists()


def vocoder_folder(uri: str) -> str:
    """Give the folder of the vocoder that ships for its name, and any other location as it is."""
    return str(FOLDER) if is_shipped(uri) else uri
