"""The flags of the probes."""

import argparse
from pathlib import Path

from bench.probes.running import FITTED_ON, NUM_CLUSTERS
from bench.probes.tasks import CORPUS_OF
from bench.small_corpus import DATA


def named_folder(text: str) -> tuple[str, str]:
    """Read ``NAME=DIR``."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name, folder


def at_least_one(text: str) -> int:
    """Read a whole number above 0."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """Describe the flags."""
    made = argparse.ArgumentParser(
        prog="python -m bench.probes", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--encoder", required=True, help="encoder folder in Hugging Face form")
    made.add_argument("--compare", nargs="+", type=named_folder, default=[], metavar="NAME=DIR", help="other encoders")
    made.add_argument("--layers", nargs="+", type=int, help="default: all")
    made.add_argument("--seeds", type=at_least_one, default=3, help="how many, from 0")
    made.add_argument("--random", action=argparse.BooleanOptionalAction, default=True, help="measure random encoders")
    made.add_argument("--tasks", nargs="+", choices=list(CORPUS_OF), default=list(CORPUS_OF))
    made.add_argument("--tokens", action=argparse.BooleanOptionalAction, default=True, help="measure tokens too")
    made.add_argument("--num-clusters", type=at_least_one, help=f"K; default: that of --codebooks, or {NUM_CLUSTERS}")
    made.add_argument("--fit-on", nargs="+", choices=FITTED_ON, default=list(FITTED_ON), help="corpora of codebooks")
    made.add_argument("--codebooks", help="codebooks dataset of fit_kmeans, for the encoder it was fitted on")
    made.add_argument("--data", type=Path, default=DATA, help="folder of the corpora")
    made.add_argument("--json", type=Path, help="also write the figures to this file")
    made.add_argument("--plot", type=Path, help="draw them by layer into this PNG")
    return made
