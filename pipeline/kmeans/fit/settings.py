"""Settings of fit_kmeans, and the groups of them that other jobs have too."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.errors import SettingsError
from pipeline.kmeans.codebook import MAX_CLUSTERS
from pipeline.kmeans.fit.seeding import Seeding
from pipeline.kmeans.fit.state import Target
from pipeline.kmeans.search.engines import EngineSettings
from pipeline.settings import Settings
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class KmeansSettings(Settings):
    """How a codebook is fitted, in fit_kmeans, sweep_codebooks and run_pipeline."""

    num_quantizers: int = 1
    """Stages of a residual quantiser (RVQ), each a column of tokens: each fits what the stages before it leave."""
    max_iterations: int = 50
    """Iterations of K-means at most."""
    tolerance: float = 1e-4
    """End a fit when its inertia falls by less than this share in an iteration."""

    def __post_init__(self) -> None:
        check_counts(self, "num_quantizers", "max_iterations")
        if not 0 <= self.tolerance < 1:
            raise SettingsError(f"tolerance must be in [0, 1), got {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class FittingSettings(Settings):
    """Which codebooks are fitted, from what, and where, in fit_kmeans and sweep_codebooks."""

    num_clusters: tuple[int, ...]
    """Clusters of each layer's codebook (K), 2 to 65,536; several make a codebook each from one load of the data."""
    layers: tuple[int, ...] = ()
    """Layers to fit; default: every layer of the features."""
    init: Seeding = "k-means++"
    """First centroids: k-means++ or random rows of a sample of bounded size, or k-means|| over all rows."""
    seed: int = 0
    """Seed of the first centroids."""
    num_workers: int | None = None
    """Actors that hold the features; default: one a GPU, or one a CPU where there is none."""
    memory_per_worker: float | None = None
    """Gigabytes that each actor may take for features and for its work, beside Python, Ray and torch themselves;
    features past it lie on its local disk. Default: what Ray has on the smallest node, shared."""

    def __post_init__(self) -> None:
        if not self.num_clusters or len(set(self.num_clusters)) < len(self.num_clusters):
            raise SettingsError(f"num_clusters must name different numbers, got {list(self.num_clusters)}")
        for count in self.num_clusters:
            check_num_clusters(count)
        check_counts(self, "num_workers")
        if self.memory_per_worker is not None and not self.memory_per_worker > 0:
            raise SettingsError(f"memory_per_worker must be more than 0, got {self.memory_per_worker}")


@dataclass(frozen=True, kw_only=True)
class FitKmeansConfig(Settings):
    """Settings of fit_kmeans."""

    features: tuple[str, ...]
    """Features datasets of one encoder, local or s3://; the frames of all are fitted on together."""
    output: str
    """Folder of the codebooks, local or s3://."""
    fitting: FittingSettings
    """Which codebooks, and where."""
    kmeans: KmeansSettings = field(default_factory=KmeansSettings)
    """How a codebook is fitted."""
    fraction: float = 1.0
    """Share of the frames to fit on, chosen by hash; a smaller share is a subset of a larger one."""
    warm_start: tuple[float, ...] = ()
    """Shares of these frames to fit on first, one after the other, each to the tolerance, as 0.01 0.1: fewer iterations
    over all frames where these are very many."""
    max_minutes: float | None = None
    """End all fits after the iteration in which these minutes are over; then the result depends on the machine."""
    init_codebooks: str | None = None
    """Codebooks dataset whose centroids are the first ones instead, for more data or another domain."""
    seeding_frames_per_cluster: int = 64
    """k-means++ and random choose the first centroids among this many frames a cluster."""
    search: EngineSettings = field(default_factory=EngineSettings)
    """How nearest centroids are searched for."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if isinstance(self.features, str):
            raise SettingsError(f"features must be a tuple of datasets, got the string {self.features!r}")
        if not self.features or len(set(self.features)) < len(self.features):
            raise SettingsError(f"features must name one or more different datasets, got {list(self.features)}")
        if not 0 < self.fraction <= 1:
            raise SettingsError(f"fraction must be more than 0 and at most 1, got {self.fraction}")
        if any(not 0 < share < 1 for share in self.warm_start) or list(self.warm_start) != sorted(set(self.warm_start)):
            raise SettingsError(f"warm_start must rise and lie between 0 and 1, got {list(self.warm_start)}")
        check_counts(self, "seeding_frames_per_cluster")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise SettingsError(f"max_minutes must be more than 0, got {self.max_minutes}")

    def targets(self, layers: Sequence[int]) -> list[Target]:
        """Name the codebooks, stage after stage of each layer and K."""
        return [
            Target(layer=layer, num_clusters=count, quantizer=stage)
            for layer in layers
            for count in sorted(self.fitting.num_clusters)
            for stage in range(self.kmeans.num_quantizers)
        ]


def check_num_clusters(count: int) -> None:
    """Refuse a K that no codebook can have.

    Raises:
        SettingsError: It is out of range.
    """
    if not 2 <= count <= MAX_CLUSTERS:
        raise SettingsError(f"num_clusters must be in 2 to {MAX_CLUSTERS}, got {count}")


def check_counts(settings: Settings, *names: str) -> None:
    """Refuse numbers below 1 in these fields; None passes.

    Raises:
        SettingsError: One is.
    """
    for name in names:
        if (value := getattr(settings, name)) is not None and value < 1:
            raise SettingsError(f"{name} must be at least 1, got {value}")
