"""Settings that all training jobs share, checked before Ray starts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.work.choice import RunnerName

PLACEMENT = (
    *(
        "runner",
        "num_workers",
        "max_workers",
        "threads_per_worker",
        "loaders",
        "use_gpu",
        "max_failures",
        "storage_path",
    ),
    *("checkpoint_every", "keep_checkpoints", "log_every", "max_hours"),
)
"""Settings that say where, how safely and how long a run computes, not what: they may change when it goes on."""

_SINCE = (
    *("algorithm", "decay_factor", "decay_steps", "newbob_by", "newbob_threshold", "newbob_patience"),
    *("eps", "rho", "momentum", "best_by", "best_order", "patience"),
)
"""Settings that came later: a content key holds them where they are not the default, so older folders stay valid."""

Algorithm = Literal["adamw", "adam", "adadelta", "sgd"]
Decay = Literal["linear", "cosine", "constant", "noam", "newbob", "cyclic", "exponential"]


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How the weights of a network are updated."""

    algorithm: Algorithm = "adamw"
    """Rule that turns gradients into updates."""
    lr: float = 5e-4
    """Highest learning rate."""
    warmup_steps: int = 1_000
    """Steps over which the learning rate rises from 0."""
    lr_end: float = 0.0
    """Learning rate of the last step as a share of the highest; for cyclic, the lowest one."""
    decay: Decay = "linear"
    """How the learning rate goes on after the warm-up."""
    decay_factor: float = 0.8
    """What newbob and exponential multiply the learning rate by."""
    decay_steps: int = 1_000
    """Steps between two multiplications of exponential, or from the lowest to the highest rate of cyclic."""
    newbob_by: str = "validation_loss"
    """Metric that newbob waits for to fall."""
    newbob_threshold: float = 0.0025
    """Least share of the metric before by which it must fall, for newbob to leave the learning rate alone."""
    newbob_patience: int = 0
    """Validations without such a fall that newbob forgives before it multiplies."""
    beta1: float = 0.9
    """Decay of the first moment of Adam and AdamW."""
    beta2: float = 0.98
    """Decay of the second moment of Adam and AdamW."""
    eps: float = 1e-6
    """What is added to the denominator of an update; SGD has none."""
    rho: float = 0.95
    """Decay of Adadelta's averages."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases, norms and other vectors have none."""
    clip_norm: float = 1.0
    """Gradients with a larger norm are scaled down to it; inf: never."""

    def __post_init__(self) -> None:
        for name in ("warmup_steps", "newbob_patience", "weight_decay", "newbob_threshold"):
            _at_least(self, name, 0)
        _at_least(self, "decay_steps", 1)
        for name in ("lr", "clip_norm", "eps"):
            _above_zero(self, name)
        for name in ("beta1", "beta2", "rho", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.lr_end <= 1:
            raise SettingsError(f"lr_end must be in [0, 1], a share of lr, got {self.lr_end}")
        if not 0 < self.decay_factor <= 1:
            raise SettingsError(f"decay_factor must be above 0 and at most 1, got {self.decay_factor}")
        if self.decay == "noam" and self.warmup_steps < 1:
            raise SettingsError("decay noam is made of its warm-up: warmup_steps must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long a model is trained, how often it is looked at, and where."""

    num_steps: int
    """Updates of the weights in all, at most."""
    batches_per_step: int = 1
    """Micro-batches whose gradients make one step, over all workers: at least as many as there are workers."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the arithmetic under autocast; weights and the optimizer's state are float32."""
    seed: int = 0
    """Seed of first weights, order, crops, masks and dropout."""
    validate_every: int = 500
    """Steps between validations; 0: none."""
    best_by: str | None = None
    """Metric of validation that says which weights are the best, as validation_loss; default: the last are kept."""
    best_order: Literal["min", "max"] = "min"
    """Whether the best is the smallest or the largest."""
    patience: int = 0
    """Validations without a better one after which training ends; 0: it goes on to num_steps."""
    max_hours: float | None = None
    """Hours of training after which it ends, all starts together; default: it goes on to num_steps."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints to keep, the latest ones; the best is kept too."""
    log_every: int = 20
    """Steps over which a logged loss is averaged; a checkpoint ends such a stretch."""
    loaders: int = 1
    """Threads of a worker that load micro-batches."""
    runner: RunnerName = "auto"
    """Who trains: ray, which replaces workers that are lost, or here, which is one worker in this process; auto is
    ray."""
    num_workers: int | None = None
    """Workers; default: one per GPU, or one where there is none."""
    max_workers: int | None = None
    """Workers up to which the run grows and shrinks with the cluster, from num_workers (default 1) on."""
    threads_per_worker: int | None = None
    """Compute threads of a worker on CPU; default: the CPUs of a node, shared by the workers."""
    use_gpu: bool | None = None
    """Whether each worker has a GPU; default: where the cluster has any."""
    max_failures: int = 8
    """Losses of a worker after which the run gives up, nodes that the cluster takes back not counted; each time it goes
    on from the last checkpoint."""
    storage_path: str | None = None
    """Folder that all nodes see, for Ray Train's own files, local or s3://; default: in the output."""

    def check_validated(self, held_out: str) -> None:
        """Refuse a ``best_by`` that no validation can give.

        Args:
            held_out: Name of the set that is validated on; its metrics begin with it.

        Raises:
            SettingsError: ``best_by`` does not begin so.
        """
        if self.best_by is not None and not self.best_by.startswith(f"{held_out}_"):
            raise SettingsError(
                f"best_by {self.best_by} is no metric of validation: those begin with {held_out}_, as {held_out}_loss"
            )

    def __post_init__(self) -> None:
        for name in ("num_steps", "batches_per_step", "checkpoint_every", "keep_checkpoints", "log_every", "loaders"):
            _at_least(self, name, 1)
        for name in ("num_workers", "max_workers", "threads_per_worker"):
            if getattr(self, name) is not None:
                _at_least(self, name, 1)
        for name in ("validate_every", "max_failures", "patience"):
            _at_least(self, name, 0)
        if self.max_hours is not None:
            _above_zero(self, "max_hours")
        if self.patience and self.best_by is None:
            raise SettingsError("patience waits for a better validation: best_by must name the metric")
        if self.best_by is not None and not self.validate_every:
            raise SettingsError("best_by chooses among validations: validate_every must be at least 1, got 0")
        least, most = self.num_workers or 1, self.max_workers or self.num_workers or 1
        if self.runner == "here" and most > 1:
            raise SettingsError(f"runner here is one worker in this process, got {most}; take --runner ray")
        if least > most:
            raise SettingsError(f"num_workers {least} is above max_workers {most}")
        if most > self.batches_per_step:
            raise SettingsError(
                f"{most} workers need at least as many micro-batches in a step, so that each has one: "
                f"batches_per_step is {self.batches_per_step}"
            )


def check_together(training: TrainingSettings, optimizer: OptimizerSettings) -> None:
    """Refuse settings that are right alone and cannot work together.

    Raises:
        SettingsError: They cannot.
    """
    if optimizer.warmup_steps >= training.num_steps and optimizer.decay != "noam":
        raise SettingsError(
            f"warmup_steps {optimizer.warmup_steps} must be below num_steps {training.num_steps}; give fewer "
            "--warmup-steps, or more --num-steps"
        )
    if optimizer.decay == "newbob" and not training.validate_every:
        raise SettingsError("decay newbob waits for validations: validate_every must be at least 1, got 0")


def learning_content(training: TrainingSettings, optimizer: OptimizerSettings | None = None) -> dict[str, Any]:
    """Give the settings that a model's weights depend on, for a content key.

    Args:
        training: How long, and how often it is looked at.
        optimizer: How weights are updated; None where a recipe has several and names them itself.
    """
    found: dict[str, Any] = {}
    for settings in (training, optimizer):
        if settings is not None:
            found |= _told(settings)
    return found


def _told(settings: TrainingSettings | OptimizerSettings) -> Mapping[str, Any]:
    own = [field for field in fields(settings) if field.name not in PLACEMENT]
    values = {field.name: getattr(settings, field.name) for field in own}
    default = {field.name: field.default for field in own}
    return {name: value for name, value in values.items() if name not in _SINCE or value != default[name]}


def _at_least(settings: object, name: str, least: int) -> None:
    if not getattr(settings, name) >= least:
        raise SettingsError(f"{name} must be at least {least}, got {getattr(settings, name)}")


def _above_zero(settings: object, name: str) -> None:
    if not getattr(settings, name) > 0:
        raise SettingsError(f"{name} must be above 0, got {getattr(settings, name)}")
