"""The losses of text to speech: of the tokens, of the stop decision, and of an attention that leaves the diagonal.

Each is a sum over frames, so that a frame weighs the same wherever it was computed.

Letters: B batch, S steps, L layers, K clusters, N symbols of a text.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def token_losses(logits: Sequence[torch.Tensor], tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Give the cross-entropy of each step, the mean over layers, nats, (B, S); a layer without a token adds nothing.

    Args:
        logits: Of each layer, float32 (B, S, K_l).
        tokens: int64 (B, S, L).
        present: bool (B, S, L), which layers have a token.
    """
    total = torch.zeros(tokens.shape[:2], device=tokens.device)
    for layer, logits_BSK in enumerate(logits):
        wanted = tokens[..., layer].masked_fill(~present[..., layer], -1)
        total = total + F.cross_entropy(logits_BSK.transpose(1, 2), wanted, ignore_index=-1, reduction="none")
    return total / len(logits)


def last_frames(real: torch.Tensor) -> torch.Tensor:
    """Give each row's last frame, int64 (B,), of which frames are real, bool (B, S)."""
    return real.sum(dim=1) - 1


def stop_losses(stop: torch.Tensor, real: torch.Tensor, *, positive: float) -> torch.Tensor:
    """Give the binary cross-entropy of "this is the last frame", nats, (B, S); 0 where there is no frame.

    DASB's gate loss, p (exp(0.2 |t - end|) - 1) 0.01 from both sides and at most 1, is all but flat around the end, so
    its gate opens tens of frames late and a constant of 23 is taken off afterwards. A cross-entropy asks for the frame
    itself, and its output is a probability; a threshold of 0.5 with ``positive`` w stops where that is above 1/(1 + w).

    Args:
        stop: Logits, float32 (B, S).
        real: bool (B, S), steps with a frame; of delayed layers those of the first.
        positive: Weight of the last frame, where each other has 1.
    """
    last = torch.arange(stop.shape[1], device=stop.device) == last_frames(real).unsqueeze(1)
    weight = torch.tensor(positive, device=stop.device)
    losses = F.binary_cross_entropy_with_logits(stop, last.to(stop.dtype), pos_weight=weight, reduction="none")
    return losses.masked_fill(~real, 0.0)


def guided_losses(
    attention: torch.Tensor, mask: torch.Tensor, text_mask: torch.Tensor, *, sigma: float
) -> torch.Tensor:
    """Give how far from the diagonal each step looks, in [0, 1): (B, S); 0 in padding.

    The sum over symbols of a_{s,n} (1 - exp(-(n/N - s/S)^2 / (2 sigma^2))).

    Source: Tachibana et al. 2018, arXiv 1710.08969, section 4.1, whose g is ``sigma``. The paper takes the mean over
    symbols; a sum here, so that long texts are guided as much as short ones.

    Args:
        attention: Weights, float32 (B, S, N), which add up to 1 over the symbols.
        mask: bool (B, S).
        text_mask: bool (B, N).
        sigma: Width of the diagonal.
    """
    steps = torch.arange(mask.shape[1], device=mask.device) / mask.sum(dim=1, keepdim=True)
    symbols = torch.arange(text_mask.shape[1], device=mask.device) / text_mask.sum(dim=1, keepdim=True)
    away = 1 - torch.exp(-((symbols[:, None] - steps[:, :, None]) ** 2) / (2 * sigma**2))
    return (attention * away).sum(dim=-1).masked_fill(~mask, 0.0)
