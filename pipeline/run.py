"""All stages by one set of settings.

Writes ``OUTPUT/{manifest,features,codebooks,tokens}``, each a dataset that can be made again alone, a card beside each
codebook, and ``OUTPUT/tokenizer``, the folder that ``Tokenizer.from_pretrained`` loads. Run again, it does what is
missing.
"""

import logging
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Any, Literal

from pipeline.audio.segment_settings import SegmentSettings
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.audio.stage import prepare as prepare_manifest
from pipeline.errors import SettingsError
from pipeline.features.encoders import shipped
from pipeline.features.encoders.info import encoder_files
from pipeline.features.passes.settings import EncodingConfig
from pipeline.features.settings import ExtractFeaturesConfig, check_stratify_by
from pipeline.features.stage import extract_features
from pipeline.kmeans.cards.stage import CardsReport, DescribeCodebooksConfig, describe_codebooks
from pipeline.kmeans.fit.stage import FitKmeansConfig, fit_kmeans
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.status import STAGES
from pipeline.store.provenance import record_report
from pipeline.store.storage import join, open_store
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.tokens.tokenizer import save_bundle
from pipeline.work.reporting import StageReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunPipelineConfig(EncodingConfig, SegmentSettings):
    """Settings of run_pipeline."""

    corpus: str
    """Folder, listing, pattern of tars (a-{000..099}.tar) or Parquet file of the corpus, local or s3://."""
    layout: Literal["folder", "listing", "webdataset", "parquet", "librispeech", "fsdd", "emodb"]
    """How the corpus lies: any folder of audio, a CSV/JSONL/Parquet listing of files, audio inside tar shards or
    inside Parquet, or a known corpus."""
    output: str
    """Folder of the run, local or s3://."""
    num_clusters: int
    """Clusters of each layer's codebook (K), 2 to 65,536."""
    encoder: str = shipped.NAME
    """Encoder: a Hugging Face name, a local folder, or s3:// folder; default: encoder-small, the one that ships."""
    layers: tuple[int, ...] = ()
    """Encoder layers to keep: 0 is the input of the first block, l the raw output of block l; default, for
    encoder-small alone: 2 4 6."""
    audio_column: str | None = None
    """Column of Parquet that holds the audio; default: the one that does."""
    channels: Literal["mix", "pick", "split"] = "mix"
    """What to do with several channels: average them, pick one, or make each an utterance of its own."""
    pick_channel: int = 0
    """The channel that --channels pick takes, from 0."""
    roots: tuple[str, ...] = ()
    """Further folders or prefixes under which audio may lie, beside the corpus folder."""
    shard_minutes: float | None = None
    """Minutes of audio in a shard; default: total / 256, at least 0.5 and at most 30."""
    strict: bool = False
    """Stop at a duplicate utterance id instead of rejecting the later one."""
    all_features: bool = False
    """Keep the features of every frame; default: only the sample that the codebooks are fitted on."""
    frames_per_cluster: int = 500
    """Frames kept for each cluster to fit the codebooks on, unless --all-features: K times as many in all."""
    stratify_by: str | None = None
    """Column of the manifest, as speaker or language, whose values get equal shares of these frames."""
    num_quantizers: int = 1
    """Stages of a residual quantiser (RVQ), each a column of tokens."""
    max_iterations: int = 50
    """Iterations of K-means at most."""
    tolerance: float = 1e-4
    """Stop a layer's K-means when its inertia falls by less than this share in an iteration."""
    seed: int = 0
    """Seed of the choice of frames and of K-means."""
    agreement_frames: int = 2_000
    """Frames a layer, at least, that are encoded again alone in float32 to report how exact tokens are; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers and not shipped.is_shipped(self.encoder):
            raise SettingsError(f"layers must name at least one layer of {self.encoder}, as --layers 7 12")
        if self.frames_per_cluster < 1:
            raise SettingsError(f"frames_per_cluster must be at least 1, got {self.frames_per_cluster}")
        check_stratify_by(self.stratify_by)
        if self.stratify_by is not None and self.all_features:
            raise SettingsError("stratify_by divides a sample of the frames, and --all-features keeps every one")
        self.check_segments()
        FitKmeansConfig(features="", output="", **_fit_settings(self))


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


def _shared(config: Any, wanted: type) -> dict[str, Any]:
    """Pick the settings that a stage has under the same name; inputs and outputs are given one by one."""
    own = {field.name for field in fields(config)} - {"output", "max_reject_fraction"}
    return {field.name: getattr(config, field.name) for field in fields(wanted) if field.name in own}


def _fit_settings(config: RunPipelineConfig) -> dict[str, Any]:
    return _shared(config, FitKmeansConfig) | {"num_clusters": (config.num_clusters,)}


def with_layers(config: RunPipelineConfig) -> RunPipelineConfig:
    """Give the settings with layers: those of the encoder that ships, where none are named."""
    return config if config.layers else replace(config, layers=shipped.LAYERS)


def run_pipeline(config: RunPipelineConfig) -> PipelineReport:
    """Turn a corpus into tokens of several layers: manifest, features, codebooks, tokens.

    Raises:
        PipelineError: What a stage raises; the stages before it stay done.
    """
    config = with_layers(config)
    folder = {stage: join(config.output, stage) for stage in STAGES}
    limit = config.max_reject_fraction
    manifest = BuildManifestConfig(
        output=folder["manifest"], max_reject_fraction=limit, **_shared(config, BuildManifestConfig)
    )
    prepare_manifest(manifest)
    encoding = _shared(config, EncodingConfig) | {"max_reject_fraction": limit}
    EncodingConfig(**encoding).describe()
    reports = [build_manifest(manifest)]
    features = ExtractFeaturesConfig(
        manifest=folder["manifest"],
        output=folder["features"],
        sample_frames=None if config.all_features else config.frames_per_cluster * config.num_clusters,
        stratify_by=config.stratify_by,
        seed=config.seed,
        **encoding,
    )
    reports.append(extract_features(features))
    fit = FitKmeansConfig(features=folder["features"], output=folder["codebooks"], **_fit_settings(config))
    reports.append(fit_kmeans(fit))
    cards = describe_codebooks(
        DescribeCodebooksConfig(codebooks=fit.output, features=fit.features, runner=config.runner)
    )
    tokens = TokenizeCorpusConfig(
        manifest=folder["manifest"],
        codebooks=folder["codebooks"],
        output=folder["tokens"],
        agreement_frames=config.agreement_frames,
        **encoding,
    )
    reports.append(tokenize_corpus(tokens))
    _save_tokenizer(config, tokens)
    for report in reports:
        record_report(open_store(report.output), report.to_json())
    return PipelineReport(stage="run", output=config.output, encoder=encoding["encoder"], stages=reports, cards=cards)


def _save_tokenizer(config: RunPipelineConfig, tokens: TokenizeCorpusConfig) -> None:
    encoder = tokens.describe()
    save_bundle(
        join(config.output, "tokenizer"),
        encoder_files=partial(encoder_files, tokens.encoder, revision=tokens.revision),
        codebooks=read_codebooks(tokens.codebooks, tokens.layers, tokens.num_clusters),
        settings={
            "dtype": tokens.dtype,
            "normalize_waveform": encoder.normalize_waveform,
            "batch_seconds": tokens.batch_seconds,
            "window_seconds": tokens.window_seconds,
            "window_margin_seconds": tokens.window_margin_seconds,
        },
    )
