"""Settings that all training jobs share, checked before Ray starts."""

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import SettingsError

PLACEMENT = (
    *("num_workers", "max_workers", "threads_per_worker", "use_gpu", "max_failures", "storage_path"),
    *("checkpoint_every", "keep_checkpoints", "log_every", "cache_gb"),
)
"""Settings that say where and how safely a run computes, not what: they may change when it goes on."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained."""

    num_steps: int
    """Updates of the weights in all."""
    lr: float = 5e-4
    """Highest learning rate of AdamW."""
    warmup_steps: int = 1_000
    """Steps over which the learning rate rises from 0."""
    lr_end: float = 0.0
    """Learning rate of the last step, as a share of the highest."""
    decay: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up."""
    beta1: float = 0.9
    """Decay of AdamW's first moment."""
    beta2: float = 0.98
    """Decay of AdamW's second moment."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases, norms and other vectors have none."""
    clip_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it."""
    batch_seconds: float = 87.5
    """Audio in one micro-batch at most, seconds: what a worker's memory holds."""
    batches_per_step: int = 1
    """Micro-batches whose gradients make one step, over all workers: at least as many as there are workers."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the arithmetic under autocast; weights and AdamW's moments are float32."""
    seed: int = 0
    """Seed of first weights, order, crops, masks and dropout."""
    validate_every: int = 500
    """Steps between validations; 0: none."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints to keep, the latest ones."""
    log_every: int = 20
    """Steps over which a logged loss is averaged; a checkpoint ends such a stretch."""
    num_workers: int | None = None
    """Workers; default: one a GPU, or one where there is none."""
    max_workers: int | None = None
    """Workers up to which the run grows and shrinks with the cluster, from num_workers (default 1) on."""
    threads_per_worker: int | None = None
    """Compute threads of a worker on CPU; default: the CPUs of a node, shared by the workers."""
    use_gpu: bool | None = None
    """Whether each worker has a GPU; default: where the cluster has any."""
    max_failures: int = 8
    """Losses of a worker after which the run gives up; each time it goes on from the last checkpoint."""
    storage_path: str | None = None
    """Folder that all nodes see, for Ray Train's own files, local or s3://; default: in the output."""

    def __post_init__(self) -> None:
        for name in ("num_steps", "batches_per_step", "checkpoint_every", "keep_checkpoints", "log_every"):
            _at_least(self, name, 1)
        for name in ("num_workers", "max_workers", "threads_per_worker"):
            if getattr(self, name) is not None:
                _at_least(self, name, 1)
        for name in ("warmup_steps", "validate_every", "max_failures", "weight_decay"):
            _at_least(self, name, 0)
        for name in ("lr", "clip_norm", "batch_seconds"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.lr_end <= 1:
            raise SettingsError(f"lr_end must be in [0, 1], a share of lr, got {self.lr_end}")
        if self.warmup_steps >= self.num_steps:
            raise SettingsError(f"warmup_steps {self.warmup_steps} must be below num_steps {self.num_steps}")
        least, most = self.num_workers or 1, self.max_workers or self.num_workers or 1
        if least > most:
            raise SettingsError(f"num_workers {least} is above max_workers {most}")
        if most > self.batches_per_step:
            raise SettingsError(
                f"{most} workers need at least as many micro-batches in a step, so that each has one: "
                f"batches_per_step is {self.batches_per_step}"
            )


def _at_least(settings: TrainingSettings, name: str, least: int) -> None:
    if getattr(settings, name) < least:
        raise SettingsError(f"{name} must be at least {least}, got {getattr(settings, name)}")


def learning_content(settings: TrainingSettings) -> dict[str, Any]:
    """Give the settings that a model's weights depend on, for a content key."""
    own = TrainingSettings.__dataclass_fields__
    return {name: getattr(settings, name) for name in own if name not in PLACEMENT}
