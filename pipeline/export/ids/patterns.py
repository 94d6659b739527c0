"""From frame tokens of several layers to one sequence of ids, and back.

    single    a0 a1 a2 ...                 one layer
    flatten   a0 b0 a1 b1 a2 b2 ...        frame by frame, coarse layer first
    delay     a0 -- a1 b0 a2 b1 -- b2      layer b one frame later; -- is ``<|empty|>``

Deduplicated, a frame that repeats the one before it in all layers is left out, and how long each lasted is kept.
Everything here is arrays in, arrays out; each has its exact inverse.

Source of delays: J. Copet et al. 2023, MusicGen, section 2.2 (delay pattern); A. Defossez et al. 2024, Moshi, 3.4.4
(acoustic delay).
Shapes: T frames, L layers, N ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.vocabulary import EMPTY, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """How the tokens of a frame become ids.

    Attributes:
        columns: Token columns, as ``layer_07``, coarse layer first.
        delays: For each column, how many frames later its tokens come.
        deduplicate: Whether a frame that repeats the one before it is left out.
    """

    columns: tuple[str, ...]
    delays: tuple[int, ...]
    deduplicate: bool = False

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise SettingsError(f"a pattern needs layers that differ, got {list(self.columns)}")
        if len(self.delays) != len(self.columns) or min(self.delays) != 0:
            raise SettingsError(
                f"delays must give one number of frames for each of {list(self.columns)}, the least of them 0, "
                f"got {list(self.delays)}"
            )

    @property
    def name(self) -> str:
        """``single``, ``flatten`` or ``delay``."""
        if len(self.columns) == 1:
            return "single"
        return "delay" if any(self.delays) else "flatten"

    def num_ids(self, num_frames: int) -> int:
        """Count the ids of frames that are kept; 0 frames have none."""
        return (num_frames + max(self.delays)) * len(self.columns) if num_frames else 0

    def num_frames(self, num_ids: int) -> int:
        """Count the frames that can be kept within so many ids, at least 0."""
        return max(0, num_ids // len(self.columns) - max(self.delays))

    def to_json(self) -> dict[str, Any]:
        """Name the pattern and its parameters."""
        return {
            "name": self.name,
            "columns": list(self.columns),
            "delays": list(self.delays),
            "deduplicate": self.deduplicate,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Pattern":
        """Read what ``to_json`` gave."""
        return cls(
            columns=tuple(found["columns"]), delays=tuple(found["delays"]), deduplicate=bool(found["deduplicate"])
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitSequence:
    """The ids of one utterance.

    Attributes:
        ids: int64 (N,).
        durations: int32, frames that each kept frame lasted; None where none was left out on purpose.
    """

    ids: np.ndarray
    durations: np.ndarray | None


def deduplicate(tokens_TL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out each frame that repeats the one before it in all layers.

    Args:
        tokens_TL: Integers (T, L).

    Returns:
        Frames kept (R, L), and how many frames each stands for, int32 (R,).
    """
    starts = np.flatnonzero(np.r_[True, (tokens_TL[1:] != tokens_TL[:-1]).any(axis=1)][: len(tokens_TL)])
    durations = np.diff(np.r_[starts, len(tokens_TL)]).astype(np.int32)
    return tokens_TL[starts], durations


def repeat(tokens_RL: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Undo ``deduplicate``: (T, L) for frames kept (R, L) and their durations (R,)."""
    return np.repeat(tokens_RL, durations, axis=0)


def delay(tokens_TL: np.ndarray, delays: Sequence[int], empty: int) -> np.ndarray:
    """Move each layer to later frames.

    Args:
        tokens_TL: Integers (T, L), T at least 1.
        delays: L numbers of frames, at least 0.
        empty: What stands where a layer has no token.

    Returns:
        (T + max(delays), L).
    """
    num_frames = len(tokens_TL)
    delayed = np.full((num_frames + max(delays), len(delays)), empty, dtype=tokens_TL.dtype)
    for place, frames in enumerate(delays):
        delayed[frames : frames + num_frames, place] = tokens_TL[:, place]
    return delayed


def undelay(delayed: np.ndarray, delays: Sequence[int]) -> np.ndarray:
    """Undo ``delay``: (T, L) for (T + max(delays), L)."""
    num_frames = len(delayed) - max(delays)
    return np.stack([delayed[frames : frames + num_frames, place] for place, frames in enumerate(delays)], axis=1)


def encode(tokens: Mapping[str, np.ndarray], pattern: Pattern, vocabulary: Vocabulary) -> UnitSequence:
    """Turn the tokens of one utterance into ids.

    Args:
        tokens: Integers (T,) in [0, K) for each column of the pattern.
        pattern: How.
        vocabulary: Where each column's block begins.

    Raises:
        CorruptDatasetError: A token is past its codebook.
    """
    blocks = [vocabulary.layer(column) for column in pattern.columns]
    for block in blocks:
        column = tokens[block.name]
        if len(column) and int(column.max()) >= block.size:
            raise CorruptDatasetError(f"{block.name} holds token {int(column.max())}, its codebook has {block.size}")
    ids_TL = np.stack([tokens[block.name].astype(np.int64) + block.start for block in blocks], axis=1)
    durations = None
    if pattern.deduplicate:
        ids_TL, durations = deduplicate(ids_TL)
    if any(pattern.delays) and len(ids_TL):
        ids_TL = delay(ids_TL, pattern.delays, vocabulary.special(EMPTY))
    return UnitSequence(ids=ids_TL.reshape(-1), durations=durations)


def decode(sequence: UnitSequence, pattern: Pattern, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Undo ``encode``: the tokens of each column, int64 (T,).

    Raises:
        CorruptDatasetError: The ids are not those of such a pattern.
    """
    num_layers = len(pattern.columns)
    if len(sequence.ids) % num_layers or 0 < len(sequence.ids) <= max(pattern.delays) * num_layers:
        raise CorruptDatasetError(f"{len(sequence.ids)} ids are no sequence of {num_layers} layers")
    ids_TL = sequence.ids.astype(np.int64).reshape(-1, num_layers)
    if any(pattern.delays) and len(ids_TL):
        ids_TL = undelay(ids_TL, pattern.delays)
    if pattern.deduplicate:
        if sequence.durations is None or len(sequence.durations) != len(ids_TL):
            raise CorruptDatasetError("a deduplicated sequence needs a duration for each of its frames")
        ids_TL = repeat(ids_TL, sequence.durations)
    found = {}
    for place, column in enumerate(pattern.columns):
        block = vocabulary.layer(column)
        found[column] = ids_TL[:, place] - block.start
        if len(ids_TL) and not 0 <= found[column].min() <= found[column].max() < block.size:
            raise CorruptDatasetError(f"ids of {column} lie outside its block {block.start} to {block.end - 1}")
    return found
