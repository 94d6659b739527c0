"""A Conformer whose attention reaches a fixed number of frames to each side: memory is linear in the frames.

A frame's output depends on ``context_frames`` to each side and on no more, so a long input may be computed in
overlapping pieces, and they join without a seam. Three things differ from the paper:

- Positions are rotary (Su et al. 2021, arXiv 2104.09864) in place of Transformer-XL's: both tell a score the distance
  of two frames alone, and rotary ones need neither weights nor a longest input. Angles are counted within the window,
  so they are as exact after an hour as at the beginning.
- The convolution is normalised over the channels of each frame, and not over a batch: a batch's statistics would let
  an utterance hear its neighbours in training, would differ between workers, and be noise where a micro-batch is one
  utterance.
- The attention reaches ``attention_frames`` to each side; the paper's reaches all of the utterance.

Source: Gulati et al. 2020, Conformer: Convolution-augmented Transformer for Speech Recognition, arXiv 2005.08100.

Letters: B batch, T frames, H width of the input, D width of the Conformer, A heads, E width of a head, W frames in a
window block, N window blocks.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import glu, pad, scaled_dot_product_attention, silu

from pipeline.tasks.blocks.rotary import places_at, rotate
from pipeline.tasks.blocks.settings import ConformerSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """Who hears whom: queries in blocks of W frames, and the keys of a block in it and in those beside it.

    Attributes:
        size: W: what the attention reaches, or all frames where these are fewer.
        blocks: N, as many as hold all frames.
        heard: bool (B * N, 1, W, 3 W), the keys of each query.
    """

    size: int
    blocks: int
    heard: torch.Tensor


def window(mask: torch.Tensor, reach: int) -> Window:
    """Lay windows over a batch.

    Args:
        mask: bool (B, T), True in real frames.
        reach: Frames to each side that a query hears.
    """
    num_frames = mask.shape[1]
    size = min(reach, num_frames)
    blocks = -(-num_frames // size)
    real_BNW = pad(mask, (0, blocks * size - num_frames)).view(len(mask), blocks, size)
    keys = _beside(real_BNW.unsqueeze(-1)).squeeze(-1)
    places = torch.arange(size, device=mask.device)
    distance = torch.arange(3 * size, device=mask.device) - (places[:, None] + size)
    # A padded query hears its whole window, so that no softmax is over nothing; what it gives is set to 0.
    heard = (distance.abs() <= reach) & (keys.unsqueeze(2) | ~real_BNW.unsqueeze(3))
    return Window(size=size, blocks=blocks, heard=heard.flatten(0, 1).unsqueeze(1))


def _beside(blocks: torch.Tensor) -> torch.Tensor:
    """Give each block (B, N, W, ...) with the one before and the one after it, (B, N, 3 W, ...); zeros at the ends."""
    around = pad(blocks, (0, 0) * (blocks.ndim - 2) + (1, 1))
    return torch.cat([around[:, :-2], blocks, around[:, 2:]], dim=2)


class WindowedAttention(torch.nn.Module):
    """Attention of several heads with rotary positions, over the frames of a window.

    Args:
        width: D.
        heads: A.
        dropout: Share of attention weights set to 0 in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.queries_keys_values = torch.nn.Linear(width, 3 * width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, values: torch.Tensor, around: Window) -> torch.Tensor:
        """Let frames (B, T, D) hear those around them; gives (B, T, D)."""
        batch, num_frames, width = values.shape
        size, blocks = around.size, around.blocks
        mixed = pad(self.queries_keys_values(values), (0, 0, 0, blocks * size - num_frames))
        queries, keys, heard = mixed.view(batch, blocks, size, 3, self.heads, -1).unbind(dim=3)
        queries = self._turned(queries, first=size)
        keys = self._turned(_beside(keys), first=0)
        # (B * N, A, frames, E), as torch's attention takes them.
        ask, key, value = (each.flatten(0, 1).transpose(1, 2) for each in (queries, keys, _beside(heard)))
        dropped = self.dropout if self.training else 0.0
        found = scaled_dot_product_attention(ask, key, value, attn_mask=around.heard, dropout_p=dropped)
        joined = found.transpose(1, 2).reshape(batch, blocks * size, width)
        turned: torch.Tensor = self.output(joined[:, :num_frames])
        return turned

    def _turned(self, values: torch.Tensor, *, first: int) -> torch.Tensor:
        """Turn each pair of channels of (B, N, F, A, E) by an angle that grows with the frame, from ``first`` on."""
        numbers = torch.arange(first, first + values.shape[2], device=values.device)
        return rotate(values, places_at(numbers, values.shape[-1]).before_heads())


