"""Spans of frames to mask, as in wav2vec 2.0 and HuBERT.

Source: Baevski et al. 2020, wav2vec 2.0, section 3.1; Hsu et al. 2021, HuBERT, section II-B: starts are drawn without
replacement, each masks the following frames, and spans may overlap.
"""

import numpy as np


def span_mask(num_frames: int, *, probability: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """Choose the frames to mask.

    A crop shorter than two spans gets spans of half its length, so that something is left to predict from.

    Args:
        num_frames: Frames of the crop (T), at least 2.
        probability: Frames covered if no spans overlapped, as a share of all: the number of spans is this share of the
            crop in spans, rounded up or down at random, and at least 1.
        length: Frames of a span.
        rng: Where the choice comes from.

    Returns:
        bool (T,), True where masked: at least one frame, and not all.
    """
    length = min(length, max(1, num_frames // 2))
    starts = num_frames - length + 1
    count = min(max(1, int(probability * num_frames / length + rng.random())), starts)
    mask = np.zeros(num_frames, dtype=bool)
    for start in rng.choice(starts, count, replace=False):
        mask[start : start + length] = True
    if mask.all():
        mask[rng.integers(num_frames)] = False
    return mask
