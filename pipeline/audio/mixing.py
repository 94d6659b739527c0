"""Averages channels, and notices where they cancel each other: measured on the samples that are averaged anyway.

Imports only numpy, because the decode child starts with it. Cost: two sums of squares a block.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

# Of the energy that the mean of independent channels would have; channels that agree have as many times it.
_CANCELLED = 0.1


class Mixing:
    """The energy of channels, and of their mean."""

    def __init__(self) -> None:
        self._channels = self._mean = 0.0

    def mean(self, block_SC: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Average the channels of a block."""
        mono: npt.NDArray[Any] = block_SC.mean(axis=1, dtype=np.float64)
        self._channels += float(np.vdot(block_SC, block_SC))
        self._mean += float(np.vdot(mono, mono)) * block_SC.shape[1] ** 2
        return mono

    def cancelled(self) -> bool:
        """Say whether next to nothing of the channels is left in the mean; silence has nothing to lose."""
        return self._mean < _CANCELLED * self._channels
