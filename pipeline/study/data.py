"""What the parts of a study were made of, as far as their keys do not hold it: recordings, and weights of encoders."""

from collections.abc import Mapping, Sequence

from pipeline.store.completion import Status
from pipeline.store.dataset import Dataset
from pipeline.study.planning.parts import Part

DATA = ("manifests", "features")
"""Kinds of parts of which there is something to say."""


def data_of(states: Sequence[tuple[Part, Status | None]]) -> Mapping[str, str]:
    """Say of manifests how many utterances they hold and how long, and of features the hash of the encoder's weights.

    Args:
        states: Parts that are there, and the state of each.

    Returns:
        By kind, name and key of the part.
    """
    found = {}
    for part, state in states:
        name = f"{part.kind} {part.name} {part.key}"
        if state is not None and part.kind == "manifests":
            found[name] = f"{state.rows} utterances of {state.seconds:.2f} s"
        elif part.kind == "features":
            found[name] = f"of encoder {str(Dataset.open(part.uri).plan.lineage['encoder_sha256'])[:12]}"
    return found
