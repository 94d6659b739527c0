"""A training run on Ray Train: workers, their loss and replacement, progress on the driver.

Every start of the workers, the first or after a loss, goes on from the latest whole checkpoint of the run's folder.
"""

import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from pipeline.errors import (
    ClusterShapeError,
    DatasetError,
    EncoderError,
    PipelineError,
    SettingsError,
    TrainingError,
)
from pipeline.store.storage import Store, join, open_store
from pipeline.training.checkpoint import latest_checkpoint
from pipeline.training.listeners import ReportListener
from pipeline.training.loop import Loop, is_over
from pipeline.training.progress import RAY_FOLDER, Progress, read_standing
from pipeline.training.recipe import Recipe, check_recipe
from pipeline.training.settings import TrainingSettings
from pipeline.training.world import World
from pipeline.work.joining import connect
from pipeline.work.meters import SILENT
from pipeline.work.ray_metrics import RayMeter
from pipeline.work.runtime import ALLOCATOR, set_threads, settle_allocator
from pipeline.work.stalls import StallWatch

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_LOG_EVERY_SECONDS = 10.0
_COLLECTIVE_TIMEOUT_SECONDS = 300
_RESIZE_SECONDS = 30.0
_LASTING = (SettingsError, DatasetError, EncoderError, TrainingError)
"""What workers raise again however often they are started."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a run lies on the cluster.

    Attributes:
        num_workers: Workers, or their least and most; 0 is this process, by Ray Train's local mode, without Ray.
        use_gpu: Whether each has a GPU.
        threads: Compute threads of each on CPU.
    """

    num_workers: int | tuple[int, int]
    use_gpu: bool
    threads: int

    def __str__(self) -> str:
        if self.num_workers == 0:
            return "this process, " + ("with a GPU" if self.use_gpu else f"{self.threads} thread(s)")
        count = self.num_workers if isinstance(self.num_workers, int) else "{} to {}".format(*self.num_workers)
        return f"{count} worker(s) " + ("with a GPU each" if self.use_gpu else f"of {self.threads} thread(s)")


