"""Tokens by column laid side by side, as networks take them; what does not fit is refused in one sentence. No torch.

Letters: T frames, L layers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.fusion.spec import FuserSpec


def lay_tokens(tokens: Mapping[str, np.ndarray], spec: FuserSpec, heard: Sequence[str]) -> np.ndarray:
    """Lay tokens out in the order of a fuser's layers.

    Args:
        tokens: Integers (T,) by column; others than those heard are not looked at.
        spec: Of the fuser (L).
        heard: The columns to take, at least one; the others are 0.

    Returns:
        int64 (T, L).

    Raises:
        ValueError: Layers differ in length, or an id is none of its codebook's.
    """
    shapes = {column: np.asarray(tokens[column]).shape for column in heard}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        told = ", ".join(f"{column} {shape}" for column, shape in shapes.items())
        raise ValueError(f"each layer has one token per frame, so all have one shape (T,); got {told}")
    (num_frames,) = next(iter(shapes.values()))
    found = np.zeros((num_frames, len(spec.columns)), np.int64)
    for column in heard:
        ids, size = np.asarray(tokens[column]), spec.num_clusters[column]
        if ids.dtype.kind not in "iu":
            raise ValueError(f"tokens are integers, and those of {column} are {ids.dtype}")
        low, high = (int(ids.min()), int(ids.max())) if num_frames else (0, 0)
        if low < 0 or high >= size:
            raise ValueError(f"{column} has ids from 0 to {size - 1}, and was given {low if low < 0 else high}")
        found[:, spec.columns.index(column)] = ids
    return found
