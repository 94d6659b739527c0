"""What a stage will cost, before it runs: counted from the manifest, and timed on a few seconds of the real work.

Reads: a finished manifest, a few of its recordings, and the encoder. Writes: ``_estimate.json`` in the output folder,
one number that the run's report compares with what it took. Restart: ask again. Memory: two columns of the manifest.
"""

import logging
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.estimation.calibration import Calibration, calibrate
from pipeline.estimation.corpus import CorpusSize, KeptFrames, corpus_size
from pipeline.estimation.sizing import Sample, Size, SizingWishes, size_up
from pipeline.estimation.stored import Stored, stored_audio
from pipeline.features.encoders.info import find, info_of
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.run import RunPipelineConfig, with_layers
from pipeline.store.dataset import Dataset
from pipeline.store.provenance import record_estimate
from pipeline.store.storage import join, open_store
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.work.executor import stage_shape
from pipeline.work.worker_shape import WorkerShape

Estimated = ExtractFeaturesConfig | TokenizeCorpusConfig | RunPipelineConfig

logger = logging.getLogger(__name__)

_MOST_CALIBRATED = 4
_STORED_SHARDS = 2
_BUDGETS = {"cpu": (4.0, 8.0, 16.0), "cuda": (30.0, 120.0, 480.0)}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will cost. The counts are exact for whole recordings; the times come from a few seconds of work.

    Attributes:
        stage: ``estimate``.
        output: The folder that the run will write.
        corpus: What the manifest holds, as the encoder sees it.
        passes: Times the corpus goes through the encoder.
        batch_seconds: Batch budget that the settings have.
        proposed_batch_seconds: The fastest of those tried.
        speeds: Times real time of one worker by batch budget.
        gflop_per_audio_second: Arithmetic of the encoder, without padding.
        peak_gflops: Fastest matrix product of a worker's device, 10^9 operations a second.
        share_of_peak: Share of it that a worker reaches with the settings' budget.
        workers: How the work will lie on the cluster.
        num_workers: Encoder actors.
        decode_speed: Times real time of one decode task.
        decode_cpus_per_worker: CPU cores of decoding that one worker needs.
        startup_seconds: Time until the first worker is ready, without Ray's own start.
        wall_seconds: How long the run will take, start included, agreement and K-means not.
        sizes: What corpora of other sizes would take.
    """

    stage: str
    output: str
    corpus: CorpusSize
    passes: int
    batch_seconds: float
    proposed_batch_seconds: float
    speeds: dict[float, float]
    gflop_per_audio_second: float
    peak_gflops: float
    share_of_peak: float
    workers: str
    num_workers: int
    decode_speed: float
    decode_cpus_per_worker: float
    startup_seconds: float
    wall_seconds: float
    sizes: tuple[Size, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the estimate as plain JSON values."""
        sizes = [{**asdict(size), "bottleneck": size.bottleneck} for size in self.sizes]
        return {**asdict(self), "sizes": sizes}

    def lines(self) -> list[tuple[str, str]]:
        """Give the estimate as label and value pairs."""
        size = self.corpus
        tried = ", ".join(f"{budget:g} s: {speed:.1f}" for budget, speed in sorted(self.speeds.items()))
        kept = f"{size.features_frames:,} frames" if size.features_frames < size.num_frames else "every frame"
        lines = [
            ("audio", f"{size.audio_hours:,.3f} h in {size.utterances:,} utterances, {size.shards:,} shards"),
            ("tokens", f"{size.num_tokens:,} of {size.num_frames:,} frames"),
            ("features on disk", f"{size.features_bytes / 1e9:,.3f} GB with {kept}"),
            ("arithmetic", f"{self.gflop_per_audio_second:.1f} GFLOP a second of audio, {size.gflop / 1e3:,.1f} TFLOP"),
            ("times real time", f"one worker, by batch budget: {tried}"),
            ("batch budget", f"{self.batch_seconds:g} s is set, {self.proposed_batch_seconds:g} s was fastest"),
            ("padding", f"{size.padding[self.batch_seconds]:.1%} of what is encoded, margins {size.overlap:.1%}"),
            ("share of peak", f"{self.share_of_peak:.0%} of {self.peak_gflops:,.0f} GFLOP/s a worker"),
            ("workers", self.workers),
            (
                "decoding",
                f"{self.decode_speed:,.0f} times real time a task: {self.decode_cpus_per_worker:.2f} CPU a worker",
            ),
            ("wall time", f"{_hours(self.wall_seconds)}, of which {self.startup_seconds:.0f} s start"),
        ]
        if size.tokens_bytes:
            lines.insert(3, ("tokens on disk", f"{size.tokens_bytes / 1e6:,.3f} MB"))
        if size.left_out:
            lines.insert(1, ("left out", f"{size.left_out:,} utterances, too short or too long"))
        return [*lines, *((f"for {each.audio_hours:,.10g} h", each.line()) for each in self.sizes)]


