"""A few seconds of the real work, to tell how fast the rest will go: one worker loads, decodes and encodes a sample."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.loading import ShardLoader, open_manifest
from pipeline.features.passes.device import EncodeLog
from pipeline.features.passes.extractor import FeatureExtractor
from pipeline.features.passes.matmul import matmul_peak
from pipeline.features.passes.settings import EncodingSettings, shard_loader

_SECONDS_A_BUDGET = 4.0
_MOST_SAMPLE_SECONDS = 1_800.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What one worker measured.

    Attributes:
        load_seconds: Time until the worker had started and its encoder was loaded.
        sample_seconds: Seconds of audio in the sample.
        decode_speed: Times real time of one decode task.
        encode_speed: Times real time of the encoder by batch budget, padding included in the time.
        peak_flops: Fastest matrix product of the device, operations a second.
    """

    load_seconds: float
    sample_seconds: float
    decode_speed: float
    encode_speed: dict[float, float]
    peak_flops: float


def calibrate(
    config: EncodingSettings,
    manifest: str,
    device: str,
    units: Sequence[str],
    budgets: Sequence[float],
    asked: float,
) -> Calibration:
    """Do a little of the work, as a worker would.

    Args:
        config: Settings of the pass.
        manifest: The manifest.
        device: A torch device.
        units: Shards to take the sample from.
        budgets: Batch budgets to try, seconds, the run's own first; those larger than the sample are left out.
        asked: When the worker was asked for, seconds since the epoch.

    Raises:
        EncoderError: The encoder cannot be loaded.
    """
    extractor = _extractor(config, device, budgets[0])
    loaded = max(0.0, time.time() - asked)
    loader = shard_loader(config, manifest, extractor.encoder.info)
    first, _ = _sample(loader, units[:1], 2.0)
    speed = _speed(extractor, first) if first else 1.0
    speed = _speed(extractor, first) if first else speed
    sample, decode_speed = _sample(loader, units, min(_MOST_SAMPLE_SECONDS, max(10.0, speed * _SECONDS_A_BUDGET)))
    seconds = sum(map(len, sample)) / extractor.encoder.sample_rate
    speeds = {}
    for budget in budgets:
        if budget <= max(seconds, budgets[0]):
            speeds[budget] = _speed(extractor.with_budget(budget), sample)
    return Calibration(
        load_seconds=loaded,
        sample_seconds=seconds,
        decode_speed=decode_speed,
        encode_speed=speeds,
        peak_flops=matmul_peak(device, config.dtype),
    )


def _extractor(config: EncodingSettings, device: str, budget: float) -> FeatureExtractor:
    return FeatureExtractor(
        encoder=config.encoder,
        revision=config.revision,
        layers=sorted(config.layers),
        dtype=config.dtype,
        device=device,
        normalize_waveform=config.normalize_waveform,
        batch_seconds=budget,
        window_seconds=config.window_seconds,
        window_margin_seconds=config.window_margin_seconds,
        threads=config.threads_per_worker,
    )


def _sample(loader: ShardLoader, units: Sequence[str], wanted: float) -> tuple[list[np.ndarray], float]:
    """Decode whole shards until there is enough; give waveforms and the speed of decoding, times real time."""
    found: list[np.ndarray] = []
    seconds = spent = 0.0
    for unit in units:
        if seconds >= wanted:
            break
        # Started before it is timed: the decode process of a run starts once, too.
        open_manifest(loader.manifest).rows(unit)
        began = time.perf_counter()
        utterances = loader(unit)
        spent += time.perf_counter() - began
        for utterance in utterances:
            if utterance.samples is not None:
                seconds += utterance.seconds
                if sum(map(len, found)) / loader.sample_rate < wanted:
                    found.append(utterance.samples)
    return found, seconds / max(1e-9, spent)


def _speed(extractor: FeatureExtractor, waveforms: Sequence[np.ndarray]) -> float:
    log = EncodeLog()
    extractor.extract(waveforms, log)
    return sum(map(len, waveforms)) / extractor.encoder.sample_rate / max(1e-9, log.busy)
