"""What bench/gpu.py measures: one function per part, each gives lines of figures. Knows neither Ray nor any recording.

Only torch, transformers, numpy and pyarrow are needed, and what the repository holds. Letters: T frames, L layers, K
clusters, D feature width.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.vocoder_workload import preset_group, preset_spec
from pipeline.errors import PipelineError
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.flops import encoder_gflop
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.search.assignment import CentroidTable
from pipeline.kmeans.search.engines import ENGINES
from pipeline.pretraining.shapes import SHAPES

RATE = 16_000
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
ATTENTIONS = ("eager", "sdpa")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure.

    Attributes:
        part: Of the benchmark.
        what: Was measured.
        dtype: Number format of the arithmetic.
        value: How much of ``unit``; None where it could not be measured.
        unit: Of the value.
        share: Of the peak of matrix products in this number format; None where no operations are counted.
        peak_bytes: Largest memory of the GPU meanwhile; None on a CPU.
        note: Why a value is lacking, or what else is to be known.
    """

    part: str
    what: str
    dtype: str
    value: float | None
    unit: str
    share: float | None = None
    peak_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where it is measured, and how often.

    Attributes:
        device: ``cpu`` or ``cuda``.
        rounds: Timed calls after one that is not; the median counts.
        peaks: FLOP per second of matrix products, by number format.
    """

    device: str
    rounds: int
    peaks: dict[str, float]

    def seconds(self, work: Callable[[], object]) -> tuple[float, int | None]:
        """Give the median wall time of a call, and the GPU's largest memory meanwhile."""
        work()
        on_gpu = self.device == "cuda"
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        taken = []
        for _ in range(self.rounds):
            began = time.perf_counter()
            work()
            if on_gpu:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken), torch.cuda.max_memory_allocated() if on_gpu else None

    def autocast(self, dtype: str) -> torch.autocast:
        """Compute in a number format, as the training loop does."""
        return torch.autocast(self.device, torch.bfloat16, enabled=dtype == "bfloat16")


def measure_peaks(device: str, dtypes: Sequence[str], rounds: int) -> dict[str, float]:
    """Measure products of square matrices, FLOP per second; float32 is float32, not TF32, unless torch is told else."""
    found = {}
    for dtype in dtypes:
        size = MATMUL_SIZE[device]
        left, right = (torch.randn(size, size, device=device).to(getattr(torch, dtype)) for _ in range(2))
        seconds, _ = Bench(device=device, rounds=3 * rounds, peaks={}).seconds(partial(torch.matmul, left, right))
        found[dtype] = 2 * size**3 / seconds
    return found


