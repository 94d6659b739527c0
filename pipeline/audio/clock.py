"""How frames lie on samples: the one place where frames are counted.

Frame t of a waveform hears samples t * hop_length to t * hop_length + receptive_field; a waveform of S samples so has
T = floor((S - receptive_field) / hop_length) + 1 frames, or none where it is shorter than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The frames of an encoder, or of anything that gives one result per hop.

    Attributes:
        sample_rate: Hz.
        hop_length: Samples from one frame to the next.
        receptive_field: Samples that a frame hears, and the fewest that give a frame.
    """

    sample_rate: int
    hop_length: int
    receptive_field: int

    @classmethod
    def of_convolutions(cls, sample_rate: int, kernels: Sequence[int], strides: Sequence[int]) -> Self:
        """Give the clock of convolutions without padding, one after the other.

        Args:
            sample_rate: Of the waveform, Hz.
            kernels: Kernel size of each, the first first.
            strides: Their strides.
        """
        hop, field = 1, 1
        for kernel, stride in zip(kernels, strides, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return cls(sample_rate=sample_rate, hop_length=hop, receptive_field=field)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def of_hops(self) -> Self:
        """The clock whose frames hear one hop each, so that T frames are T hops of samples: that of a vocoder."""
        return replace(self, receptive_field=self.hop_length)

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a waveform; 0 where it is too short for one."""
        return max(0, (num_samples - self.receptive_field) // self.hop_length + 1)

    def frame_counts(self, num_samples: np.ndarray) -> np.ndarray:
        """Count the frames of waveforms, int64 (N,) for their lengths (N,)."""
        counts: np.ndarray = np.maximum(0, (num_samples - self.receptive_field) // self.hop_length + 1)
        return counts.astype(np.int64)

    def num_samples(self, num_frames: int) -> int:
        """Count the samples that give exactly these frames, of which there is at least one."""
        return (num_frames - 1) * self.hop_length + self.receptive_field
