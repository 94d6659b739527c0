"""Manifests of segments end to end: a list or VAD, then tokens of every segment."""

import sys
from importlib.util import find_spec

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, build_manifest, prepare
from pipeline.errors import ManifestError, PlanMismatchError, SettingsError
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

RATE = 22_050
LIST = """recording,start,end,speaker
one,0.25,1.5,ann
one,1.0,2.75,bob
two,0.5,1.0,ann
two,2.9,3.5,ann
three,0,1,ann
two,1,1,ann
"""

needs_vad = pytest.mark.skipif(
    find_spec("silero_vad") is None or find_spec("espeakng_loader") is None, reason="the vad or demo extra is missing"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmented") / "audio"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("one", "two", "unlisted"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(3 * RATE), RATE)
    return folder


@pytest.fixture
def segments(tmp_path):
    (tmp_path / "list.csv").write_text(LIST)
    return tmp_path / "list.csv"


def config(corpus, output, **changes):
    return BuildManifestConfig.of(corpus=str(corpus), layout="folder", output=str(output), num_workers=1, **changes)


def rows_of(folder):
    return {row["utterance_id"]: row for row in pq.read_table(folder).to_pylist()}


def rejects_of(folder):
    return {row["utterance_id"]: row["reason"] for row in pq.read_table(f"{folder}/_rejects").to_pylist()}


def test_a_list_becomes_tokens_of_its_segments(corpus, segments, small_encoder, tmp_path):
    report = run_pipeline(
        RunPipelineConfig.of(
            corpus=str(corpus),
            layout="folder",
            output=str(tmp_path / "run"),
            segments=str(segments),
            encoder=small_encoder(),
            layers=(1,),
            num_clusters=4,
            all_features=True,
            num_workers=1,
            max_reject_fraction=1.0,
            agreement_frames=0,
        )
    )
    tokens = rows_of(tmp_path / "run" / "tokens")
    seconds = {"one.-250-1500.-ann": 1.25, "one.-1000-2750.-bob": 1.75, "two.-500-1000.-ann": 0.5}
    assert set(tokens) == set(seconds)
    for name, length in seconds.items():
        samples = int(round(length * RATE) * 16_000 / RATE + 0.5)
        assert tokens[name]["num_frames"] == (samples - 400) // 320 + 1 == len(tokens[name]["layer_01"])
    assert rejects_of(tmp_path / "run" / "manifest") == {
        "two.-2900-3500.-ann": "bad_segment",
        "three.-0-1000.-ann": "bad_segment",
        ".-segment7": "bad_segment",
        "unlisted": "no_segment",
    }
    assert (report.stages[0].rows, report.stages[0].rejects) == (3, 4)
    speakers = {row["utterance_id"]: row["speaker"] for row in rows_of(tmp_path / "run" / "manifest").values()}
    assert speakers["one.-1000-2750.-bob"] == "bob"
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "run" / "manifest"))).faults == []


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Four recordings of three sentences with pauses, and one of noise."""
    from pipeline.audio.synthetic import SAMPLE_RATE, SyntheticSpec, plan_utterance, render

    folder = tmp_path_factory.mktemp("spoken") / "audio"
    folder.mkdir()
    spec = SyntheticSpec(num_utterances=12)
    gap = np.zeros(2 * SAMPLE_RATE, np.int16)
    for number in range(4):
        parts = [render(plan_utterance(spec, 3 * number + index))[0] for index in range(3)]
        soundfile.write(folder / f"{number}.wav", np.concatenate([x for p in parts for x in (gap, p)]), SAMPLE_RATE)
    noise = 0.01 * np.random.default_rng(0).standard_normal((3 * SAMPLE_RATE, 2))
    soundfile.write(folder / "noise.wav", noise, SAMPLE_RATE)
    return folder


@needs_vad
def test_vad_makes_each_sentence_an_utterance_and_rejects_noise(spoken, tmp_path):
    settings = {"vad": "silero", "vad_min_silence_seconds": 1.0, "channels": "split"}
    report = build_manifest(config(spoken, tmp_path / "a", **settings))
    assert (report.rows, report.reject_reasons) == (12, {"no_speech": 2})
    assert set(rejects_of(tmp_path / "a")) == {"noise.ch0", "noise.ch1"}
    manifest = Manifest(str(tmp_path / "a"))
    assert manifest.num_rows == 12
    assert build_manifest(config(spoken, tmp_path / "b", **settings)).dataset_sha256 == report.dataset_sha256
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "a"))).faults == []
    with pytest.raises(PlanMismatchError, match="vad"):
        prepare(config(spoken, tmp_path / "a", **settings, vad_threshold=0.6))
    with pytest.raises(PlanMismatchError, match="vad"):
        prepare(config(spoken, tmp_path / "a", channels="split"))


def test_vad_without_the_extra_is_refused_before_ray_starts(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(SettingsError, match=r"strata-tokens\[vad\]"):
        prepare(config(corpus, tmp_path / "out", vad="silero"))


@needs_vad
def test_the_weights_are_part_of_the_content_key(corpus, tmp_path):
    content = prepare(config(corpus, tmp_path / "out", vad="silero")).plan.content["vad"]
    assert len(content["weights_sha256"]) == 64
    assert content["max_segment_seconds"] == 30.0
    assert "vad" not in prepare(config(corpus, tmp_path / "out")).plan.content


def test_another_list_is_another_manifest(corpus, segments, tmp_path):
    first = prepare(config(corpus, tmp_path / "out", segments=str(segments))).plan
    segments.write_text(LIST.replace("2.75", "2.5"))
    second = prepare(config(corpus, tmp_path / "out", segments=str(segments))).plan
    assert first.content["corpus_sha256"] != second.content["corpus_sha256"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"segments": "a.csv", "vad": "silero"}, "exclude each other"),
        ({"segments_format": "rttm"}, "no effect without segments"),
        ({"vad_pad_seconds": 0.2}, "vad_pad_seconds has no effect"),
        ({"vad": "silero", "vad_threshold": 1.5}, "vad_threshold"),
        ({"vad": "webrtc"}, "silero"),
    ],
)
def test_settings_that_cannot_work_are_refused(corpus, tmp_path, changes, said):
    with pytest.raises(SettingsError, match=said):
        config(corpus, tmp_path, **changes)


def test_an_absent_list_is_refused_before_ray_starts(corpus, tmp_path):
    with pytest.raises(ManifestError, match="no segment list"):
        prepare(config(corpus, tmp_path / "out", segments=str(tmp_path / "none.rttm")))
