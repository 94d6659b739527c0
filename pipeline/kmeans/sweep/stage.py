"""Fit codebooks of several K on several shares of the frames, describe them, and draw the curves.

Reads: a features dataset, and another to describe them on. Writes: ``OUTPUT/fraction_0.1``, a codebooks dataset with
cards for each share, and ``OUTPUT/sweep.{json,md}`` with ``layer_07.png``. Restart: each dataset goes on where it was.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.cards.plots import can_plot
from pipeline.errors import SettingsError
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig, SpeechSettings
from pipeline.kmeans.cards.stage import describe_codebooks, read_cards
from pipeline.kmeans.fit.settings import FitKmeansConfig, FittingSettings, KmeansSettings
from pipeline.kmeans.fit.stage import fit_kmeans, prepare
from pipeline.kmeans.search.engines import EngineSettings
from pipeline.kmeans.sweep.curves import Point, draw, plot_name, point, render, to_json
from pipeline.settings import Settings
from pipeline.store.dataset import Dataset
from pipeline.store.storage import absolute, join, open_store
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class SweepCodebooksConfig(Settings):
    """Settings of sweep_codebooks."""

    features: str
    """Features dataset to fit on, local or s3://."""
    output: str
    """Folder of the codebooks and the curves, local or s3://."""
    sweep: tuple[float, ...] = (1.0,)
    """Shares of the frames to fit on, as 0.1 0.3 1: the curve over the amount of data."""
    described_on: str | None = None
    """Features dataset to describe the codebooks on, best of speech they were not fitted on; default: --features."""
    fitting: FittingSettings
    """Which codebooks, and where."""
    kmeans: KmeansSettings = field(default_factory=KmeansSettings)
    """How a codebook is fitted."""
    search: EngineSettings = field(default_factory=EngineSettings)
    """How nearest centroids are searched for."""
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    """What the codes are compared with."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if not self.sweep or len(set(self.sweep)) < len(self.sweep):
            raise SettingsError(f"sweep must name different shares of the frames, got {list(self.sweep)}")
        # Built once here for their own checks.
        for share in self.sweep:
            self.fit(share)
        self.describe(self.sweep[0])

    def folder(self, share: float) -> str:
        """Name the codebooks dataset of a share of the frames."""
        return join(self.output, f"fraction_{share:g}")

    def fit(self, share: float) -> FitKmeansConfig:
        """Give the settings of the fits on a share of the frames."""
        return FitKmeansConfig(
            features=(self.features,),
            output=self.folder(share),
            fraction=share,
            fitting=self.fitting,
            kmeans=self.kmeans,
            search=self.search,
            work=self.work,
        )

    def describe(self, share: float) -> DescribeCodebooksConfig:
        """Give the settings of the cards of these."""
        return DescribeCodebooksConfig(
            codebooks=self.folder(share),
            features=self.described_on or self.features,
            layers=self.fitting.layers,
            speech=self.speech,
            num_workers=self.fitting.num_workers,
            work=self.work,
        )


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What sweep_codebooks did.

    Attributes:
        stage: ``sweep``.
        output: Its folder.
        codebooks: Codebooks described.
        plots: Whether plots were drawn.
        wall_seconds: Time this run took.
        summary: One line a codebook.
    """

    stage: str
    output: str
    codebooks: int
    plots: bool
    wall_seconds: float
    summary: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        return [
            ("output", f"{self.output}/sweep.md"),
            ("codebooks", f"{self.codebooks:,}"),
            ("plots", "yes" if self.plots else 'none: pip install "strata-tokens[plots]"'),
            ("wall time", f"{self.wall_seconds:.1f} s"),
            *self.summary.items(),
        ]


def sweep_codebooks(config: SweepCodebooksConfig) -> SweepReport:
    """Fit codebooks of each K on each share of the frames, with cards, and draw curves over both.

    Raises:
        PipelineError: What fit_kmeans and describe_codebooks raise; what they finished stays done.
    """
    began = time.monotonic()
    described_on = absolute(config.described_on or config.features)
    Dataset.open(described_on, kind="features")
    shares = sorted(config.sweep)
    for share in shares:
        prepare(config.fit(share))
    points = []
    for share in shares:
        fit_kmeans(config.fit(share))
        describe_codebooks(config.describe(share))
        cards = read_cards(open_store(config.folder(share)))
        points += [point(card, share) for card in cards]
    points.sort(key=lambda each: (each.layer, each.quantizer, each.num_clusters, each.fraction))
    facts = {
        "version": 1,
        "features": absolute(config.features),
        "described_on": described_on,
        "seed": config.fitting.seed,
    }
    plots = can_plot()
    _write(config.output, points, facts, plots=plots)
    return SweepReport(
        stage="sweep",
        output=config.output,
        codebooks=len(points),
        plots=plots,
        wall_seconds=time.monotonic() - began,
        summary={_name(each): _summary(each) for each in points},
    )


def _write(output: str, points: list[Point], facts: Mapping[str, Any], *, plots: bool) -> None:
    store = open_store(output)
    for layer in {each.layer for each in points} if plots else ():
        store.write(plot_name(layer), draw([each for each in points if each.layer == layer]))
    store.write("sweep.md", render(points, facts, plots=plots).encode())
    store.write("sweep.json", to_json(points, facts))


def _name(each: Point) -> str:
    stage = f" q{each.quantizer}" if each.quantizer else ""
    return f"layer {each.layer}, K {each.num_clusters:,}{stage}, share {each.fraction:g}"


def _summary(each: Point) -> str:
    explained = "none" if each.explained_variance is None else f"{each.explained_variance:.1%}"
    return f"explained variance {explained}, perplexity {each.perplexity:,.0f}, {each.dead:,} dead codes"
