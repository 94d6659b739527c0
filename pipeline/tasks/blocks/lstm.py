"""A bidirectional LSTM over utterances of several lengths: its backward half begins at each one's own last frame.

Letters: B batch, T frames, H width.
"""

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BiLstm(torch.nn.Module):
    """torch's LSTM in both directions over packed sequences."""

    def __init__(self, dim: int, *, layers: int, width: int, dropout: float) -> None:
        """Make the network.

        Args:
            dim: Width of a frame (H).
            layers: Layers.
            width: Width of each direction.
            dropout: Share of activations set to 0 between layers.
        """
        super().__init__()
        self.dim = 2 * width
        between = dropout if layers > 1 else 0.0
        self.lstm = torch.nn.LSTM(dim, width, layers, dropout=between, bidirectional=True, batch_first=True)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give (B, T, 2 width), 0 in padding, of frames (B, T, H); mask is bool (B, T), a frame or more in each row."""
        # Packing wants the lengths on the CPU: one wait for the device per micro-batch.
        packed = pack_padded_sequence(frames, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        found: torch.Tensor = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=mask.shape[1])[0]
        return found
