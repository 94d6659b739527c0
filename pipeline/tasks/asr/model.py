"""A BiLSTM that gives the symbols of an alphabet in each frame.

Source: Mousavi et al. 2024, arXiv 2406.14294 (DASB), the LSTM head for LibriSpeech.

Letters: B batch, T frames, H width, V symbols with the blank.
"""

import torch

from pipeline.tasks.asr.settings import AsrSettings
from pipeline.tasks.blocks.lstm import BiLstm


class AsrModel(torch.nn.Module):
    """BiLSTM, dropout, a linear layer and log-softmax."""

    def __init__(self, dim: int, num_symbols: int, settings: AsrSettings) -> None:
        """Make the network.

        Args:
            dim: Width of a fused frame (H).
            num_symbols: Symbols of the alphabet with the blank (V).
            settings: Sizes.
        """
        super().__init__()
        self.lstm = BiLstm(dim, layers=settings.lstm_layers, width=settings.lstm_width, dropout=settings.dropout)
        self.dropout = torch.nn.Dropout(settings.dropout)
        self.output = torch.nn.Linear(self.lstm.dim, num_symbols)

    def forward(self, fused: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give log-probabilities, float32 (B, T, V), of frames (B, T, H); mask is bool (B, T).

        Padded frames hold what the bias alone says; decoding and loss look at lengths.
        """
        logits: torch.Tensor = self.output(self.dropout(self.lstm(fused, mask)))
        return logits.float().log_softmax(dim=-1)
