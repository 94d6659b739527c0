"""One command for the first person with a GPU: does it agree with the CPU, in what time, in how much memory?

It has never been run on a GPU by its authors; read its figures before trusting a large run to it.
"""

import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.errors import PipelineError, SettingsError
from pipeline.features.encoders.demo_encoder import build_small_encoder
from pipeline.features.passes.extractor import FeatureExtractor, Rejected
from pipeline.kmeans.fit.seeding import kmeans_plus_plus
from pipeline.kmeans.search.assignment import CentroidTable, nearest
from pipeline.kmeans.search.engines import ENGINES

NOT_RUN = "this check has not been run on a GPU by its authors: report what it prints"
SAMPLE_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class CheckGpuConfig:
    """Settings of check_gpu."""

    encoder: str = ""
    """Encoder to check: a Hugging Face name or a local folder; default: a small random one."""
    layers: tuple[int, ...] = (2, 4, 6)
    """Layers compared."""
    num_utterances: int = 32
    """Utterances of 2 to 15 seconds that are encoded on each device."""
    num_clusters: int = 100
    """Clusters of the codebook, chosen from the CPU's features."""

    def __post_init__(self) -> None:
        if self.num_utterances < 1 or self.num_clusters < 2:
            raise SettingsError("num_utterances must be at least 1 and num_clusters at least 2")


@dataclass(frozen=True, kw_only=True)
class DeviceFigures:
    """What one device and dtype gave.

    Attributes:
        device: ``cpu`` or the GPU's name.
        dtype: Arithmetic of the encoder.
        times_real_time: Seconds of audio per second, after one warm-up batch.
        peak_bytes: Peak GPU memory, 0 on CPU.
        largest_difference: By layer, the largest difference to the CPU's float32 features.
        token_agreement: By layer, the share of tokens equal to the CPU's float32 tokens.
    """

    device: str
    dtype: str
    times_real_time: float
    peak_bytes: int
    largest_difference: dict[int, float]
    token_agreement: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class EngineFigures:
    """What one engine of the search for nearest centroids gave, on the CPU's float32 features.

    Attributes:
        engine: Its name.
        rows_per_second: Frames searched per second, after a first search; 0 where the engine cannot run.
        token_agreement: By layer, the share of tokens equal to those of float64 distances: 1, or it is wrong.
        fault: Why it cannot run here, empty where it can.
    """

    engine: str
    rows_per_second: float
    token_agreement: dict[int, float]
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """The figures of all devices, dtypes and engines."""

    stage: str
    output: str
    note: str
    figures: list[DeviceFigures]
    engines: list[EngineFigures]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [("note", self.note)]
        for row in self.figures:
            difference = ", ".join(f"{layer}: {value:.2g}" for layer, value in row.largest_difference.items())
            lines += [
                (f"{row.device} {row.dtype}", f"{row.times_real_time:.0f} times real time"),
                ("  peak memory", f"{row.peak_bytes / 2**20:.0f} MiB"),
                ("  tokens equal", _shares(row.token_agreement)),
                ("  largest difference", difference),
            ]
        for engine in self.engines:
            figures = f"{engine.rows_per_second:,.0f} frames per second; equal {_shares(engine.token_agreement)}"
            lines.append((f"search by {engine.engine}", engine.fault or figures))
        return lines


def _shares(by_layer: dict[int, float]) -> str:
    return ", ".join(f"{layer}: {share:.2%}" for layer, share in by_layer.items())


