"""All stages by one set of settings.

Writes ``OUTPUT/{manifest,features,codebooks,tokens}``, each a dataset that can be made again alone, a card beside each
codebook, and ``OUTPUT/tokenizer``, the folder that ``Tokenizer.from_pretrained`` loads. Run again, it does what is
missing.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self

from pipeline.audio.corpus_settings import CorpusSettings
from pipeline.audio.filter_settings import FilterSettings
from pipeline.audio.label_settings import LabelSettings
from pipeline.audio.segment_settings import SegmentSettings
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.audio.stage import prepare as prepare_manifest
from pipeline.errors import SettingsError
from pipeline.features.encoders import shipped
from pipeline.features.encoders.info import encoder_files
from pipeline.features.passes.settings import EncodingSettings
from pipeline.features.settings import ExtractFeaturesConfig, check_stratify_by
from pipeline.features.stage import extract_features
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import CardsReport, count_cards
from pipeline.kmeans.fit.settings import FitKmeansConfig, FittingSettings, KmeansSettings, check_num_clusters
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.search.engines import EngineSettings
from pipeline.settings import Settings
from pipeline.store.dataset import Dataset
from pipeline.store.provenance import record_report
from pipeline.store.storage import join, located, open_store
from pipeline.tokens.settings import TokenEncodingSettings, TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.tokens.waveform_tokenizer import save_bundle
from pipeline.work.choice import RunnerSettings
from pipeline.work.reporting import StageReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PipelineEncodingSettings(EncodingSettings):
    """The encoder's passes, by default of the encoder that ships."""

    encoder: str = shipped.NAME
    """Encoder: a Hugging Face name, a local folder, or s3:// folder; default: encoder-small, the one that ships."""
    layers: tuple[int, ...] = ()
    """Encoder layers to keep: 0 is the input of the first block, l the raw output of block l; default, for
    encoder-small alone: 2 4 6."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers and not shipped.is_shipped(self.encoder):
            raise SettingsError(f"layers must name at least one layer of {self.encoder}, as --layers 7 12")


@dataclass(frozen=True, kw_only=True)
class RunPipelineConfig(Settings):
    """Settings of run_pipeline."""

    recordings: CorpusSettings
    """What the corpus is."""
    output: str
    """Folder of the run, local or s3://."""
    num_clusters: int
    """Clusters of each layer's codebook (K), 2 to 65,536."""
    segmentation: SegmentSettings = field(default_factory=SegmentSettings)
    """What an utterance is."""
    joined: LabelSettings = field(default_factory=LabelSettings)
    """Labels that lie beside the corpus."""
    filters: FilterSettings = field(default_factory=FilterSettings)
    """Which utterances are kept."""
    encoding: PipelineEncodingSettings = field(default_factory=PipelineEncodingSettings)
    """The encoder's passes."""
    all_features: bool = False
    """Keep the features of every frame; default: only the sample that the codebooks are fitted on."""
    frames_per_cluster: int = 500
    """Frames kept for each cluster to fit the codebooks on, unless --all-features: K times as many in all."""
    stratify_by: str | None = None
    """Column of the manifest, as speaker or language, whose values get equal shares of these frames."""
    kmeans: KmeansSettings = field(default_factory=KmeansSettings)
    """How a codebook is fitted."""
    search: EngineSettings = field(default_factory=EngineSettings)
    """How nearest centroids are searched for."""
    seed: int = 0
    """Seed of the choice of frames and of K-means."""
    agreement_frames: int = 2_000
    """Frames a layer, at least, that are encoded again alone in float32 to report how exact tokens are; 0: none."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if self.frames_per_cluster < 1:
            raise SettingsError(f"frames_per_cluster must be at least 1, got {self.frames_per_cluster}")
        check_stratify_by(self.stratify_by)
        if self.stratify_by is not None and self.all_features:
            raise SettingsError("stratify_by divides a sample of the frames, and --all-features keeps every one")
        check_num_clusters(self.num_clusters)

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        return located(self, "output", *self.encoding.paths())

    def manifest(self) -> BuildManifestConfig:
        """Give the settings of the first stage."""
        return BuildManifestConfig(
            recordings=self.recordings,
            output=join(self.output, "manifest"),
            segmentation=self.segmentation,
            joined=self.joined,
            filters=self.filters,
            decoding=self.encoding.decoding,
            num_workers=self.encoding.num_workers,
            work=self.work,
        )

    def features(self) -> ExtractFeaturesConfig:
        """Give the settings of the pass whose features the codebooks are fitted on."""
        return ExtractFeaturesConfig(
            manifest=join(self.output, "manifest"),
            output=join(self.output, "features"),
            encoding=self.encoding,
            sample_frames=None if self.all_features else self.frames_per_cluster * self.num_clusters,
            stratify_by=self.stratify_by,
            seed=self.seed,
            work=self.work,
        )

    def codebooks(self) -> FitKmeansConfig:
        """Give the settings of the codebooks."""
        return FitKmeansConfig(
            features=(join(self.output, "features"),),
            output=join(self.output, "codebooks"),
            fitting=FittingSettings(
                num_clusters=(self.num_clusters,),
                layers=self.encoding.layers,
                seed=self.seed,
                num_workers=self.encoding.num_workers,
            ),
            kmeans=self.kmeans,
            search=self.search,
            work=self.work,
        )

    def cards(self) -> DescribeCodebooksConfig:
        """Give the settings of the codebooks' cards."""
        return DescribeCodebooksConfig(
            codebooks=join(self.output, "codebooks"), features=join(self.output, "features"), work=self.work
        )

    def tokens(self) -> TokenizeCorpusConfig:
        """Give the settings of the last stage."""
        return TokenizeCorpusConfig(
            manifest=join(self.output, "manifest"),
            codebooks=join(self.output, "codebooks"),
            output=join(self.output, "tokens"),
            encoding=TokenEncodingSettings(**vars(self.encoding)),
            agreement_frames=self.agreement_frames,
            search=self.search,
            work=self.work,
        )


