"""Settings of emotion recognition; loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.tasks.blocks.settings import EcapaSettings
from pipeline.training.settings import OptimizerSettings


@dataclass(frozen=True, kw_only=True)
class ErSettings(Settings):
    """The loss of emotion recognition."""

    class_weights: Literal["none", "inverse"] = "none"
    """Weight of each class in the loss: none, or the inverse of its share of the training utterances."""

    def __post_init__(self) -> None:
        if self.class_weights not in ("none", "inverse"):
            raise SettingsError(f"class_weights must be none or inverse, got {self.class_weights!r}")


@dataclass(frozen=True, kw_only=True)
class ErPreset:
    """Sizes, and how they are trained.

    Attributes:
        model: Sizes.
        loss: The loss.
        optimizer: How weights are updated.
        training: Values of TrainingSettings.
    """

    model: EcapaSettings
    loss: ErSettings
    optimizer: OptimizerSettings
    training: Mapping[str, Any] = field(default_factory=dict)


# 30 epochs of about 4,900 utterances (IEMOCAP's four classes without the test speaker), 2 in a step.
_PAPER_EPOCH = 2_450
ER_PRESETS: Mapping[str, ErPreset] = {
    "small": ErPreset(
        model=EcapaSettings(),
        loss=ErSettings(class_weights="inverse"),
        optimizer=OptimizerSettings(algorithm="adam", lr=1e-3, warmup_steps=50, decay="linear", weight_decay=2e-6),
        training={"num_steps": 400, "validate_every": 50, "best_by": "validation_uar", "best_order": "max"},
    ),
    "paper": ErPreset(
        model=EcapaSettings(ecapa_channels=1024, ecapa_pooled=3072, ecapa_attention=64, embedding_width=192),
        loss=ErSettings(),
        optimizer=OptimizerSettings(
            algorithm="adam",
            lr=2e-4,
            warmup_steps=0,
            decay="newbob",
            decay_factor=0.9,
            newbob_threshold=0.0025,
            newbob_patience=0,
            newbob_by="validation_error",
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            clip_norm=5.0,
        ),
        training={
            "num_steps": 30 * _PAPER_EPOCH,
            "validate_every": _PAPER_EPOCH,
            "best_by": "validation_accuracy",
            "best_order": "max",
        },
    ),
}
"""By name. ``paper`` is DASB's ECAPA head for IEMOCAP, in steps of 2 utterances."""