def shape_of(settings: TrainingSettings) -> Shape:
    """Fit a run into the Ray cluster, started if need be, or into this process.

    Raises:
        ClusterShapeError: It does not fit.
    """
    if settings.runner == "here":
        use_gpu = torch.cuda.is_available() if settings.use_gpu is None else settings.use_gpu
        return Shape(num_workers=0, use_gpu=use_gpu, threads=settings.threads_per_worker or torch.get_num_threads())
    connect()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("GPU", "CPU"))
    use_gpu = gpus > 0 if settings.use_gpu is None else settings.use_gpu
    alone = use_gpu and settings.max_workers is None
    least = settings.num_workers or (min(gpus, settings.batches_per_step) if alone else 1)
    widest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    threads = settings.threads_per_worker or max(1, min(widest, cpus // max(1, least)))
    room = gpus if use_gpu else sum(int(node.get("CPU", 0)) // threads for node in nodes)
    if least > room or least < 1:
        need = "a GPU" if use_gpu else f"{threads} CPU(s)"
        raise ClusterShapeError(
            f"{max(1, least)} worker(s) with {need} each do not fit into {cpus} CPU and {gpus} GPU; "
            "lower --num-workers or --threads-per-worker, or add nodes"
        )
    count: int | tuple[int, int] = least if settings.max_workers is None else (least, settings.max_workers)
    return Shape(num_workers=count, use_gpu=use_gpu, threads=threads)


def train(
    recipe: Recipe, settings: TrainingSettings, output: str, *, shape: Shape, stage: str = "training"
) -> Progress:
    """Train until the run has ended and its last checkpoint is written.

    Within a trial of Ray Tune, the trial is told of every validation, or of every line of the log where there is none.

    Args:
        recipe: Networks, data and losses.
        settings: How to train.
        output: The run's folder, local or s3://, seen by all nodes.
        shape: What ``shape_of`` gave.
        stage: What is trained, as metrics name it.

    Returns:
        What the last checkpoint says of the run.

    Raises:
        PipelineError: What the workers raised, after ``max_failures`` restarts.
    """
    check_recipe(recipe, settings)
    store = open_store(output)
    progress = _ended(store, settings)
    if progress is None:
        if shape.num_workers == 0 and not shape.use_gpu:
            # Workers of Ray get it by their environment, and each length of a micro-batch is a shape to oneDNN.
            settle_allocator()
        watch, name = _Watch(output, stage), f"run-{time.time_ns()}"
        try:
            _trainer(recipe, settings, store.uri, shape, name, stage).fit()
        except ray.train.TrainingFailedError as error:
            raise _plain(error) from error
        finally:
            watch.stop()
        progress = _ended(store, settings)
        # Not the whole folder: another run of the same command may be in it.
        store.delete_tree(f"{RAY_FOLDER}/{name}")
    if progress is None:
        raise TrainingError(f"training stopped before its end in {output}; run the same command to go on")
    return progress


def _ended(store: Store, settings: TrainingSettings) -> Progress | None:
    """Read the latest checkpoint of a run that is over."""
    found = latest_checkpoint(store)
    return found.progress if found is not None and is_over(found.progress, settings) else None


def _trainer(
    recipe: Recipe, settings: TrainingSettings, output: str, shape: Shape, name: str, stage: str
) -> TorchTrainer:
    resources = {"CPU": 1.0, "GPU": 1.0} if shape.use_gpu else {"CPU": float(shape.threads)}
    storage, filesystem = _ray_storage(settings.storage_path or join(output, RAY_FOLDER))
    # Spelt as dictionaries, because Ray's stubs know the classes of Train V1 alone.
    # Nodes that a cluster takes back are no faults of the run: they are counted apart, without a limit.
    failures: dict[str, Any] = {"max_failures": settings.max_failures, "max_preemption_failures": -1}
    scaling: dict[str, Any] = {
        "num_workers": shape.num_workers,
        "use_gpu": shape.use_gpu,
        "resources_per_worker": resources,
        "elastic_resize_monitor_interval_s": _RESIZE_SECONDS,
    }
    run: dict[str, Any] = {
        "name": name,
        "storage_path": storage,
        "storage_filesystem": filesystem,
        "failure_config": FailureConfig(**failures),
        "worker_runtime_env": {"env_vars": {} if shape.use_gpu else ALLOCATOR},
        "logging_config": LoggingConfig(log_level="WARNING"),
        "callbacks": [_EndAtLastingFaults()],
    }
    told = {"recipe": recipe, "settings": settings, "output": output, "threads": shape.threads, "stage": stage}
    # In this process there is no Ray whose agents would take them.
    told["metered"] = shape.num_workers != 0
    if _in_tune_session():
        from ray.tune.integration.ray_train import TuneReportCallback

        run["callbacks"].append(TuneReportCallback())
        told["reports"] = True
    return TorchTrainer(
        train_worker,
        train_loop_config=told,
        torch_config=TorchConfig(backend="nccl" if shape.use_gpu else "gloo", timeout_s=_COLLECTIVE_TIMEOUT_SECONDS),
        scaling_config=ScalingConfig(**scaling),
        run_config=RunConfig(**run),
    )


def _ray_storage(uri: str) -> tuple[str, Any]:
    """Give Ray Train's folder, and for S3 the file system that our stores use: same credentials, same endpoint."""
    if not uri.startswith("s3://"):
        return uri, None
    import s3fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return uri.removeprefix("s3://"), PyFileSystem(FSSpecHandler(s3fs.S3FileSystem()))


class _EndAtLastingFaults(UserCallback):
    """Ends a run at once where starting its workers again would not help; lives in Ray Train's controller."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the first worker's own error: Ray Train ends a run whose callback fails."""
        for _, error in sorted(worker_exceptions.items()):
            if isinstance(error, _LASTING):
                raise error


def train_worker(config: dict[str, Any]) -> None:
    """Train in one worker; what Ray Train calls."""
    set_threads(config["threads"])
    context = ray.train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size(), device=ray.train.torch.get_device())
    if world.device.type == "cuda":
        # Objects are gathered on the current device, which would be the first one in every worker of a node.
        torch.cuda.set_device(world.device)
        torch.backends.cuda.matmul.allow_tf32 = False
    recipe, settings, store = config["recipe"], config["settings"], open_store(config["output"])
    reports = ReportListener(ray.train.report, validates=bool(settings.validate_every))
    listeners = [reports] if config.get("reports") else []
    meter = RayMeter() if config.get("metered") and world.rank == 0 else SILENT
    Loop(
        recipe, settings, store, world, listeners=listeners, leaving=_leaving, meter=meter, stage=config["stage"]
    ).run()


def _leaving() -> bool:
    """Say whether the cluster is about to take a node back; asked by all workers together."""
    return ray.train.get_preemption_info() is not None


def _in_tune_session() -> bool:
    """Say whether this process is a trial of Ray Tune; one that has not imported it is none."""
    if "ray.tune" not in sys.modules:
        return False
    from ray.tune.trainable.trainable_fn_utils import _in_tune_session as asked

    return bool(asked())


def _plain(error: Exception) -> PipelineError:
    """Turn Ray Train's error into ours: the first worker's own, where it was meant to be read."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if (ended := getattr(error, "controller_failure", None)) is not None:
        failures = {-1: ended}
    for rank, failure in sorted(failures.items()):
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        if isinstance(cause, SettingsError | PipelineError):
            return cause
        logger.debug("worker %d: %s", rank, failure)
    first = next(iter(failures.values()), error)
    return TrainingError(f"training stopped: {str(first).strip().splitlines()[-1]}; run the same command to go on")


class _Watch:
    """Shows the run's progress, and that there is none, on the driver while its main thread waits for Ray Train."""

    def __init__(self, output: str, stage: str) -> None:
        self._store = open_store(output)
        self._standing = "the workers have told of no step yet"
        self._stalls = StallWatch(stage, "no step was logged", lambda: self._standing)
        self._began = time.time()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show where the run is for the last time, and end."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        told, shown = 0.0, -1
        while True:
            ended = self._stopped.wait(_POLL_SECONDS)
            if ended or time.monotonic() - told >= _LOG_EVERY_SECONDS:
                standing = read_standing(self._store)
                if standing is not None and standing.time >= self._began and standing.step != shown:
                    told, shown, self._standing = time.monotonic(), standing.step, standing.line()
                    self._stalls.moved(f"step {standing.step:,}")
                    logger.info("%s", standing.line())
            self._stalls.look()
            if ended:
                return
