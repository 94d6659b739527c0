"""Tasks whose label is one of the classes that training has: their targets, and how a label becomes a number."""

from collections.abc import Sequence

import torch

from pipeline.errors import DatasetError
from pipeline.training.recipe import Tensors

CLASSES = "classes"
"""Name of the right classes in a micro-batch, int64 (B,)."""
STRANGER = -1
"""Class of an utterance whose label is none of those of training."""


def class_tensors(labels: Sequence[str], classes: Sequence[str], what: str, *, strangers: bool = False) -> Tensors:
    """Give the classes of utterances as numbers: their places among all.

    Args:
        labels: Label of each utterance.
        classes: All classes, sorted.
        what: Column of the labels, for the message.
        strangers: Whether a label may be none of the classes; it then is ``STRANGER``.

    Raises:
        DatasetError: A label is none of the classes, and none may be.
    """
    places = {name: place for place, name in enumerate(classes)}
    if not strangers and (strange := sorted(set(labels) - set(places))):
        raise DatasetError(f"{what} {', '.join(strange)} is none of the {len(classes)} that training has")
    return {CLASSES: torch.tensor([places.get(label, STRANGER) for label in labels], dtype=torch.int64)}
