"""WavLM's attention on torch's fused kernel, with the position bias made piece by piece.

WavLM adds gate * bias to the scores of each head: the bias depends on the distance j - i alone and is shared by all
blocks and batch rows; the gate, one number a head and query, comes from the block's input. transformers repeats the
bias for each batch row, multiplies it whole in every block, and asks for the weights, which rules the fused kernel
out: several (B, heads, T, T) arrays. Here the bias stays a (heads, 2 T - 1) table, is read as a matrix by strides, and
gate * bias exists for a few heads at a time.

Letters: B batch, T frames, H heads, D feature width. Cost of a block: as before in arithmetic; memory about
``MASK_ELEMENTS`` numbers beside (B, T, D) arrays. Figures: docs/decisions/0005-attention.md.
Source: Chen et al., WavLM, IEEE JSTSP 2022 (arXiv 2110.13900), equations 3 to 6.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

MASK_ELEMENTS = {"cpu": 2**23, "cuda": 2**27}
"""Numbers of gate * bias that exist at once, by kind of device. On CPU 32 MiB in float32: what glibc gives again
without asking the kernel. A GPU needs larger pieces of work; its number is not measured."""

MIN_QUERIES = 768
"""Queries that share a mask at least: torch's CPU kernel takes 256 at a time from here on, and 64 below, which made
attention slower by a third."""


class GatedAttention(nn.Module):
    """Self-attention of one WavLM block; it has the parameters of the module it replaces, under their names."""

    def __init__(self, attention: Any) -> None:
        """Take over the parameters.

        Args:
            attention: The ``WavLMAttention`` of transformers.
        """
        super().__init__()
        self.num_heads: int = attention.num_heads
        self.head_dim: int = attention.head_dim
        self.k_proj, self.v_proj, self.q_proj = attention.k_proj, attention.v_proj, attention.q_proj
        self.out_proj = attention.out_proj
        self.gru_rel_pos_const = attention.gru_rel_pos_const
        self.gru_rel_pos_linear = attention.gru_rel_pos_linear
        if hasattr(attention, "rel_attn_embed"):
            self.rel_attn_embed = attention.rel_attn_embed
        self._bucket: Callable[[torch.Tensor], torch.Tensor] = attention._relative_positions_bucket

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None, torch.Tensor]:
        """Attend.

        Args:
            hidden_states: (B, T, D).
            attention_mask: (B, T), true for frames of the utterance; None if no row is padded.
            position_bias: What the first block gave; None in the first block.

        Returns:
            (B, T, D), no weights, and the bias by distance, (H, 2 T - 1), for the blocks that follow.
        """
        num_rows, num_frames, dim = hidden_states.shape
        if position_bias is None:
            position_bias = self._bias_by_distance(num_frames)
        heads = (num_rows, num_frames, self.num_heads, self.head_dim)
        query, key, value = (
            project(hidden_states).view(heads).transpose(1, 2) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        gate = self._gate(hidden_states.view(heads))
        mixed = torch.empty(heads, dtype=hidden_states.dtype, device=hidden_states.device)
        for rows, heads_of, queries in pieces(query.shape[:3], MASK_ELEMENTS.get(query.device.type, 2**23)):
            mask = _last_query_first(gate[rows, heads_of, queries]) * _bias_of(position_bias[heads_of], queries)
            if attention_mask is not None:
                mask.masked_fill_(~attention_mask[rows].bool()[:, None, None, :], -math.inf)
            attended = scaled_dot_product_attention(
                _last_query_first(query[rows, heads_of, queries]), key[rows, heads_of], value[rows, heads_of], mask
            )
            mixed[rows, queries, heads_of] = _last_query_first(attended).transpose(1, 2)
        return self.out_proj(mixed.view(num_rows, num_frames, dim)), None, position_bias

    def _bias_by_distance(self, num_frames: int) -> torch.Tensor:
        """Give the bias of every distance from 1 - T to T - 1, (H, 2 T - 1)."""
        distance = torch.arange(1 - num_frames, num_frames, device=self.rel_attn_embed.weight.device)
        bias: torch.Tensor = self.rel_attn_embed(self._bucket(distance))
        return bias.t().contiguous()

    def _gate(self, hidden_BTHD: torch.Tensor) -> torch.Tensor:
        """Give the gate of each query, (B, H, T, 1)."""
        sums = self.gru_rel_pos_linear(hidden_BTHD).unflatten(-1, (2, 4)).sum(-1)
        update, reset = torch.sigmoid(sums).transpose(1, 2).chunk(2, dim=-1)
        gate: torch.Tensor = update * (reset * self.gru_rel_pos_const - 1.0) + 2.0
        return gate


def _last_query_first(rows: torch.Tensor) -> torch.Tensor:
    """Reverse the queries of (B, H, T, ...): strides of torch cannot be negative, and distances fall with i."""
    return rows.flip(2)


def _bias_of(bias_by_distance: torch.Tensor, queries: slice) -> torch.Tensor:
    """View the bias of some queries, the last one first, as (H, queries, T); copies nothing."""
    num_heads, distances = bias_by_distance.shape
    num_frames = (distances + 1) // 2
    return bias_by_distance.as_strided(
        (num_heads, queries.stop - queries.start, num_frames),
        (distances, 1, 1),
        bias_by_distance.storage_offset() + num_frames - queries.stop,
    )


def pieces(shape: Sequence[int], max_elements: int) -> Iterator[tuple[slice, slice, slice]]:
    """Divide the (B, H, T, T) scores of a batch: whole rows, else whole heads, else queries of one head, evenly.

    Args:
        shape: B, H, T.
        max_elements: Scores in one piece, up to twice as many where one head has more, or ``MIN_QUERIES`` have.

    Yields:
        Slices of B, H and queries; each query of each head is in one piece.
    """
    num_rows, num_heads, num_frames = shape
    blocks = max(1, num_frames // max(MIN_QUERIES, max_elements // num_frames))
    queries = -(-num_frames // blocks)
    heads = min(num_heads, max(1, max_elements // (queries * num_frames)))
    rows = max(1, max_elements // (num_heads * num_frames**2)) if heads == num_heads else 1
    sizes = zip(shape, (rows, heads, queries), strict=True)
    yield from product(
        *([slice(first, min(first + step, size)) for first in range(0, size, step)] for size, step in sizes)
    )


def use_sdpa(network: Any) -> None:
    """Give every WavLM block of a network the fused attention; other networks of ours have it from transformers.

    The state dict keeps its names and tensors. float32 results differ from transformers' by rounding alone.

    Args:
        network: A network of transformers with ``encoder.layers``; changed in place.
    """
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    for block in network.encoder.layers:
        if isinstance(getattr(block, "attention", None), WavLMAttention):
            block.attention = GatedAttention(block.attention)
