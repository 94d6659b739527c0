"""Pieces: utterances with their tokens or features, their labels and the place of their recording.

Letters: T frames, C token columns, L layers, D feature width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.errors import SettingsError

MAX_SECONDS = 60.0
"""Utterances longer than this are cut into pieces, so that a crop never costs the decoding of an hour."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """An utterance, or a stretch of a long one.

    Attributes:
        utterance_id: Its id.
        first_frame: Frame of the utterance at which it begins.
        num_frames: Its frames (T).
        tokens: uint16 (T, C), the columns in the order asked for; C is 0 where none were.
        features: float16 (T, L, D), the layers in the order asked for; L is 0 where none were.
        labels: The label columns asked for; None where the corpus says nothing.
        place: Where its recording lies: the ``PLACE`` of a manifest's row.
        whole: Whether it is the whole utterance.
    """

    utterance_id: str
    first_frame: int
    num_frames: int
    tokens: np.ndarray
    features: np.ndarray
    labels: Mapping[str, str | None]
    place: Mapping[str, Any]
    whole: bool

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.utterance_id}@{self.first_frame}"

    def stretch(self, first: int, num_frames: int) -> "Piece":
        """Cut frames out, ``num_frames`` from frame ``first`` of the piece on, or fewer at its end."""
        tokens_TC = self.tokens[first : first + num_frames]
        return replace(
            self,
            first_frame=self.first_frame + first,
            num_frames=len(tokens_TC),
            tokens=tokens_TC,
            features=self.features[first : first + num_frames],
            whole=False,
        )


@dataclass(frozen=True, kw_only=True)
class PieceSettings:
    """What pieces are made of.

    Attributes:
        manifest: Manifest dataset.
        clock: The encoder's frames.
        tokens: Tokens dataset made from the manifest; None for none.
        columns: Its columns wanted, as ``layer_07``.
        features: Features dataset of every frame, made from the manifest; None for none.
        layers: Its layers wanted.
        labels: Label columns of the manifest wanted, of ``schema.LABELS``.
        max_seconds: Longer utterances come in pieces of this length; None leaves every utterance whole, as where a
            label says something of all of it.
    """

    manifest: str
    clock: Clock
    tokens: str | None = None
    columns: tuple[str, ...] = ()
    features: str | None = None
    layers: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    max_seconds: float | None = MAX_SECONDS

    def __post_init__(self) -> None:
        if self.tokens is None and self.features is None:
            raise SettingsError(f"pieces of {self.manifest} need tokens or features; give one of them")
        for name, dataset, wanted in (
            ("columns", self.tokens, self.columns),
            ("layers", self.features, self.layers),
        ):
            if (dataset is not None) != bool(wanted):
                raise SettingsError(f"{name} says what of {dataset or 'no dataset'} is wanted, got {wanted!r}")
        if unknown := sorted(set(self.labels) - set(schema.LABELS)):
            raise SettingsError(
                f"labels {', '.join(unknown)} are no label columns of a manifest; it has {', '.join(schema.LABELS)}"
            )
