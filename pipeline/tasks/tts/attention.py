"""Attention whose queries and keys know their places by a rotation, with keys and values that may be kept.

Only the distance between a query's place and a key's place counts, so nothing is tied to places that training has: a
longer utterance than any of training meets no vector that it never saw.

Letters: B batch, A heads, T queries, N keys, W width, D width of a head.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from pipeline.tasks.blocks.rotary import Places, rotate


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """Keys and values that queries look at.

    Attributes:
        keys: (B, A, N, D), turned by their places.
        values: (B, A, N, D).
    """

    keys: torch.Tensor
    values: torch.Tensor

    def rows(self, index: torch.Tensor) -> "Kept":
        """Give those of some rows of the batch."""
        return Kept(keys=self.keys[index], values=self.values[index])


class Attention(torch.nn.Module):
    """Multi-head attention of queries to what was kept."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Make the network.

        Args:
            width: Of queries, keys and output (W).
            heads: Heads (A).
            dropout: Share of the weights set to 0 in training.
        """
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = torch.nn.Linear(width, width)
        self.key_value = torch.nn.Linear(width, 2 * width)
        self.output = torch.nn.Linear(width, width)

    def keep(self, memory: torch.Tensor, places: Places) -> Kept:
        """Give keys and values of (B, N, W) at N places."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return Kept(keys=rotate(self._split(keys), places), values=self._split(values))

    def forward(self, x: torch.Tensor, places: Places, kept: Kept, allowed: torch.Tensor | None) -> torch.Tensor:
        """Look.

        Args:
            x: (B, T, W).
            places: Of x.
            kept: What is looked at.
            allowed: bool, broadcast to (B, A, T, N); each query has a key that it may see. None: all.

        Returns:
            (B, T, W).
        """
        queries = rotate(self._split(self.query(x)), places)
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(queries, kept.keys, kept.values, attn_mask=allowed, dropout_p=dropout)
        return self._joined(found)

    def weighed(
        self, x: torch.Tensor, places: Places, kept: Kept, allowed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Look, and say how much at what: as ``forward``, and the mean weights of the heads, float32 (B, T, N)."""
        queries = rotate(self._split(self.query(x)), places)
        scores = (queries @ kept.keys.transpose(-1, -2)).float() / math.sqrt(queries.shape[-1])
        weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)
        dropped = F.dropout(weights, self.dropout, self.training).to(kept.values.dtype)
        return self._joined(dropped @ kept.values), weights.mean(dim=1)

    def _split(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)

    def _joined(self, found: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.output(found.transpose(1, 2).flatten(-2))
        return joined


class GrowingKept:
    """Keys and values that grow by a step at a time; room is doubled, so that a step copies nothing but itself."""

    def __init__(self) -> None:
        self._room: Kept | None = None
        self._length = 0

    def add(self, more: Kept) -> Kept:
        """Append (B, A, 1, D), and give all that there is."""
        if self._room is None:
            self._room = _roomier(more, 64)
        elif self._length == self._room.keys.shape[2]:
            self._room = _roomier(self._room, 2 * self._length)
        self._room.keys[:, :, self._length : self._length + 1] = more.keys
        self._room.values[:, :, self._length : self._length + 1] = more.values
        self._length += 1
        held = slice(None, self._length)
        return replace(self._room, keys=self._room.keys[:, :, held], values=self._room.values[:, :, held])

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""
        if self._room is not None:
            self._room = self._room.rows(index)


def _roomier(kept: Kept, length: int) -> Kept:
    room = [F.pad(each, (0, 0, 0, length - each.shape[2])) for each in (kept.keys, kept.values)]
    return Kept(keys=room[0], values=room[1])
