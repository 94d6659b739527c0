"""Corpora of the study: how they are prepared, divided and trained on.

Everything is said by labels of the manifest, so that train_task divides by the column ``split`` alone. DATA holds
``LibriSpeech/train-clean-100`` (an utterance per speaker), ``cmu_arctic`` (slt and bdl), ``fsdd`` and ``emodb`` in
their own layouts.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.loading import Manifest
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

ARCTIC_LINE = re.compile(r'\( (\S+) "(.*)" \)')
NOT_IN_LIBRISPEECH = re.compile(r"[^A-Z' ]")
LAYERS = (1, 2, 3, 4, 5, 6)
ENCODER = {"encoder": "encoder-small", "runner": "here"}


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus with its task.

    Attributes:
        name: As the table shows it.
        task: Task that is trained on it.
        metric: What the task is judged by.
        num_clusters: K of each layer.
        steps: Of a training.
        settings: What train_task is told beside.
        leave_out: Whether each speaker is left out in turn.
    """

    name: str
    task: str
    metric: str
    num_clusters: int
    steps: int
    settings: Mapping[str, Any]
    leave_out: bool = False


# Steps are as many as a minute on one thread allows. Recognition learns from many small micro-batches sooner than from
# few large ones.
CORPORA = {
    each.name: each
    for each in (
        Corpus(name="digits", task="asr", metric="wer", num_clusters=200, steps=900,
               settings={"lr": 5e-3, "batch_seconds": 15.0, "lstm_width": 128, "unseen_speakers": ("theo",)}),
        Corpus(name="read", task="asr", metric="cer", num_clusters=500, steps=1500,
               settings={"lr": 3e-3, "batch_seconds": 20.0, "lstm_width": 128}),
        Corpus(name="fsdd", task="sid", metric="accuracy", num_clusters=200, steps=200, settings={"lr": 1e-3}),
        Corpus(name="speakers", task="sid", metric="accuracy", num_clusters=500, steps=300,
               settings={"lr": 2e-3, "batch_seconds": 30.0, "crop_seconds": 2.0}),
        Corpus(name="emodb", task="er", metric="uar", num_clusters=200, steps=100,
               settings={"lr": 1e-3, "class_weights": "inverse", "batch_seconds": 30.0}, leave_out=True),
    )
}  # fmt: skip


def prepare(corpus: Corpus, data: Path, output: Path) -> dict[str, str]:
    """Make the manifest, features and tokens of a corpus; gives their places."""
    if corpus.name == "digits":
        return _digits(prepare(CORPORA["fsdd"], data, output), output / "digits")
    folder = output / corpus.name
    of = {"corpus": str(data / corpus.name), "layout": corpus.name}
    if corpus.name in LISTINGS:
        of = {"corpus": str(write_listing(corpus.name, data, folder)), "layout": "listing", "roots": (str(data),)}
    run_pipeline(
        RunPipelineConfig.of(
            output=str(folder), layers=LAYERS, num_clusters=corpus.num_clusters, all_features=True, **of, **ENCODER
        )
    )
    return {kind: str(folder / kind) for kind in ("manifest", "tokens", "features", "codebooks")}


def _digits(single: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Join single digits to utterances of four to seven, each digit used three times."""
    places = {kind: str(folder / kind) for kind in ("manifest", "tokens", "features")} | {
        "codebooks": single["codebooks"]
    }
    concatenate_corpus(
        ConcatenateCorpusConfig(manifest=single["manifest"], output=places["manifest"], passes=3, seed=0)
    )
    common = {"manifest": places["manifest"], "layers": LAYERS, **ENCODER}
    extract_features(ExtractFeaturesConfig.of(output=places["features"], **common))
    tokenize_corpus(
        TokenizeCorpusConfig.of(
            output=places["tokens"], codebooks=places["codebooks"], features=places["features"], **common
        )
    )
    return places


def divisions(corpus: Corpus, manifest: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the divisions of a corpus, each with a name and settings."""
    if not corpus.leave_out:
        yield "once", {}
        return
    for speaker in sorted(
        {row for _, rows in Manifest(manifest).scan(["speaker"]) for row in rows["speaker"].to_pylist()}
    ):
        yield f"without-{speaker}", {"test_speakers": (speaker,)}


def write_listing(name: str, data: Path, folder: Path) -> Path:
    """Write the listing of a corpus: ``read`` (transcripts) or ``speakers`` (stretches of one recording each)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LISTINGS[name](data)))
    return path


def read_speech(data: Path) -> Iterator[dict[str, Any]]:
    """Give 108 minutes with transcripts; every tenth speaker of LibriSpeech is the test, the next one validates.

    Transcripts are capitals, apostrophes and spaces, as LibriSpeech's own; ARCTIC's punctuation is dropped.
    """
    places = {speaker: place for place, speaker in enumerate(sorted(_speakers(data)))}
    sides = {0: "test", 1: "valid"}
    for recording, speaker, text in _librispeech(data):
        yield {"path": str(recording), "utterance_id": recording.stem, "speaker": speaker, "text": text,
               "split": sides.get(places[speaker] % 10, "train")}  # fmt: skip
    for voice in ("slt", "bdl"):
        folder = data / "cmu_arctic" / f"cmu_us_{voice}_arctic"
        for name, said in ARCTIC_LINE.findall((folder / "etc" / "txt.done.data").read_text()):
            text = " ".join(NOT_IN_LIBRISPEECH.sub(" ", said.upper()).split())
            yield {"path": str(folder / "wav" / f"{name}.flac"), "utterance_id": f"{voice}-{name}", "speaker": voice,
                   "text": text, "split": "train"}  # fmt: skip


def stretches(data: Path) -> Iterator[dict[str, Any]]:
    """Give three stretches of each recording of LibriSpeech: 60 % to train, then 15 %, then the last quarter to test.

    One recording per speaker, so this asks who speaks in this recording's acoustics, not in another session.
    """
    cuts = {"train": (0.0, 0.6), "valid": (0.6, 0.75), "test": (0.75, 1.0)}
    for recording, speaker, _ in _librispeech(data):
        seconds = soundfile.info(recording).duration
        for side, (start, end) in cuts.items():
            yield {"path": str(recording), "utterance_id": f"{recording.stem}-{side}", "speaker": speaker,
                   "split": side, "offset": round(start * seconds, 3),
                   "duration": round((end - start) * seconds, 3) - 0.002}  # fmt: skip


def _speakers(data: Path) -> set[str]:
    return {speaker for _, speaker, _ in _librispeech(data)}


def _librispeech(data: Path) -> Iterator[tuple[Path, str, str]]:
    for listed in sorted((data / "LibriSpeech" / "train-clean-100").glob("*/*/*.trans.txt")):
        for line in listed.read_text().splitlines():
            name, _, text = line.partition(" ")
            yield listed.parent / f"{name}.flac", listed.parent.parent.name, text


LISTINGS = {"read": read_speech, "speakers": stretches}