def check_gpu(config: CheckGpuConfig) -> GpuReport:
    """Compare the GPU of this machine with its CPU, in float32 and bfloat16, and all engines of the search.

    Raises:
        PipelineError: torch sees no CUDA device.
    """
    import torch

    if not torch.cuda.is_available():
        raise PipelineError(f"torch {torch.__version__} sees no CUDA device here; {NOT_RUN}")
    rng = np.random.default_rng(0)
    lengths = rng.uniform(2, 15, config.num_utterances) * SAMPLE_RATE
    waveforms = [(0.1 * rng.standard_normal(int(length))).astype(np.float32) for length in lengths]
    with tempfile.TemporaryDirectory() as folder:
        encoder = config.encoder or folder
        if not config.encoder:
            build_small_encoder(folder)
        runs = [("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")]
        features, figures = {}, []
        for device, dtype in runs:
            features[device, dtype], speed, peak = _encode(encoder, config, device, dtype, waveforms)
            figures.append((device, dtype, speed, peak))
    truth = features["cpu", "float32"]
    codebooks = {
        layer: kmeans_plus_plus(rows[: 64 * config.num_clusters], config.num_clusters, 0)
        for layer, rows in truth.items()
    }
    tokens = {layer: _float64_nearest(rows, codebooks[layer]) for layer, rows in truth.items()}
    rows = [
        DeviceFigures(
            device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
            dtype=dtype,
            times_real_time=speed,
            peak_bytes=peak,
            largest_difference={
                layer: float(np.abs(found.astype(np.float32) - truth[layer]).max())
                for layer, found in features[device, dtype].items()
            },
            token_agreement={
                layer: float(np.mean(nearest(found, codebooks[layer]).tokens == tokens[layer]))
                for layer, found in features[device, dtype].items()
            },
        )
        for device, dtype, speed, peak in figures
    ]
    engines = [engine_figures(engine, truth, codebooks, tokens) for engine in ENGINES]
    return GpuReport(stage="gpu-check", output="", note=NOT_RUN, figures=rows, engines=engines)


def engine_figures(
    engine: str, features: dict[int, np.ndarray], centroids: dict[int, np.ndarray], tokens: dict[int, np.ndarray]
) -> EngineFigures:
    """Search with one engine, and say how fast it was and which tokens were right.

    Args:
        engine: One of ``ENGINES``.
        features: float16 (N, D) by layer.
        centroids: float32 (K, D) by layer.
        tokens: int (N,) by layer, the right ones.
    """
    tables = {layer: CentroidTable(found) for layer, found in centroids.items()}
    try:
        for layer, table in tables.items():
            table.nearest(features[layer][:1], engine=engine)
    except SettingsError as error:
        return EngineFigures(engine=engine, rows_per_second=0.0, token_agreement={}, fault=str(error))
    began = time.perf_counter()
    found = {layer: table.nearest(features[layer], engine=engine).tokens for layer, table in tables.items()}
    took = time.perf_counter() - began
    return EngineFigures(
        engine=engine,
        rows_per_second=sum(map(len, features.values())) / took,
        token_agreement={layer: float(np.mean(found[layer] == tokens[layer])) for layer in found},
    )


def _float64_nearest(features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Give the nearest centroids by differences in float64, which no engine computes."""
    wide = centroids.astype(np.float64)
    nearest_ones = [np.square(row - wide).sum(axis=1).argmin() for row in features.astype(np.float64)]
    return np.array(nearest_ones)


def _encode(
    encoder: str, config: CheckGpuConfig, device: str, dtype: str, waveforms: list[np.ndarray]
) -> tuple[dict[int, np.ndarray], float, int]:
    """Give float16 (N, D) by layer, times real time, and peak GPU memory in bytes."""
    import torch

    extractor = FeatureExtractor(
        encoder=encoder,
        layers=sorted(config.layers),
        dtype=dtype,
        device=device,
        normalize_waveform=None,
        batch_seconds=120.0,
        threads=torch.get_num_threads(),
    )
    extractor.extract(waveforms[:1])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    found = [row for row in extractor.extract(waveforms) if not isinstance(row, Rejected)]
    took = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    features = {layer: np.concatenate([row[layer] for row in found]) for layer in sorted(config.layers)}
    return features, sum(map(len, waveforms)) / SAMPLE_RATE / took, peak
