"""Durations: how many frames each run of equal tokens lasted, which deduplicated tokens do not say.

Source: the duration predictor of Ren et al., "FastSpeech: Fast, Robust and Controllable Text to Speech", NeurIPS 2019,
section 3.3, on log durations. Letters: B batch, U runs, T frames, L layers, H width of a fused frame, C channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline.vocoder.generators.masking import silenced

_KERNEL = 3
CONTEXT_RUNS = 2 * (_KERNEL // 2)
"""Runs to each side that a duration may depend on."""


class DurationPredictor(torch.nn.Module):
    """Two convolutions over runs, each with a layer norm and dropout, and a linear map.

    Args:
        dim: Width of a fused frame (H).
        channels: C.
        dropout: Share of activations set to 0.
    """

    def __init__(self, dim: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv1d(width, channels, _KERNEL, padding=_KERNEL // 2) for width in (dim, channels)
        )
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(channels) for _ in self.convs)
        self.dropout = torch.nn.Dropout(dropout)
        self.last = torch.nn.Linear(channels, 1)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Predict the log of each duration in frames.

        Args:
            frames: (B, U, H), 0 in padding; what learns here does not reach them.
            mask: bool (B, U), True in real runs; None where all are.

        Returns:
            float (B, U), 0 in padding.
        """
        values = frames.detach().transpose(1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            values = self.dropout(norm(F.relu(conv(values)).transpose(1, 2))).transpose(1, 2)
            values = silenced(values, mask)
        return silenced(self.last(values.transpose(1, 2)).transpose(1, 2), mask).squeeze(1)


def duration_loss(log_durations: torch.Tensor, durations: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give the mean squared error of log durations over real runs.

    Args:
        log_durations: float (B, U), predicted.
        durations: Integers (B, U), at least 1 in real runs.
        mask: bool (B, U), True in real runs.
    """
    wanted = torch.where(mask, durations, 1).float().log()
    errors = (log_durations.float() - wanted).square().masked_fill(~mask, 0.0)
    return errors.sum() / mask.sum().clamp(min=1)


def whole_durations(log_durations: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Round predicted durations to frames: int64 (B, U), at least 1 in real runs and 0 in padding."""
    return log_durations.float().exp().round().clamp(min=1).long().masked_fill(~mask, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Runs of frames in which no layer's token changes.

    Attributes:
        tokens: int64 (B, U, L), 0 in padding.
        durations: int64 (B, U), frames; 0 in padding.
        mask: bool (B, U), True in real runs.
    """

    tokens: torch.Tensor
    durations: torch.Tensor
    mask: torch.Tensor


def runs_of(tokens: torch.Tensor, mask: torch.Tensor, present: torch.Tensor | None = None) -> Runs:
    """Deduplicate: a run ends where the token of a present layer changes.

    Args:
        tokens: Integers (B, T, L).
        mask: bool (B, T), True in real frames, which stand before padding.
        present: bool (L,) or (B, L), the layers that are there; None: all.
    """
    heard = torch.ones_like(tokens, dtype=torch.bool)
    if present is not None:
        heard = present.expand(len(tokens), -1).unsqueeze(1).expand(tokens.shape)
    begins = ((tokens[:, 1:] != tokens[:, :-1]) & heard[:, 1:]).any(dim=2)
    begins = torch.nn.functional.pad(begins, (1, 0), value=True) & mask
    rows, lasts = [], []
    for row, begin, real in zip(tokens, begins, mask, strict=True):
        starts = begin.nonzero().flatten()
        rows.append(row[starts].long())
        lasts.append(torch.diff(starts, append=real.sum().reshape(1)))
    durations = torch.nn.utils.rnn.pad_sequence(lasts, batch_first=True)
    found = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return Runs(tokens=found, durations=durations, mask=durations > 0)


def expand(tokens: torch.Tensor, durations: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Repeat each run for as many frames as it lasts.

    Args:
        tokens: Integers (B, U, L).
        durations: Integers (B, U), at least 1 in real runs.
        mask: bool (B, U), True in real runs.

    Returns:
        The tokens of every frame (B, T, L), 0 in padding, and the mask of frames, bool (B, T).

    Raises:
        ValueError: A real run lasts less than one frame.
    """
    if bool((mask & (durations < 1)).any()):
        raise ValueError("a run of tokens lasts less than one frame")
    rows = [
        row[real].repeat_interleave(lasts[real], dim=0)
        for row, real, lasts in zip(tokens, mask, durations, strict=True)
    ]
    expanded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=tokens.device)
    return expanded, torch.arange(expanded.shape[1], device=tokens.device) < lengths[:, None]