@dataclass(frozen=True, kw_only=True)
class PipelineReport:
    """The reports of all stages of a run."""

    stage: str
    output: str
    encoder: str
    stages: list[StageReport]
    cards: CardsReport

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("encoder", self.encoder)]
        for report in self.stages:
            lines += [("", ""), (report.stage, ""), *report.lines()]
        lines += [("", ""), (self.cards.stage, ""), *self.cards.lines()]
        return lines


def with_layers(config: RunPipelineConfig) -> RunPipelineConfig:
    """Give the settings with layers: those of the encoder that ships, where none are named."""
    return config if config.encoding.layers else config.but(layers=shipped.LAYERS)


def run_pipeline(config: RunPipelineConfig) -> PipelineReport:
    """Turn a corpus into tokens of several layers: manifest, features, codebooks, tokens.

    Raises:
        PipelineError: What a stage raises; the stages before it stay done.
    """
    config = with_layers(config)
    manifest, tokens = config.manifest(), config.tokens()
    prepare_manifest(manifest)
    config.encoding.describe()
    reports = [build_manifest(manifest), extract_features(config.features()), fit_kmeans(config.codebooks())]
    counted = count_cards(config.cards())
    if Dataset.open(config.features().output, kind="features").plan.lineage["sample_fraction"] == 1:
        # Every frame is there, as of a corpus of fewer frames than the codebooks could use.
        tokens = tokens.but(features=config.features().output)
    with ThreadPoolExecutor(1, "cards") as drawing:
        # One thread draws while the workers of the next stage start.
        cards = drawing.submit(counted.write)
        reports.append(tokenize_corpus(tokens))
    _save_tokenizer(config, tokens)
    for report in reports:
        record_report(open_store(report.output), report.to_json())
    return PipelineReport(
        stage="run", output=config.output, encoder=config.encoding.encoder, stages=reports, cards=cards.result()
    )


def _save_tokenizer(config: RunPipelineConfig, tokens: TokenizeCorpusConfig) -> None:
    encoding = tokens.encoding
    encoder = encoding.describe()
    save_bundle(
        join(config.output, "tokenizer"),
        encoder_files=partial(encoder_files, encoding.encoder, revision=encoding.revision),
        codebooks=read_codebooks(tokens.codebooks, encoding.layers, tokens.num_clusters),
        settings={
            "dtype": encoding.dtype,
            "normalize_waveform": encoder.normalize_waveform,
            "batch_seconds": encoding.batch_seconds,
            "window_seconds": encoding.window_seconds,
            "window_margin_seconds": encoding.window_margin_seconds,
        },
    )
