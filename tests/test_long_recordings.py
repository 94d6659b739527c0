"""Recordings longer than a window or a row, through every stage."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

SECONDS = {"a": 2.0, "b": 21.7, "c": 47.3, "d": 0.9}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for number, (name, seconds) in enumerate(SECONDS.items()):
        rng = np.random.default_rng(number)
        loudness = np.repeat(rng.uniform(0.02, 0.4, int(seconds * 10) + 1), 1_600)[: int(seconds * 16_000)]
        rate = 22_050 if name == "b" else 16_000
        soundfile.write(folder / f"{name}.wav", loudness * rng.uniform(-1, 1, len(loudness)), rate)
    # A FLAC that ends too early, which shows when most of it has been encoded.
    soundfile.write(folder / "e.flac", soundfile.read(folder / "c.wav")[0], 16_000)
    cut = (folder / "e.flac").read_bytes()
    (folder / "e.flac").write_bytes(cut[: len(cut) * 4 // 5])
    return folder


def settings(corpus, output, encoder, **changes):
    return RunPipelineConfig.of(
        **{
            "corpus": str(corpus),
            "layout": "folder",
            "output": str(output),
            "encoder": encoder,
            "layers": (1, 3),
            "num_clusters": 8,
            "max_iterations": 4,
            "all_features": True,
            "window_seconds": 4.0,
            "window_margin_seconds": 1.0,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus, small_encoder):
    output = tmp_path_factory.mktemp("run")
    encoder = small_encoder(stem="group", stable=False)
    return output, encoder, run_pipeline(settings(corpus, output, encoder, max_row_minutes=0.3))


def frames(folder, column="layer_03"):
    found = {}
    for row in pq.read_table(folder).to_pylist():
        found.setdefault(row["utterance_id"], []).append(row)
    return found


def test_streamed_recordings_become_one_row_of_tokens_with_the_frames_of_the_formula(run):
    output, _, report = run
    features, tokens = report.stages[1], report.stages[3]
    assert (features.rows, features.rejects) == (tokens.rows, tokens.rejects) == (4, 1)
    assert dict(tokens.reject_reasons) == {"truncated": 1}
    rows = frames(output / "tokens")
    for name, seconds in SECONDS.items():
        (row,) = rows[name]
        # "b" is written at 22,050 Hz.
        samples = int(seconds * 16_000) if name != "b" else round(int(seconds * 16_000) * 16_000 / 22_050)
        assert row["num_frames"] == len(row["layer_03"]) == (samples - 400) // 320 + 1
    for name in ("features", "tokens"):
        assert verify_dataset(VerifyDatasetConfig(dataset=str(output / name))).faults == []


def test_features_of_one_recording_are_rows_that_follow_each_other(run):
    output, _, _ = run
    rows = frames(output / "features")["c"]
    assert len(rows) > 10
    starts = [row["first_frame"] for row in rows]
    assert starts == list(np.cumsum([0] + [row["num_frames"] for row in rows])[:-1])


def test_tokens_from_features_equal_tokens_from_audio(run, tmp_path):
    output, _, _ = run
    tokenize_corpus(
        TokenizeCorpusConfig.of(
            features=str(output / "features"), codebooks=str(output / "codebooks"), output=str(tmp_path / "tokens")
        )
    )
    assert frames(tmp_path / "tokens") == frames(output / "tokens")


def test_the_tokenizer_folder_gives_the_same_tokens(run, corpus):
    output, _, _ = run
    tokenizer = Tokenizer.from_pretrained(str(output / "tokenizer"))
    rows = frames(output / "tokens")
    for name in ("a", "c"):
        waveform, rate = soundfile.read(corpus / f"{name}.wav", dtype="int16")
        np.testing.assert_array_equal(tokenizer.encode(waveform, rate)[3], rows[name][0]["layer_03"])


def test_streaming_gives_the_tokens_of_sending(run, corpus, tmp_path):
    output, encoder, _ = run
    tokenize_corpus(
        TokenizeCorpusConfig.of(
            manifest=str(output / "manifest"),
            codebooks=str(output / "codebooks"),
            encoder=encoder,
            output=str(tmp_path / "tokens"),
            window_seconds=4.0,
            window_margin_seconds=1.0,
        )
    )
    sent, streamed = frames(tmp_path / "tokens"), frames(output / "tokens")
    assert sent == streamed


def test_a_sample_of_frames_does_not_depend_on_windows_and_can_be_clustered(run, tmp_path):
    output, encoder, _ = run
    config = ExtractFeaturesConfig.of(
        manifest=str(output / "manifest"),
        encoder=encoder,
        layers=(1, 3),
        output=str(tmp_path / "sample"),
        sample_fraction=0.2,
        window_seconds=4.0,
        window_margin_seconds=1.0,
        max_row_minutes=0.3,
    )
    extract_features(config)
    every, sample = frames(output / "features"), frames(tmp_path / "sample")
    for name, rows in sample.items():
        whole = np.concatenate([np.frombuffer(row["layer_03"], "<f2").reshape(-1, 48) for row in every[name]])
        kept = np.concatenate([row["frame_index"] for row in rows]).astype(int)
        found = np.concatenate([np.frombuffer(row["layer_03"], "<f2").reshape(-1, 48) for row in rows])
        np.testing.assert_array_equal(found, whole[kept])
    assert 0.1 < sum(len(row["frame_index"]) for rows in sample.values() for row in rows) / 3_500 < 0.3
    fit_kmeans(
        FitKmeansConfig.of(features=(str(tmp_path / "sample"),), output=str(tmp_path / "books"), num_clusters=(4,))
    )
    assert len(Dataset.open(str(tmp_path / "books"), kind="codebooks").plan.units) == 2
