"""What a trained task says of each utterance, and which layers it listens to, micro-batch after micro-batch.

Letters: B batch, T frames, L layers, E embedding width.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.batches.pieces import Piece
from pipeline.batches.pools import BatchTicket
from pipeline.errors import DatasetError
from pipeline.evaluation.measuring import SPREAD, WEIGHT
from pipeline.fusion.layer_use import layer_use
from pipeline.tasks.asr.decoding import BeamDecoder
from pipeline.tasks.asr.metrics import rows as asr_rows
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.tasks.asr.spikes import Spike, spikes
from pipeline.tasks.asr.task import AsrTask, references
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.sid.model import Speakers
from pipeline.tasks.source import FRAMES, TaskSource
from pipeline.tasks.task import Task
from pipeline.training.recipe import Row, Tensors
from pipeline.training.trained import moved


@dataclass(frozen=True, kw_only=True, eq=False)
class OverTime:
    """An utterance frame by frame.

    Attributes:
        weights: Of each layer, float32 (T, L).
        spikes: Symbols of the greedy path, of asr; None of other tasks.
    """

    weights: np.ndarray
    spikes: Sequence[Spike] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What is said of the utterances of a side.

    Attributes:
        rows: A row per utterance, sorted by id.
        embeddings: (E,) by utterance id; of tasks that give them.
        over_time: By utterance id, of those asked for; none where the fusion has no weights.
    """

    rows: Sequence[Row]
    embeddings: Mapping[str, np.ndarray]
    over_time: Mapping[str, OverTime]


class Predictor:
    """A trained task at work."""

    def __init__(self, model: TaskModel, task: Task, decoding: DecodingSettings, device: str) -> None:
        """Take the network.

        Args:
            model: In evaluation mode.
            task: What it predicts.
            decoding: How transcripts are found.
            device: Where to compute.
        """
        self._model, self._task, self._device = model.to(device), task, torch.device(device)
        beam = isinstance(task, AsrTask) and decoding.beam_width > 1
        self._beam = BeamDecoder(task.alphabet, decoding) if beam else None  # type: ignore[attr-defined]

    def side(
        self, source: TaskSource, tickets: Iterable[BatchTicket], name: str, columns: Sequence[str], shown: set[str]
    ) -> Predicted:
        """Predict every utterance of a side.

        Args:
            source: Loads micro-batches.
            tickets: They.
            name: The side.
            columns: Names of the layers (L).
            shown: Ids that are kept frame by frame.
        """
        rows: list[Row] = []
        embeddings: dict[str, np.ndarray] = {}
        over_time: dict[str, OverTime] = {}
        for ticket in tickets:
            batch = moved(source.load(ticket, 0), self._device)
            with torch.inference_mode():
                fused, output = self._model(batch)
                said = self._rows(output, batch)
            mask = batch[f"{FRAMES}_mask"].cpu().numpy()
            weights = None if fused.weights is None else fused.weights.float().cpu().numpy()
            used = [{} for _ in said] if weights is None else _used(weights, mask, columns)
            vectors = output.embeddings.float().cpu().numpy() if isinstance(output, Speakers) else None
            for row, piece in enumerate(ticket.pieces):
                key = piece.utterance_id
                if vectors is not None:
                    embeddings[key] = vectors[row]
                if weights is not None and key in shown:
                    over_time[key] = self._over_time(weights[row], output, row, piece.num_frames)
                labels = {"speaker": piece.labels.get("speaker")}
                about = {"utterance_id": key, "side": name, **labels, "num_frames": piece.num_frames}
                rows.append({**about, **said[row], **_reference(said[row], piece, self._task.label), **used[row]})
        found = sorted(rows, key=lambda row: str(row["utterance_id"]))
        return Predicted(rows=found, embeddings=embeddings, over_time=over_time)

    def _over_time(self, weights_TL: np.ndarray, output: Any, row: int, num_frames: int) -> OverTime:
        found = None
        if isinstance(self._task, AsrTask):
            found = spikes(output[row, :num_frames].float().cpu().numpy(), self._task.alphabet)
        return OverTime(weights=weights_TL[:num_frames], spikes=found)

    def _rows(self, output: Any, batch: Tensors) -> Sequence[Row]:
        if self._beam is not None and isinstance(self._task, AsrTask):
            texts = self._beam(output, batch[f"{FRAMES}_lengths"])
            return asr_rows(texts, references(batch), self._task.alphabet)
        said = self._task.rows(self._model.head, output, batch)
        if len(said) != len(batch[FRAMES]):
            raise DatasetError(f"{len(batch[FRAMES])} utterances gave {len(said)} rows; this is a defect")
        return said


def _reference(said: Row, piece: Piece, label: str) -> dict[str, Any]:
    """Give a stranger, who is no class, the name that the corpus gives."""
    return {"reference": piece.labels[label]} if said.get("reference", "") is None else {}


def _used(weights: np.ndarray, mask: np.ndarray, columns: Sequence[str]) -> list[dict[str, float]]:
    """Give the layer use of each utterance as columns."""
    use = layer_use(weights, mask)
    return [
        {
            **{f"{WEIGHT}{name}": float(use.mean[row, place]) for place, name in enumerate(columns)},
            **{f"{SPREAD}{name}": float(use.spread[row, place]) for place, name in enumerate(columns)},
            "entropy": float(use.entropy[row]),
            "frame_entropy": float(use.frame_entropy[row]),
        }
        for row in range(len(weights))
    ]
