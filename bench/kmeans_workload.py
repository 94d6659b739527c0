"""What K-means is measured on: features of real speech, made once by the jobs in a folder, and first centroids.

A shape's folder holds ``encoder``, ``manifest`` and ``features`` as the jobs write them, ``rows.npy`` with the same
rows for everybody else, and ``seeds-k1000``: the rows that every contender begins with. A folder made with other
settings is refused.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from bench.workload import DATA, build_model, common_root, make_manifest, recordings, run_job, write_listing

NOISE_DB = (20, 15, 10, 5, 0)
SEEDING_ROWS_PER_CLUSTER = 64
_ENCODER_RATE, _ENCODER_HOP, _ENCODER_FIELD = 16_000, 320, 400


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Settings of a workload.

    Attributes:
        name: Name of its folder.
        encoder: ``hubert-base`` or ``small``, built with random weights, or a Hugging Face name or local folder.
        layer: Layer whose features are clustered.
        corpora: Corpora as ``recordings`` takes them; every recording is used, clean first, then with noise at each of
            ``NOISE_DB`` in turn until there are enough frames.
        frames: Rows (n).
        num_clusters: K.
    """

    name: str
    encoder: str
    layer: int
    corpora: tuple[str, ...]
    frames: int
    num_clusters: int


SHAPES = {
    "hubert": Shape(
        name="hubert",
        encoder="hubert-base",
        layer=6,
        corpora=("librispeech", "fsdd"),
        frames=200_000,
        num_clusters=1000,
    ),
    "small": Shape(
        name="small",
        encoder="small",
        layer=4,
        corpora=("librispeech", "fsdd", "emodb"),
        frames=1_000_000,
        num_clusters=500,
    ),
}


@dataclass(frozen=True, kw_only=True)
class KmeansWorkload:
    """Paths that the contenders get.

    Attributes:
        rows: float16 (n, D) .npy, every row of the features.
        features: Features dataset of the same rows.
        few_features: Features dataset of hardly any rows: what a process needs without data.
        seeds: float32 (K, D) .npy, the first centroids, rows of ``rows``.
        seed_places: int64 (K,) .npy, where in ``rows`` they are.
        seed_codebooks: Codebooks dataset of the same centroids.
        layer: Layer of the features.
        num_clusters: K.
    """

    rows: Path
    features: Path
    few_features: Path
    seeds: Path
    seed_places: Path
    seed_codebooks: Path
    layer: int
    num_clusters: int


def prepare(folder: Path, shape: Shape) -> KmeansWorkload:
    """Make a shape's workload in ``folder / shape.name``, or take what is there.

    Raises:
        SystemExit: The folder was made with other settings, or the corpora have too few frames.
        RuntimeError: A job failed.
    """
    here = folder / shape.name
    here.mkdir(parents=True, exist_ok=True)
    _claim(here / "shape.json", shape)
    encoder = _encoder(here, shape)
    noisy = here / "noisy"
    noisy.mkdir(exist_ok=True)
    clean = [path for corpus in shape.corpora for path in recordings(corpus, here)]
    roots = (common_root(clean), noisy)
    if not (here / "rows.npy").exists():
        _extract(here, list(_enough(clean, noisy, shape.frames)), roots, float("inf"), shape, encoder)
        write_rows(here / "features", shape.layer, here / "rows.npy", shape.frames)
    few = here / f"few-k{shape.num_clusters}"
    # 2 K frames, for some may be equal.
    _extract(few, clean, roots, shape.num_clusters / 25, shape, encoder)
    seeds = here / f"seeds-k{shape.num_clusters}"
    if not (seeds / "codebooks" / "_SUCCESS").exists():
        _choose_seeds(seeds, here / "rows.npy", shape, encoder)
    return KmeansWorkload(
        rows=here / "rows.npy",
        features=here / "features",
        few_features=few / "features",
        seeds=seeds / "centroids.npy",
        seed_places=seeds / "places.npy",
        seed_codebooks=seeds / "codebooks",
        layer=shape.layer,
        num_clusters=shape.num_clusters,
    )


def _claim(path: Path, shape: Shape) -> None:
    """Write a folder's settings, or compare them with those that are there; K may differ."""
    wanted = json.loads(json.dumps({**asdict(shape), "num_clusters": None}))
    if not path.exists():
        path.write_text(json.dumps(wanted, indent=2) + "\n")
    if json.loads(path.read_text()) != wanted:
        raise SystemExit(f"{path} says that the folder was made with other settings; give another --folder")


def _encoder(here: Path, shape: Shape) -> str:
    """Give the encoder as the jobs take it, built first where it is one with random weights."""
    if shape.encoder not in ("hubert-base", "small"):
        return shape.encoder
    folder = here / "encoder"
    if not (folder / "preprocessor_config.json").exists():
        folder.mkdir(exist_ok=True)
        build_model(shape.encoder, folder)
    return str(folder)


