"""The CTC loss, finite whatever the transcripts.

An utterance of fewer frames than its transcript needs (its symbols, and a blank between two alike) has no alignment:
its probability is 0. In training it is counted and adds nothing, neither loss nor gradient; in evaluation it is decoded
and counts like any other. An empty transcript is allowed: its only alignment is all blanks.

Source: Graves et al. 2006, Connectionist temporal classification.

Letters: B batch, T frames, U symbols of a transcript, V symbols with the blank.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import ctc_loss

BLANK = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class CtcCounts:
    """What a micro-batch can learn from; scalars.

    Attributes:
        utterances: Those with an alignment.
        symbols: Symbols of their transcripts.
        too_short: Utterances without an alignment.
    """

    utterances: torch.Tensor
    symbols: torch.Tensor
    too_short: torch.Tensor


def frames_needed(targets: torch.Tensor, target_lengths: torch.Tensor) -> torch.Tensor:
    """Give the frames without which a transcript has no alignment, int64 (B,).

    Args:
        targets: int64 (B, U).
        target_lengths: int64 (B,).
    """
    places = torch.arange(1, targets.shape[1], device=targets.device)
    repeats = (targets[:, 1:] == targets[:, :-1]) & (places < target_lengths.unsqueeze(1))
    return target_lengths + repeats.sum(dim=1)


def ctc_counts(lengths: torch.Tensor, targets: torch.Tensor, target_lengths: torch.Tensor) -> CtcCounts:
    """Count what there is to learn from, without a network.

    Args:
        lengths: Frames of each utterance, int64 (B,).
        targets: int64 (B, U), no blanks before ``target_lengths``.
        target_lengths: int64 (B,).
    """
    fits = lengths >= frames_needed(targets, target_lengths)
    return CtcCounts(utterances=fits.sum(), symbols=(target_lengths * fits).sum(), too_short=(~fits).sum())


def ctc_losses(
    log_probs: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, target_lengths: torch.Tensor
) -> torch.Tensor:
    """Give each utterance's negative log-likelihood in nats, float32 (B,); 0 for one without an alignment.

    Args:
        log_probs: float32 (B, T, V), symbol 0 the blank.
        lengths: Frames of each utterance, int64 (B,).
        targets: int64 (B, U), no blanks before ``target_lengths``.
        target_lengths: int64 (B,).
    """
    fits = lengths >= frames_needed(targets, target_lengths)
    losses = ctc_loss(
        log_probs.transpose(0, 1).masked_fill(~fits[None, :, None], 0.0),
        targets,
        lengths,
        # Where there is no alignment, an empty transcript stands in, whose loss is finite and is then left out.
        target_lengths * fits,
        blank=BLANK,
        reduction="none",
    )
    return losses * fits
