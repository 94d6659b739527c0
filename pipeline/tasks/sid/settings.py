"""Settings of speaker identification; loads no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.tasks.blocks.settings import EcapaSettings
from pipeline.training.settings import OptimizerSettings


@dataclass(frozen=True, kw_only=True)
class SidSettings(Settings):
    """The loss of speaker identification."""

    margin: float = 0.2
    """Angle by which the right speaker must be nearer than all others, radians."""
    scale: float = 30.0
    """What cosines are multiplied by before the softmax."""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.pi / 2:
            raise SettingsError(f"margin must be in [0, pi / 2) radians, got {self.margin}")
        if not self.scale > 0:
            raise SettingsError(f"scale must be above 0, got {self.scale}")


@dataclass(frozen=True, kw_only=True)
class SidPreset:
    """Sizes, and how they are trained.

    Attributes:
        model: Sizes.
        loss: The loss.
        crop_seconds: Random crop of each utterance in training, seconds.
        optimizer: How weights are updated.
        training: Values of TrainingSettings.
    """

    model: EcapaSettings
    loss: SidSettings
    crop_seconds: float
    optimizer: OptimizerSettings
    training: Mapping[str, Any] = field(default_factory=dict)


_BEST = {"best_by": "validation_accuracy", "best_order": "max"}
# 15 epochs of 133,777 utterances (nine tenths of VoxCeleb1's development part), 8 in a step.
_PAPER_EPOCH = 16_723
SID_PRESETS: Mapping[str, SidPreset] = {
    "small": SidPreset(
        model=EcapaSettings(),
        loss=SidSettings(),
        crop_seconds=3.0,
        optimizer=OptimizerSettings(algorithm="adam", lr=1e-3, warmup_steps=50, decay="linear", weight_decay=2e-6),
        training={"num_steps": 600, "validate_every": 100, **_BEST},
    ),
    "paper": SidPreset(
        model=EcapaSettings(ecapa_channels=1024, ecapa_pooled=3072, ecapa_attention=128, embedding_width=192),
        loss=SidSettings(),
        crop_seconds=3.0,
        optimizer=OptimizerSettings(
            algorithm="adam",
            lr=1e-3,
            warmup_steps=0,
            decay="cyclic",
            decay_steps=65_000,
            lr_end=1e-5,
            beta2=0.999,
            eps=1e-8,
            weight_decay=2e-6,
            clip_norm=5.0,
        ),
        training={"num_steps": 15 * _PAPER_EPOCH, "validate_every": _PAPER_EPOCH, **_BEST},
    ),
}
"""By name. ``paper`` is DASB's ECAPA head for VoxCeleb1, in steps of 8 crops; its lowest rate is 1e-8."""