def _extract(
    folder: Path, audio: Sequence[Path], roots: Sequence[Path], seconds: float, shape: Shape, encoder: str
) -> None:
    """Run the jobs from the first seconds of recordings to features, unless these are there."""
    if (folder / "features" / "_SUCCESS").exists():
        return
    folder.mkdir(exist_ok=True)
    write_listing(folder / "listing.jsonl", iter(audio), seconds)
    manifest = make_manifest(folder, folder / "listing.jsonl", *roots)
    run_job(
        "extract_features",
        *("--manifest", manifest, "--encoder", encoder, "--layers", shape.layer),
        *("--sample-frames", shape.frames, "--output", folder / "features", "--runner", "here"),
    )


def _enough(clean: Sequence[Path], folder: Path, frames: int) -> Iterator[Path]:
    """Give recordings, then noisy versions of them, until they have so many frames."""
    clean_frames = sum(map(num_frames, clean))
    yield from clean
    found = clean_frames
    for decibels in NOISE_DB:
        if found >= frames:
            return
        for recording in clean:
            yield _noisy(recording, folder / f"{decibels}-db", decibels)
        found += clean_frames
    if found < frames:
        raise SystemExit(f"the corpora have {found:,} frames in all versions, fewer than {frames:,}; lower --frames")


def num_frames(recording: Path) -> int:
    """Give the frames of a recording at 16 kHz, 20 ms apart, 25 ms wide."""
    info = soundfile.info(str(recording))
    samples = int(info.frames * _ENCODER_RATE / info.samplerate)
    return max(0, (samples - _ENCODER_FIELD) // _ENCODER_HOP + 1)


def _noisy(recording: Path, folder: Path, decibels: int) -> Path:
    """Write a recording with a stretch of recorded noise, chosen by its name, at a ratio of powers in decibels."""
    import soxr

    path = folder / f"{recording.stem}-{decibels}db.flac"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    speech, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    rng = np.random.default_rng(list(path.name.encode()))
    noises = sorted((DATA / "noise").glob("*.wav"))
    noise, noise_rate = soundfile.read(noises[rng.integers(len(noises))], dtype="float32")
    stretch = np.resize(np.roll(soxr.resample(noise, noise_rate, rate), rng.integers(len(noise))), len(speech))
    soundfile.write(path, mix(speech.mean(axis=1), stretch, decibels), rate, subtype="PCM_16")
    return path


def mix(speech: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    """Add noise at a ratio of powers, both float32 (S,); the sum is scaled down where it would clip."""
    power = float(np.mean(noise**2))
    gain = np.sqrt(float(np.mean(speech**2)) / power / 10 ** (decibels / 10)) if power else 0.0
    mixed = speech + np.float32(gain) * noise
    scaled: np.ndarray = mixed / max(1.0, float(np.abs(mixed).max(initial=0)))
    return scaled


def write_rows(features: Path, layer: int, path: Path, frames: int) -> None:
    """Write a layer of a features dataset as one .npy, float16 (n, D), in the order of the dataset.

    Raises:
        SystemExit: It has another number of rows than wanted.
    """
    from pipeline.features.feature_rows import feature_rows
    from pipeline.store.dataset import Dataset
    from pipeline.store.reading import read_pieces

    dataset = Dataset.open(str(features), kind="features")
    dim = int(dataset.plan.lineage["dim"])
    cells = [
        row.cells[layer]
        for unit in dataset.plan.units
        for table in read_pieces(dataset, unit)
        for row in feature_rows(table, [layer], dim, f"{features}/{unit}")
    ]
    found = sum(map(len, cells))
    if found != frames:
        raise SystemExit(f"{features} has {found:,} frames, not {frames:,}; were recordings rejected?")
    part = path.with_suffix(".part.npy")
    np.save(part, np.concatenate(cells))
    part.replace(path)


def num_rows(features: Path) -> int:
    """Give the frames of a features dataset."""
    from pipeline.store.completion import read_shard_table
    from pipeline.store.dataset import Dataset

    return int(sum(read_shard_table(Dataset.open(str(features), kind="features"))["num_frames"].to_pylist()))


def _choose_seeds(folder: Path, rows: Path, shape: Shape, encoder: str) -> None:
    """Choose first centroids by our k-means++ on 64 rows a cluster, and make a codebooks dataset of them."""
    from pipeline.kmeans.fit.seeding import kmeans_plus_plus

    folder.mkdir(exist_ok=True)
    features = np.load(rows, mmap_mode="r")
    size = min(len(features), SEEDING_ROWS_PER_CLUSTER * shape.num_clusters)
    sample = np.sort(np.random.default_rng(0).choice(len(features), size, replace=False))
    centroids = kmeans_plus_plus(features[sample], shape.num_clusters, seed=0)
    np.save(folder / "places.npy", sample[places_of(features[sample], centroids)])
    np.save(folder / "centroids.npy", centroids)
    run_job(
        "import_codebooks",
        *("--files", folder / "centroids.npy", "--layers", shape.layer, "--encoder", encoder),
        *("--output", folder / "codebooks"),
    )


def places_of(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Find rows float32 (K, D), all different, among rows float16 (n, D): int64 (K,)."""
    # Adding zero makes -0.0 and 0.0 the same bytes.
    places = {(row + np.float16(0)).tobytes(): place for place, row in enumerate(rows)}
    return np.array([places[(row.astype(np.float16) + np.float16(0)).tobytes()] for row in chosen])
