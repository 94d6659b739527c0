"""What the benchmarks work on, made once in a folder: a seeded encoder, a listing of audio, its manifest, codebooks.

Everything after the listing is made by the jobs themselves, as a person would make it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.measuring import ROOT, environment, last_json
from pipeline.features.encoders import shipped

MODELS = ("hubert-base", "wavlm-base-plus", "small", "encoder-small")
DATA = Path(os.environ.get("STRATA_TEST_DATA", ROOT / "../shared/data")).resolve()


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Paths that every contender gets.

    Attributes:
        encoder: Folder of the encoder.
        manifest: Manifest of all audio.
        codebooks: Codebooks of all layers.
        layers: Layers to tokenise.
        seconds: Audio, in seconds.
    """

    encoder: Path
    manifest: Path
    codebooks: Path
    layers: tuple[int, ...]
    seconds: float


def build_model(name: str, folder: Path) -> None:
    """Write a published architecture with seeded random weights, and the preprocessor its publisher gives it.

    ``encoder-small`` is the encoder that ships, with its weights.
    """
    import torch
    import transformers

    if name == shipped.NAME:
        shutil.copytree(shipped.FOLDER, folder, ignore=shutil.ignore_patterns(shipped.CODEBOOKS), dirs_exist_ok=True)
        return
    if name == "small":
        from pipeline.features.encoders.demo_encoder import build_small_encoder

        build_small_encoder(folder)
        return
    kind = {"hubert-base": "Hubert", "wavlm-base-plus": "WavLM"}[name]
    torch.manual_seed(0)
    # Their published config.json differs from the defaults of transformers in training settings alone.
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")()).save_pretrained(folder)
    preprocessor = {"do_normalize": name == "hubert-base", "sampling_rate": 16_000, "padding_value": 0.0}
    preprocessor |= {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "return_attention_mask": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def recordings(corpus: str, folder: Path) -> Iterator[Path]:
    """Give the audio of a corpus in a stable order.

    Args:
        corpus: ``librispeech``, ``fsdd``, ``emodb``, ``synthetic``, or a folder of FLAC or WAV files.
        folder: Where a synthetic corpus is written, piece by piece as it is asked for.
    """
    if corpus == "synthetic":
        from pipeline.audio.synthetic import SyntheticSpec, write_utterances

        spec = SyntheticSpec(num_utterances=1_000_000)
        for index in range(spec.num_utterances):
            yield folder / write_utterances(spec, [index], folder)[0]["uri"]
        return
    root = {"librispeech": DATA / "LibriSpeech", "fsdd": DATA / "fsdd", "emodb": DATA / "emodb"}.get(
        corpus, Path(corpus)
    )
    found = sorted(path for path in root.rglob("*") if path.suffix in (".flac", ".wav"))
    if not found:
        raise SystemExit(f"{root} has no FLAC or WAV files; give --corpus a folder, fsdd or synthetic")
    yield from found


def write_listing(path: Path, audio: Iterator[Path], seconds: float, *, repeat: bool = False) -> float:
    """List audio until it is as long as asked for.

    Args:
        path: The listing to write, JSON lines.
        audio: Recordings in order.
        seconds: Audio wanted; the last recording may exceed it.
        repeat: Whether to begin again under new ids when the recordings end.

    Returns:
        Seconds listed; fewer than asked for where the recordings end and are not repeated.
    """
    import soundfile

    durations = {}
    total = 0.0
    with path.open("w") as file:

        def add(recording: Path, turn: int) -> None:
            nonlocal total
            row = {"utterance_id": f"{recording.stem}-{turn:04d}", "uri": str(recording.resolve())}
            file.write(json.dumps(row) + "\n")
            total += durations[recording]

        for recording in audio:
            if total >= seconds:
                return total
            info = soundfile.info(str(recording))
            durations[recording] = info.frames / info.samplerate
            add(recording, 0)
        turn = 1
        while repeat and total < seconds:
            for recording in durations:
                if total < seconds:
                    add(recording, turn)
            turn += 1
    return total


def run_job(
    name: str, *flags: object, watch: Callable[[int], None] | None = None, log: Path | None = None
) -> dict[str, Any]:
    """Run a job to its end and give its report, with the driver's peak memory in bytes as ``driver_peak_bytes``.

    Args:
        name: The job.
        flags: Its flags and their values.
        watch: Called twice a second with the driver's process id.
        log: File for what the job writes on standard error.
    """
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, flags)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, env=environment(1), stdout=out, stderr=err)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG if watch else 0)
        while watch and not pid:
            watch(process.pid)
            time.sleep(0.5)
            # The usage of this child alone; getrusage would give the largest of all children so far.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        answer = out.read()
        err.seek(0)
        told = err.read()
    if log is not None:
        log.write_text(told)
    report = last_json(process.returncode, answer, f"{' '.join(command)}\n{told}")
    return report | {"driver_peak_bytes": usage.ru_maxrss * 1024}


