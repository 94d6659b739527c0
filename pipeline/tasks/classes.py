"""Tasks whose label is one of the classes that training has: their targets, and how a label becomes a number."""

from collections.abc import Sequence

import torch

from pipeline.errors import DatasetError
from pipeline.training.recipe import Tensors

CLASSES = "classes"
"""Name of the right classes in a micro-batch, int64 (B,)."""


def class_tensors(labels: Sequence[str], classes: Sequence[str], what: str) -> Tensors:
    """Give the classes of utterances as numbers: their places among all.

    Args:
        labels: Label of each utterance.
        classes: All classes, sorted.
        what: Column of the labels, for the message.

    Raises:
        DatasetError: A label is none of the classes.
    """
    places = {name: place for place, name in enumerate(classes)}
    if strange := sorted(set(labels) - set(places)):
        raise DatasetError(f"{what} {', '.join(strange)} is none of the {len(classes)} that training has")
    return {CLASSES: torch.tensor([places[label] for label in labels], dtype=torch.int64)}
