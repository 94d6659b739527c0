"""Speech recognition by CTC as a task.

Letters: B batch, T frames, H width, V symbols with the blank, U symbols of a transcript.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from pipeline.batches.collate import pad_rows
from pipeline.tasks.asr import metrics
from pipeline.tasks.asr.criterion import CtcCounts, ctc_counts, ctc_losses
from pipeline.tasks.asr.decoding import greedy
from pipeline.tasks.asr.model import AsrModel
from pipeline.tasks.asr.settings import AsrSettings
from pipeline.tasks.asr.text import Alphabet
from pipeline.tasks.source import FRAMES
from pipeline.tasks.task import Task
from pipeline.training.recipe import Row, Sums, Tensors

_TARGETS = "transcripts"


@dataclass(frozen=True, kw_only=True)
class AsrTask(Task):
    """Recognition of an alphabet.

    Attributes:
        settings: Sizes of the network.
        alphabet: What it can write.
    """

    settings: AsrSettings
    alphabet: Alphabet

    name = "asr"
    label = "text"
    loss_name = "ctc"
    best_by = "wer"
    best_order = "min"

    def head(self, dim: int) -> torch.nn.Module:
        """Make the BiLSTM: (B, T, H) to log-probabilities (B, T, V)."""
        return AsrModel(dim, len(self.alphabet), self.settings)

    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give transcripts as symbols, int64 (B, U), their lengths, and the texts' bytes for whom compares them."""
        symbols = [np.array(self.alphabet.encode(label), np.int64) for label in labels]
        texts = [np.frombuffer(label.encode(), np.uint8) for label in labels]
        found = pad_rows(symbols).tensors(_TARGETS)
        return {name: tensor for name, tensor in found.items() if not name.endswith("_mask")} | spelt(texts)

    def count(self, batch: Tensors) -> torch.Tensor:
        """Symbols of the utterances that have an alignment."""
        return self._counts(batch).symbols

    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Sum of the utterances' negative log-likelihoods, nats."""
        lengths, targets = batch[f"{FRAMES}_lengths"], batch[_TARGETS]
        return ctc_losses(output, lengths, targets, batch[f"{_TARGETS}_lengths"]).sum()

    def watched(self, output: Any, batch: Tensors) -> Mapping[str, Sums]:
        """Share of utterances with fewer frames than their transcript needs, which the loss leaves out."""
        counts = self._counts(batch)
        return {"unalignable": Sums(counts.too_short.float(), counts.too_short + counts.utterances)}

    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Decode greedily and compare."""
        return metrics.rows(self.texts(output, batch), references(batch), self.alphabet)

    def texts(self, output: Any, batch: Tensors) -> Sequence[str]:
        """Decode greedily; B texts."""
        return greedy(output, batch[f"{FRAMES}_lengths"], self.alphabet)

    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Word and character error rates."""
        return metrics.measure(rows)

    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again."""
        return {"asr": asdict(self.settings), "alphabet": self.alphabet.to_json()}

    def tested(self) -> Self:
        """Leave characters outside the alphabet out of the targets; they stay in the reference and count as errors."""
        return replace(self, alphabet=replace(self.alphabet, drops_unknown=True))

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "AsrTask":
        """Make it of what ``to_json`` gave."""
        return cls(settings=AsrSettings(**given["asr"]), alphabet=Alphabet.from_json(given["alphabet"]))

    def _counts(self, batch: Tensors) -> CtcCounts:
        return ctc_counts(batch[f"{FRAMES}_lengths"], batch[_TARGETS], batch[f"{_TARGETS}_lengths"])


def references(batch: Tensors) -> list[str]:
    """Give the transcripts of a micro-batch as the manifest has them."""
    rows = zip(batch["texts"].tolist(), batch["texts_lengths"].tolist(), strict=True)
    return [bytes(row[:length]).decode() for row, length in rows]


def spelt(texts: Sequence[np.ndarray]) -> Tensors:
    """Give the bytes of texts as ``references`` takes them."""
    found = pad_rows(texts)
    return {"texts": torch.from_numpy(found.values), "texts_lengths": torch.from_numpy(found.lengths)}
