"""The group norm at the foot of an encoder, over a whole recording that is encoded in windows.

That norm brings each channel of the first convolution to zero mean and unit variance over all time. The convolution
is linear in the k samples under its kernel, so both follow from the mean (k,) and covariance (k, k) of those samples
over all places where the kernel lands: collected block by block, exact up to float64.

Cost: O(S k^2 / stride), 20 multiplications a sample for a kernel of 10 and a stride of 5. Memory: k values a frame of
one block.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True, kw_only=True)
class PatchMoments:
    """What the first convolution hears of a recording, wherever its kernel lands.

    Attributes:
        mean: float64 (k,), of the samples under the kernel.
        covariance: float64 (k, k).
    """

    mean: np.ndarray
    covariance: np.ndarray

    def moved(self, shift: float, scale: float) -> "PatchMoments":
        """Give the moments of (waveform - shift) * scale."""
        return PatchMoments(mean=(self.mean - shift) * scale, covariance=self.covariance * scale**2)

    def channels(self, kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give mean and variance of each channel of the convolution.

        Args:
            kernels: (C, k).

        Returns:
            Two float64 (C,), without the convolution's bias, which moves the mean alone.
        """
        wide_Ck = kernels.astype(np.float64)
        variance_C = np.einsum("ck,kj,cj->c", wide_Ck, self.covariance, wide_Ck)
        # Rounding may leave a channel that hears nothing just below zero.
        return wide_Ck @ self.mean, np.maximum(variance_C, 0.0)


class PatchSums:
    """Collects the moments of a recording block by block."""

    def __init__(self, kernel: int, stride: int) -> None:
        """Begin with an empty recording.

        Args:
            kernel: Samples under the kernel of the first convolution.
            stride: Samples from one of its frames to the next, at most the kernel.
        """
        self._kernel, self._stride = kernel, stride
        self._held = np.zeros(0)
        self._count = 0
        self._sum = np.zeros(kernel)
        self._products = np.zeros((kernel, kernel))

    def add(self, block: np.ndarray) -> None:
        """Take up the next samples, float64 (S,)."""
        samples = np.concatenate([self._held, block])
        count = max(0, (len(samples) - self._kernel) // self._stride + 1)
        if count:
            patches = np.ascontiguousarray(sliding_window_view(samples, self._kernel)[:: self._stride][:count])
            self._sum += patches.sum(axis=0)
            self._products += patches.T @ patches
            self._count += count
        self._held = samples[count * self._stride :]

    def moments(self) -> PatchMoments:
        """Give the moments of all samples taken up so far."""
        mean = self._sum / max(1, self._count)
        return PatchMoments(mean=mean, covariance=self._products / max(1, self._count) - np.outer(mean, mean))
