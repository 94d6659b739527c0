"""Text to speech on tokens as a task: the label is the text, and the targets are the utterance's own tokens.

Letters: B batch, S steps, L layers, H width, N symbols of a text with its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from pipeline.batches.collate import pad_rows
from pipeline.batches.pieces import Piece
from pipeline.tasks.asr.task import references, spelt
from pipeline.tasks.asr.text import Alphabet
from pipeline.tasks.classes import CLASSES, class_tensors
from pipeline.tasks.source import FRAMES
from pipeline.tasks.task import Task
from pipeline.tasks.tts import metrics
from pipeline.tasks.tts.criterion import guided_losses, stop_losses, token_losses
from pipeline.tasks.tts.model import SPEAKERS, TEXT, TEXT_END, TEXT_MASK, TtsModel
from pipeline.tasks.tts.settings import TtsSettings, told_settings
from pipeline.tasks.tts.streams import delays_of, laid, present_of
from pipeline.training.recipe import Row, Sums, Tensors

_SPEAKER = "speaker"


@dataclass(frozen=True, kw_only=True)
class TtsTask(Task):
    """Tokens for texts.

    Attributes:
        settings: Sizes of the network, and its losses.
        alphabet: What it can read.
        columns: The layers that it writes.
        num_clusters: K of each.
        frames_per_symbol: How long a symbol of training lasts on average, frames.
        speakers: Those of training, sorted; none where nobody is named.
    """

    settings: TtsSettings
    alphabet: Alphabet
    columns: tuple[str, ...]
    num_clusters: tuple[int, ...]
    frames_per_symbol: float
    speakers: tuple[str, ...] = ()

    name = "tts"
    label = "text"
    loss_name = "written"
    # The token error rate is blind to a moment that is likely but never likelier than not, as the end of a sound.
    best_by = "loss"
    best_order = "min"

    @property
    def needed(self) -> tuple[str, ...]:
        """The text, and the speaker where one is named."""
        return (self.label, *([_SPEAKER] if self.speakers else []))

    @property
    def delays(self) -> tuple[int, ...]:
        """Steps by which each layer is written later."""
        return delays_of(self.settings.stream_pattern, len(self.columns))

    def head(self, dim: int) -> TtsModel:
        """Make the transformers: (B, S, H), text and speaker to logits of each layer and of the stop."""
        return TtsModel(
            dim,
            self.settings,
            num_symbols=len(self.alphabet),
            num_clusters=self.num_clusters,
            num_speakers=len(self.speakers),
            frames_per_symbol=self.frames_per_symbol,
        )

    def symbols(self, text: str) -> list[int]:
        """Give a text as the network reads it: its symbols and the end.

        Raises:
            SettingsError: It has a character outside the alphabet, which is not to be dropped.
        """
        return [*self.alphabet.encode(text), TEXT_END]

    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give texts as symbols, int64 (B, N), which of them are real, and their bytes for whom shows them."""
        read = pad_rows([np.array(self.symbols(label), np.int64) for label in labels])
        texts = spelt([np.frombuffer(label.encode(), np.uint8) for label in labels])
        return {TEXT: torch.from_numpy(read.values), TEXT_MASK: torch.from_numpy(read.mask), **texts}

    def of(self, pieces: Sequence[Piece]) -> Tensors:
        """Give texts, and speakers where they are named, int64 (B,)."""
        found = super().of(pieces)
        if not self.speakers:
            return found
        names = [str(piece.labels[_SPEAKER]) for piece in pieces]
        return found | {SPEAKERS: class_tensors(names, self.speakers, _SPEAKER)[CLASSES]}

    def laid(self, rows: Sequence[np.ndarray]) -> Tensors:
        """Lay tokens side by side in the order in which they are written."""
        return laid(rows, self.delays)

    def count(self, batch: Tensors) -> torch.Tensor:
        """Frames."""
        return present_of(batch)[..., 0].sum()

    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Sum over frames of the tokens' cross-entropy, the stop loss and the guided attention, by their weights."""
        settings, present = self.settings, present_of(batch)
        loss = token_losses(output.logits, batch[FRAMES], present).sum()
        stops = stop_losses(output.stop, present[..., 0], positive=settings.stop_positive)
        return loss + settings.stop_weight * stops.sum() + settings.guided_weight * self._guided(output, batch).sum()

    def watched(self, output: Any, batch: Tensors) -> Mapping[str, Sums]:
        """Stop loss, and distance of the attention from the diagonal."""
        present, frames = present_of(batch), self.count(batch)
        stops = stop_losses(output.stop, present[..., 0], positive=self.settings.stop_positive)
        return {
            "stop_nats": Sums(stops.sum().detach(), frames),
            "off_diagonal": Sums(self._guided(output, batch).sum().detach(), frames),
        }

    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Compare tokens and stops, each step told what is right before it."""
        return metrics.rows(output, batch[FRAMES], present_of(batch), references(batch), self.columns)

    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Token error rates and stop errors."""
        return metrics.measure(rows)

    def tested(self) -> Self:
        """Leave characters outside the alphabet out."""
        return replace(self, alphabet=replace(self.alphabet, drops_unknown=True))

    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again."""
        return {
            "tts": told_settings(self.settings),
            "alphabet": self.alphabet.to_json(),
            "columns": list(self.columns),
            "num_clusters": list(self.num_clusters),
            "frames_per_symbol": self.frames_per_symbol,
            "speakers": list(self.speakers),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "TtsTask":
        """Make it of what ``to_json`` gave."""
        return cls(
            settings=TtsSettings(**given["tts"]),
            alphabet=Alphabet.from_json(given["alphabet"]),
            columns=tuple(given["columns"]),
            num_clusters=tuple(given["num_clusters"]),
            frames_per_symbol=given["frames_per_symbol"],
            speakers=tuple(given["speakers"]),
        )

    def _guided(self, output: Any, batch: Tensors) -> torch.Tensor:
        mask, sigma = batch[f"{FRAMES}_mask"], self.settings.guided_sigma
        return guided_losses(output.attention, mask, batch[TEXT_MASK], sigma=sigma)