def encoder_configs(names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Give the configuration of each encoder: ``hubert-base``, ``wavlm-large`` and so on."""
    from transformers import HubertConfig, WavLMConfig

    for name in names:
        kind, _, shape = name.partition("-")
        yield name, {"hubert": HubertConfig, "wavlm": WavLMConfig}[kind](**SHAPES[shape])


def encoders(bench: Bench, names: Sequence[str], dtypes: Sequence[str], seconds: float, batch: int) -> Iterator[Line]:
    """Encode a batch of random audio, weights random: the encoder of this system, and transformers' own beside it."""
    from transformers import AutoModel

    random = np.random.default_rng(0)
    waveforms = [(0.1 * random.standard_normal(int(seconds * RATE))).astype(np.float32) for _ in range(batch)]
    for name, config in encoder_configs(names):
        top = config.num_hidden_layers
        flop = 1e9 * batch * encoder_gflop(config, top_layer=top, num_samples=len(waveforms[0]))
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            AutoModel.from_config(config).save_pretrained(folder)
            for dtype in dtypes:
                ways = {"Strata": _own(bench, folder, top, dtype, waveforms)}
                ways |= {each: _transformers(bench, folder, each, dtype, waveforms) for each in ATTENTIONS}
                for way, make in ways.items():
                    line = partial(Line, part="encoder", what=f"{name}, {way}", dtype=dtype, unit="times real time")
                    try:
                        took, memory = bench.seconds(make())
                    except (ValueError, RuntimeError, PipelineError) as error:
                        # As WavLM, which transformers gives no fused attention, or memory that does not suffice.
                        yield line(value=None, note=str(error).split(". ")[0].splitlines()[0])
                        continue
                    share = flop / took / bench.peaks[dtype]
                    yield line(value=batch * seconds / took, share=share, peak_bytes=memory)


def _own(
    bench: Bench, folder: str, top: int, dtype: str, waveforms: list[np.ndarray]
) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        encoder = SslEncoder.from_pretrained(
            folder, layers=[top], dtype=dtype, device=bench.device, normalize_waveform=False
        )
        return lambda: encoder.encode_half(encoder.prepare(waveforms))

    return make


def _transformers(
    bench: Bench, folder: str, attention: str, dtype: str, waveforms: list[np.ndarray]
) -> Callable[[], Callable[[], object]]:
    def make() -> Callable[[], object]:
        from transformers import AutoModel

        network = AutoModel.from_pretrained(folder, attn_implementation=attention, dtype=getattr(torch, dtype))
        network = network.to(bench.device).eval()

        @torch.inference_mode()
        def work() -> object:
            given = torch.from_numpy(np.stack(waveforms)).to(bench.device, network.dtype)
            return network(given, output_hidden_states=True).hidden_states[-1].to(torch.float16).cpu()

        return work

    return make


def search(bench: Bench, num_clusters: int, dim: int, rows: int) -> Iterator[Line]:
    """Search nearest centroids with every engine that runs here, and make a step of K-means with the best."""
    random = np.random.default_rng(0)
    centroids = random.standard_normal((num_clusters, dim)).astype(np.float32)
    features = random.standard_normal((rows, dim)).astype(np.float16)
    table, flop = CentroidTable(centroids), 2 * rows * num_clusters * dim
    what = f"K {num_clusters}, D {dim}"
    for engine in ENGINES:
        line = partial(
            Line, part="quantise", what=f"{what}, engine {engine}", dtype="float32", unit="frames per second"
        )
        try:
            took, memory = bench.seconds(partial(table.nearest, features, engine=engine))
        except (PipelineError, ImportError) as error:
            yield line(value=None, note=str(error).split(";")[0].splitlines()[0])
            continue
        yield line(value=rows / took, share=flop / took / bench.peaks["float32"], peak_bytes=memory)
    yield _kmeans_step(bench, table, features, what)


def _kmeans_step(bench: Bench, table: CentroidTable, features: np.ndarray, what: str) -> Line:
    line = partial(Line, part="K-means", what=f"{what}, first step", dtype="float32", unit="frames per second")
    try:
        from pipeline.kmeans.fit.lloyd import RunningSums
    except ImportError as error:
        return line(value=None, note=f"sums are made by scipy: {error}")

    def step() -> None:
        tokens = table.nearest(features).tokens
        sums = RunningSums(*table.centroids.shape)
        sums.move(features, np.full(len(features), -1), tokens)
        sums.total()

    took, memory = bench.seconds(step)
    return line(value=len(features) / took, peak_bytes=memory)


def fuser(bench: Bench, dtypes: Sequence[str], frames: int) -> Iterator[Line]:
    """Train the informed layer selector below a linear layer: L = 6, K = 1000, D = 1024, one batch over and over."""
    from pipeline.fusion.fuser import build_fuser

    num_layers, num_clusters, classes = 6, 1000, 40
    torch.manual_seed(0)
    selector = build_fuser(preset_spec("vocoder_base", num_layers, num_clusters).fuser).to(bench.device)
    head = torch.nn.Linear(selector.dim, classes, device=bench.device)
    optimizer = torch.optim.AdamW([*selector.parameters(), *head.parameters()], lr=1e-4)
    rows = max(1, frames // 500)
    tokens = torch.randint(num_clusters, (rows, 500, num_layers), device=bench.device)
    mask = torch.ones(rows, 500, dtype=torch.bool, device=bench.device)
    wanted = torch.randint(classes, (rows, 500), device=bench.device)
    for dtype in dtypes:

        def step(dtype: str = dtype) -> None:
            with bench.autocast(dtype):
                scores = head(selector(tokens, mask).values)
            loss = torch.nn.functional.cross_entropy(scores.float().flatten(0, 1), wanted.flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        took, memory = bench.seconds(step)
        yield Line(
            part="fuser", what=f"training step, {rows} rows of 10 s", dtype=dtype, value=rows * 10 / took,
            unit="times real time", peak_bytes=memory,
        )  # fmt: skip


def vocoder(bench: Bench, presets: Sequence[str], dtypes: Sequence[str], seconds: float) -> Iterator[Line]:
    """Train vocoders with their discriminators: both updates, on crops of a second, one batch over and over."""
    for preset in presets:
        for dtype in dtypes:
            rows = max(1, round(seconds))
            took, memory = bench.seconds(_vocoder_step(bench, preset, dtype, rows))
            yield Line(
                part="vocoder", what=f"{preset}, step with discriminators, {rows} crops", dtype=dtype,
                value=rows / took, unit="times real time", peak_bytes=memory,
            )  # fmt: skip


def _vocoder_step(bench: Bench, preset: str, dtype: str, rows: int) -> Callable[[], None]:
    from pipeline.vocoder.discriminators.ensemble import Discriminators
    from pipeline.vocoder.losses import adversarial_loss, discriminator_loss, feature_loss
    from pipeline.vocoder.network import build_vocoder
    from pipeline.vocoder.settings import VocoderLossSettings
    from pipeline.vocoder.spectra import MelDistance

    torch.manual_seed(0)
    spec, weights = preset_spec(preset, 6, 1000), preset_group(preset, VocoderLossSettings)
    speaker, judges = build_vocoder(spec).to(bench.device), Discriminators(weights).to(bench.device)
    mel = MelDistance(RATE, weights.mel_windows, weights.mel_bins).to(bench.device)
    optimizers = [torch.optim.AdamW(network.parameters(), lr=1e-4) for network in (judges, speaker)]
    frames = RATE // spec.hop_length
    tokens = torch.randint(1000, (rows, frames, 6), device=bench.device)
    mask = torch.ones(rows, frames, dtype=torch.bool, device=bench.device)
    original = 0.1 * torch.randn(rows, frames * spec.hop_length, device=bench.device)

    def step() -> None:
        with bench.autocast(dtype):
            spoken = speaker(tokens, mask)
        spoken = spoken.float()
        loss = discriminator_loss(judges(original), judges(spoken.detach()), weights.adversarial_loss)
        _update(optimizers[0], loss)
        with torch.no_grad():
            real = judges(original)
        fake = judges(spoken)
        loss = weights.adversarial_weight * adversarial_loss(fake, weights.adversarial_loss)
        loss = loss + weights.feature_weight * feature_loss(real, fake) + weights.mel_weight * mel(spoken, original)
        _update(optimizers[1], loss)

    return step


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def agreement(bench: Bench, dtypes: Sequence[str], seconds: float) -> Iterator[Line]:
    """Compare tokens of the encoder and codebooks that ship with those of this CPU in float32, on made-up sound."""
    books = read_codebooks("encoder-small", num_clusters=500)
    layers = sorted({book.layer for book in books})
    sound = _sound(seconds)
    truth = _tokens("cpu", "float32", layers, books, sound)
    for dtype in dtypes:
        found = _tokens(bench.device, dtype, layers, books, sound)
        for layer in layers:
            share = float(np.mean(found[layer] == truth[layer]))
            yield Line(part="agreement", what=f"layer {layer}, K 500, with the CPU", dtype=dtype, value=share,
                       unit="of the tokens", note=f"{len(truth[layer])} tokens")  # fmt: skip


def _tokens(
    device: str, dtype: str, layers: list[int], books: Sequence[Any], sound: np.ndarray
) -> dict[int, np.ndarray]:
    encoder = SslEncoder.from_pretrained("encoder-small", layers=layers, dtype=dtype, device=device)
    (features,) = encoder.encode_half(encoder.prepare([sound])).features
    tables = {book.layer: CentroidTable(book.centroids) for book in books}
    return {layer: tables[layer].nearest(features[place]).tokens for place, layer in enumerate(layers)}


def _sound(seconds: float) -> np.ndarray:
    """Make a voice-like sound: harmonics of a pitch that wanders, louder and softer, with some noise."""
    random = np.random.default_rng(0)
    time_S = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time_S)) / RATE
    tones = sum(np.sin(number * phase + number) / number for number in range(1, 30))
    loud = 0.5 + 0.5 * np.sin(2 * np.pi * 2.3 * time_S)
    return (0.05 * loud * tones + 0.005 * random.standard_normal(len(time_S))).astype(np.float32)