def common_root(audio: Sequence[Path]) -> Path:
    """Give the folder that holds all recordings."""
    return Path(os.path.commonpath([path.resolve().parent for path in audio]))


HERE = ("--runner", "here")
"""What is prepared and not measured needs no Ray."""


def make_manifest(folder: Path, listing: Path, *audio: Path) -> Path:
    """Make the manifest of a listing, whose audio lies under some folders."""
    run_job(
        "build_manifest",
        "--corpus",
        listing,
        "--layout",
        "listing",
        "--roots",
        *audio,
        "--output",
        folder / "manifest",
        *HERE,
    )
    return folder / "manifest"


def make_codebooks(folder: Path, encoder: Path, manifest: Path, layers: Sequence[int], num_clusters: int) -> Path:
    """Fit codebooks for one iteration on features of a manifest: near enough to real ones to time a search."""
    run_job(
        "extract_features",
        *("--manifest", manifest, "--encoder", encoder, "--layers", *layers, "--output", folder / "features"),
        *HERE,
    )
    run_job(
        "fit_kmeans",
        *("--features", folder / "features", "--num-clusters", num_clusters, "--max-iterations", 1),
        *("--output", folder / "codebooks"),
        *HERE,
    )
    return folder / "codebooks"


def prepare(
    folder: Path, *, model: str, corpus: str, minutes: float, layers: Sequence[int], num_clusters: int
) -> Workload:
    """Make everything that the contenders share. Codebooks come from the first minutes, 25 frames a cluster.

    Raises:
        RuntimeError: A job failed.
    """
    encoder = folder / "encoder"
    encoder.mkdir()
    build_model(model, encoder)
    audio = list(_first(recordings(corpus, folder), minutes))
    root = common_root(audio)
    seconds = write_listing(folder / "listing.jsonl", iter(audio), 60 * minutes)
    manifest = few_manifest = make_manifest(folder, folder / "listing.jsonl", root)
    enough = max(20.0, num_clusters / 2)
    few = folder / "few"
    few.mkdir()
    if seconds > enough:
        write_listing(few / "listing.jsonl", iter(audio), enough)
        few_manifest = make_manifest(few, few / "listing.jsonl", root)
    return Workload(
        encoder=encoder,
        manifest=manifest,
        codebooks=make_codebooks(few, encoder, few_manifest, layers, num_clusters),
        layers=tuple(sorted(layers)),
        seconds=seconds,
    )


def _first(audio: Iterator[Path], minutes: float) -> Iterator[Path]:
    """Take recordings until they are long enough, so that no more of a synthetic corpus is spoken than needed."""
    import soundfile

    total = 0.0
    for path in audio:
        if total >= 60 * minutes:
            return
        info = soundfile.info(str(path))
        total += info.frames / info.samplerate
        yield path


def read_tokens(folder: Path, layers: Sequence[int]) -> dict[str, np.ndarray]:
    """Read a tokens dataset: (T, L) by utterance."""
    import pyarrow.parquet as pq

    from pipeline.schema import layer_column

    columns = [layer_column(layer) for layer in sorted(layers)]
    rows = pq.read_table(folder).to_pylist()
    return {row["utterance_id"]: np.array([row[name] for name in columns]).T for row in rows}


def share_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Give the share of tokens that are equal, over the utterances of both; they must have the same frames."""
    names = sorted(ours)
    if names != sorted(theirs):
        raise ValueError(f"{len(ours)} utterances against {len(theirs)}, not the same ones")
    equal = sum(int((ours[name] == theirs[name]).sum()) for name in names)
    return equal / sum(ours[name].size for name in names)
