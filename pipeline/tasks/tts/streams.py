"""The order in which the layers of a frame are written: all in one step, or layer l in the l-th step after the first.

    parallel   a0 a1 a2          delay   a0 a1 a2 --
               b0 b1 b2                  -- b0 b1 b2

Where a layer has no token (--), it is absent: the fuser gives it no weight, and no loss asks for it. The export writes
an id of its own there, which a language model reads; an absent layer needs none.

Source: J. Copet et al. 2023, MusicGen, arXiv 2306.05284, section 2.2.

Letters: B batch, T frames, S steps, L layers.
"""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.batches.collate import pad_rows
from pipeline.export.ids.patterns import delay
from pipeline.tasks.source import FRAMES, PRESENT
from pipeline.tasks.tts.settings import StreamPattern
from pipeline.training.recipe import Tensors


def delays_of(pattern: StreamPattern, num_layers: int) -> tuple[int, ...]:
    """Say how many steps later than its frame each layer is written."""
    return tuple(range(num_layers)) if pattern == "delay" else num_layers * (0,)


def laid(rows: Sequence[np.ndarray], delays: Sequence[int]) -> Tensors:
    """Lay tokens (T, L) side by side in the order of writing.

    Returns:
        ``frames`` int64 (B, S, L), ``frames_lengths`` int64 (B,) and ``frames_mask`` bool (B, S), of steps; with delays
        ``frames_present`` bool (B, S, L).
    """
    if not any(delays):
        return pad_rows(rows).tensors(FRAMES)
    found = pad_rows([delay(row, delays, 0) for row in rows]).tensors(FRAMES)
    lengths = torch.tensor([len(row) for row in rows])
    steps = torch.arange(found[FRAMES].shape[1])[:, None] - torch.tensor(delays)
    return found | {PRESENT: (steps >= 0) & (steps < lengths[:, None, None])}


def present_of(batch: Tensors) -> torch.Tensor:
    """Say which layers have a token in which steps: bool (B, S, L)."""
    if PRESENT in batch:
        return batch[PRESENT]
    return batch[f"{FRAMES}_mask"].unsqueeze(-1).expand(batch[FRAMES].shape)