def _hours(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def estimate(config: Estimated, wishes: SizingWishes | None = None) -> Estimate:
    """Say what a run with these settings will cost, and what it would cost on corpora of other sizes.

    Args:
        config: Settings of extract_features, tokenize_corpus (from audio) or run_pipeline.
        wishes: Those sizes.

    Raises:
        SettingsError: The job has no estimate, or works from features.
        DatasetError: The manifest is not there yet; the message says how to make it.
    """
    manifest_uri, output, passes = _place(config)
    config = config.located()
    num_clusters: dict[str, int] = {}
    if isinstance(config, TokenizeCorpusConfig):
        books = read_codebooks(config.codebooks, config.encoding.layers, config.num_clusters)
        config = config.but(layers=tuple(sorted({book.layer for book in books})))
        num_clusters = {book.column: book.num_clusters for book in books}
    elif isinstance(config, RunPipelineConfig):
        config = with_layers(config)
        columns = [
            schema.token_column(layer, stage)
            for layer in sorted(config.encoding.layers)
            for stage in range(config.kmeans.num_quantizers)
        ]
        num_clusters = dict.fromkeys(columns, config.num_clusters)
    source = find(config.encoding.encoder, config.encoding.revision)
    info = info_of(source, config.encoding.normalize_waveform)
    manifest = Manifest(manifest_uri)
    choice = config.work.choice(manifest.seconds)
    shape = stage_shape(choice, config.encoding.placement)
    budgets = tuple(dict.fromkeys((config.encoding.batch_seconds, *_BUDGETS[shape.device])))
    size = corpus_size(
        manifest,
        config.encoding,
        info,
        source.config,
        num_clusters=num_clusters,
        budgets=(config.encoding.batch_seconds,),
        sample=_sample(config),
    )
    if isinstance(config, RunPipelineConfig) and size.features_frames == size.num_frames:
        # Tokens are then made of the features.
        output, passes = config.features().output, 1
    logger.info("calibrating on %s", shape)
    some = (config.encoding, manifest_uri, shape.device, _middle(manifest.units), budgets, time.time())
    count = min(shape.num_workers, _MOST_CALIBRATED)
    # All at once, each as an encoder is.
    found = list(
        choice.runner.tasks(_calibrate, [()] * count, shared=some, workers=count, cpus=shape.cpus, gpus=shape.gpus)
    )
    result = _put_together(config, output, passes, size, shape, found)
    if wishes is not None and wishes.hours:
        stored = stored_audio(manifest, _middle(manifest.units)[:_STORED_SHARDS])
        sample = _hour(config, result, size, shape, stored, info.sample_rate)
        if wishes.speed is not None:
            sample = replace(sample, speed=wishes.speed, decode_cores=None)
        result = replace(result, sizes=size_up(sample, wishes))
    record_estimate(open_store(output), result.wall_seconds / passes)
    return result


def _place(config: Estimated) -> tuple[str, str, int]:
    """Give the manifest, the output folder, and how often the corpus is encoded."""
    if isinstance(config, RunPipelineConfig):
        manifest, output, passes = join(config.output, "manifest"), join(config.output, "tokens"), 2
    elif isinstance(config, TokenizeCorpusConfig):
        if config.manifest is None or config.features is not None:
            raise SettingsError("--estimate is for the encoder; tokens from --features cost no encoding")
        manifest, output, passes = config.manifest, config.output, 1
    elif isinstance(config, ExtractFeaturesConfig):
        manifest, output, passes = config.manifest, config.output, 1
    else:
        raise SettingsError("--estimate is for extract_features, tokenize_corpus and run_pipeline")
    try:
        Dataset.open(manifest, kind="manifest")
    except DatasetError as error:
        raise DatasetError(
            f"an estimate counts the rows of a manifest, and {manifest} is none yet ({error}); make it with "
            f"build_manifest --output {manifest} and the corpus's --corpus and --layout, then ask again"
        ) from error
    return os.path.abspath(manifest) if "://" not in manifest else manifest, output, passes


def _sample(config: Estimated) -> KeptFrames | None:
    """Say which frames the settings keep as features."""
    if isinstance(config, ExtractFeaturesConfig):
        return KeptFrames(fraction=config.sample_fraction, frames=config.sample_frames)
    if isinstance(config, RunPipelineConfig) and not config.all_features:
        return KeptFrames(frames=config.frames_per_cluster * config.num_clusters)
    return None


def _middle(units: list[str]) -> list[str]:
    """Order shards from the middle of the corpus on: its ends are the least like the rest."""
    middle = len(units) // 2
    return [*units[middle:], *units[:middle]]


def _calibrate(some: tuple[Any, ...]) -> Calibration:
    return calibrate(*some)


def _put_together(
    config: Estimated, output: str, passes: int, size: CorpusSize, shape: WorkerShape, found: list[Calibration]
) -> Estimate:
    """Spread the measured speed of one worker over all of them."""
    count = len(found)
    speeds = {
        budget: sum(one.encode_speed[budget] for one in found) / count
        for budget in found[0].encode_speed
        if all(budget in one.encode_speed for one in found)
    }
    seconds = size.audio_hours * 3600
    speed = speeds[config.encoding.batch_seconds]
    startup = max(one.load_seconds for one in found)
    # A worker that has done its share waits for the others: on average half a shard.
    tail = seconds / max(1, size.shards) / speed / 2
    encoding = seconds / speed / shape.num_workers / (1 - size.overlap)
    per_second = size.gflop / max(1e-9, seconds)
    peak = sum(one.peak_flops for one in found) / count / 1e9
    decode = sum(one.decode_speed for one in found) / count
    return Estimate(
        stage="estimate",
        output=output,
        corpus=size,
        passes=passes,
        batch_seconds=config.encoding.batch_seconds,
        proposed_batch_seconds=max(speeds, key=lambda budget: speeds[budget]),
        speeds=speeds,
        gflop_per_audio_second=per_second,
        peak_gflops=peak,
        share_of_peak=speed * per_second / peak,
        workers=str(shape),
        num_workers=shape.num_workers,
        decode_speed=decode,
        decode_cpus_per_worker=speed / max(1e-9, decode),
        startup_seconds=startup,
        wall_seconds=passes * (startup + encoding + tail),
    )


def _hour(
    config: Estimated, result: Estimate, size: CorpusSize, shape: WorkerShape, stored: Stored | None, rate: int
) -> Sample:
    """Say what an hour of this corpus is like."""
    kept = _sample(config)
    fixed = kept is not None and kept.frames is not None
    hours = max(1e-9, size.audio_hours)
    # A sample of fixed size is no larger where there is more.
    wanted = kept.frames * size.features_bytes / max(1, size.features_frames) if kept and kept.frames else 0.0
    return Sample(
        utterances=size.utterances / hours,
        whole_files=stored is None or stored.whole_files,
        stored_bytes=None if stored is None else 3600 * stored.bytes_per_second,
        features_bytes=0.0 if fixed or isinstance(config, TokenizeCorpusConfig) else size.features_bytes / hours,
        tokens_bytes=size.tokens_bytes / hours,
        fixed_bytes=wanted,
        sample_rate=rate,
        # A corpus that is smaller than its sample is encoded once, and a larger one is not.
        passes=2 if isinstance(config, RunPipelineConfig) and not config.all_features else 1,
        speed=result.speeds[result.batch_seconds],
        decode_speed=result.decode_speed,
        decode_cores=shape.decoders * shape.decode_cpus / shape.num_workers,
        shard_minutes=config.recordings.shard_minutes if isinstance(config, RunPipelineConfig) else None,
    )
