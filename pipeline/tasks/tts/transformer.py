"""The layers of text to speech: those that read the text, and those that write frames while they look at it.

Letters: B batch, T steps, N symbols of a text, W width.
"""

import torch
import torch.nn.functional as F

from pipeline.tasks.blocks.rotary import Places
from pipeline.tasks.tts.attention import Attention, GrowingKept, Kept
from pipeline.tasks.tts.settings import TtsSettings


class FeedForward(torch.nn.Module):
    """Two linear layers with GELU between them, a norm before."""

    def __init__(self, settings: TtsSettings) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(settings.tts_width)
        self.first = torch.nn.Linear(settings.tts_width, settings.tts_ffn)
        self.second = torch.nn.Linear(settings.tts_ffn, settings.tts_width)
        self.dropout = torch.nn.Dropout(settings.tts_dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give what is added to (B, T, W)."""
        found: torch.Tensor = self.dropout(self.second(self.dropout(F.gelu(self.first(self.norm(x))))))
        return found


def _attention(settings: TtsSettings) -> Attention:
    return Attention(settings.tts_width, settings.tts_heads, settings.tts_dropout)


class ReadingLayer(torch.nn.Module):
    """Self-attention over a text and a feed-forward layer, norms before each."""

    def __init__(self, settings: TtsSettings) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(settings.tts_width)
        self.attention = _attention(settings)
        self.feed_forward = FeedForward(settings)
        self.dropout = torch.nn.Dropout(settings.tts_dropout)

    def forward(self, x: torch.Tensor, places: Places, allowed: torch.Tensor) -> torch.Tensor:
        """Read (B, N, W) at N places; symbols see those that are allowed, bool (B, 1, 1, N)."""
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, places, self.attention.keep(normed, places), allowed))
        found: torch.Tensor = x + self.feed_forward(x)
        return found


class WritingLayer(torch.nn.Module):
    """Attention to the steps before, attention to the text, a feed-forward layer; norms before each."""

    def __init__(self, settings: TtsSettings) -> None:
        super().__init__()
        self.own_norm = torch.nn.LayerNorm(settings.tts_width)
        self.own = _attention(settings)
        self.text_norm = torch.nn.LayerNorm(settings.tts_width)
        self.text = _attention(settings)
        self.feed_forward = FeedForward(settings)
        self.dropout = torch.nn.Dropout(settings.tts_dropout)

    def forward(
        self, x: torch.Tensor, places: Places, before: torch.Tensor, text: Kept, allowed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write all steps at once, as in training.

        Args:
            x: (B, T, W).
            places: Of the steps.
            before: bool (T, T), which steps a step may see.
            text: Keys and values of the text.
            allowed: bool (B, 1, 1, N), its real symbols.

        Returns:
            (B, T, W), and the weights of the symbols, float32 (B, T, N).
        """
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, places, self.own.keep(normed, places), before))
        looked, weights = self.text.weighed(self.text_norm(x), places, text, allowed)
        x = x + self.dropout(looked)
        return x + self.feed_forward(x), weights

    def step(self, x: torch.Tensor, place: Places, own: GrowingKept, text: Kept, allowed: torch.Tensor) -> torch.Tensor:
        """Write one step, (B, 1, W) at a place, and keep its keys and values beside those of the steps before."""
        normed = self.own_norm(x)
        x = x + self.own(normed, place, own.add(self.own.keep(normed, place)), None)
        x = x + self.text(self.text_norm(x), place, text, allowed)
        found: torch.Tensor = x + self.feed_forward(x)
        return found
