"""Batch normalisation of padded sequences, whose statistics no padded frame enters.

Letters: B batch, C channels, T frames, N real frames.
"""

import torch
from torch.nn.functional import batch_norm


class MaskedBatchNorm(torch.nn.BatchNorm1d):
    """torch's BatchNorm1d over the real frames of a batch.

    Fewer than two of them have no variance: they are normalised by the running statistics, which they leave alone.
    """

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise.

        Args:
            values: (B, C, T); or (B, C) without a mask, where each row is whole.
            mask: Bool (B, T), True in real frames.

        Returns:
            Like ``values``, 0 in padded frames.
        """
        if mask is None:
            return self._normalized(values)
        rows = values.transpose(1, 2)
        normalized = self._normalized(rows[mask])
        found = normalized.new_zeros(rows.shape)
        found[mask] = normalized
        return found.transpose(1, 2)

    def _normalized(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C) or (B, C); in float32, as torch does under autocast."""
        if self.training and len(rows) > 1:
            return super().forward(rows)
        return batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )
