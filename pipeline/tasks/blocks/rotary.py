"""Places as angles: pairs of channels are turned by them, so that a score knows the distance of two places alone.

Source: Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding, arXiv 2104.09864, section 3.2.

Letters: B batch, A heads, T places, D width of a head.
"""

from dataclasses import dataclass

import torch

_BASE = 10_000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Places as angles, made once for all that is turned by them.

    Attributes:
        cosines: float32 (T, D / 2).
        sines: float32 (T, D / 2).
    """

    cosines: torch.Tensor
    sines: torch.Tensor

    def before_heads(self) -> "Places":
        """Give the same for values whose heads lie behind their places, (..., T, A, D)."""
        return Places(cosines=self.cosines.unsqueeze(1), sines=self.sines.unsqueeze(1))


def places_at(numbers: torch.Tensor, width: int) -> Places:
    """Give places (T,), whole or not, as angles for heads of a width (D)."""
    steps = torch.arange(width // 2, device=numbers.device, dtype=torch.float32) / (width // 2)
    angles = numbers.to(torch.float32)[:, None] * _BASE**-steps
    return Places(cosines=angles.cos(), sines=angles.sin())


def rotate(values: torch.Tensor, places: Places) -> torch.Tensor:
    """Turn pairs of channels of values (B, A, T, D) by the angles of their places; the lengths stay."""
    cosines, sines = places.cosines.to(values.dtype), places.sines.to(values.dtype)
    first, second = values.chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)