class FeedForward(torch.nn.Module):
    """Layer norm, a wide layer with swish, and back.

    Args:
        width: D.
        inner: Width of the wide layer.
        dropout: Share of activations set to 0 in it.
    """

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.widen, self.narrow = torch.nn.Linear(width, inner), torch.nn.Linear(inner, width)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Give (..., D) of (..., D)."""
        found: torch.Tensor = self.narrow(self.dropout(silu(self.widen(self.norm(values)))))
        return found


class Convolution(torch.nn.Module):
    """Layer norm, a gated linear unit, a depthwise convolution over real frames, layer norm, swish, a linear layer.

    Args:
        width: D.
        kernel: Frames that the convolution sees; odd.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.gate = torch.nn.Linear(width, 2 * width)
        self.depthwise = torch.nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.middle = torch.nn.LayerNorm(width)
        self.output = torch.nn.Linear(width, width)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, T, D) of (B, T, D); the convolution sees zeros in padding, as past the ends."""
        gated = glu(self.gate(self.norm(values)), dim=-1).masked_fill(~mask.unsqueeze(-1), 0.0)
        seen = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        found: torch.Tensor = self.output(silu(self.middle(seen)))
        return found


class ConformerBlock(torch.nn.Module):
    """Half a feed-forward step, attention, convolution, the other half, layer norm."""

    def __init__(self, settings: ConformerSettings) -> None:
        super().__init__()
        width, dropout = settings.conformer_width, settings.conformer_dropout
        self.first = FeedForward(width, settings.conformer_ffn, dropout)
        self.attention_norm = torch.nn.LayerNorm(width)
        self.attention = WindowedAttention(width, settings.conformer_heads, dropout)
        self.convolution = Convolution(width, settings.conformer_kernel)
        self.second = FeedForward(width, settings.conformer_ffn, dropout)
        self.norm = torch.nn.LayerNorm(width)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, values: torch.Tensor, mask: torch.Tensor, around: Window) -> torch.Tensor:
        """Give (B, T, D) of (B, T, D)."""
        values = values + 0.5 * self.dropout(self.first(values))
        values = values + self.dropout(self.attention(self.attention_norm(values), around))
        values = values + self.dropout(self.convolution(values, mask))
        values = values + 0.5 * self.dropout(self.second(values))
        found: torch.Tensor = self.norm(values)
        return found


class Conformer(torch.nn.Module):
    """A linear layer and Conformer blocks.

    Attributes:
        dim: Width of what it gives (D).
        context_frames: Frames to each side that a frame's output depends on.
    """

    def __init__(self, dim: int, settings: ConformerSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a frame of the input (H).
            settings: Sizes.
        """
        super().__init__()
        self.dim, self.context_frames = settings.conformer_width, settings.context_frames
        self._reach = settings.attention_frames
        self.input = torch.nn.Linear(dim, self.dim)
        self.dropout = torch.nn.Dropout(settings.conformer_dropout)
        self.blocks = torch.nn.ModuleList(ConformerBlock(settings) for _ in range(settings.conformer_layers))

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, T, D), 0 in padding, of frames (B, T, H); mask is bool (B, T), a frame or more in each row."""
        around, padded = window(mask, self._reach), ~mask.unsqueeze(-1)
        found: torch.Tensor = self.dropout(self.input(frames.masked_fill(padded, 0.0)))
        for block in self.blocks:
            found = block(found, mask, around)
        return found.masked_fill(padded, 0.0)
