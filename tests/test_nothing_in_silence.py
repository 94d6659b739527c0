"""What is passed over stands in the log, the report and the dataset, whatever interrupts a run; --strict refuses it."""

import json
import logging

import numpy as np
import pytest
import s3fs
import soundfile
from made_audio import RATE, noise
from made_kills import KILLED, in_child

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import ManifestError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.passed_over import Kind, PassedOver
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.work.payload import pack, unpack
from pipeline.work.units import Utterance

OTHERS = {"other_endings": {"count": 3, "example": "b/c.ape", "names": {".ape": 2, ".txt": 1}}}


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "audio"
    (folder / "b").mkdir(parents=True)
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", noise(RATE, seed=number), RATE)
    for name in ("b/c.ape", "d.ape", "notes.txt"):
        (folder / name).write_bytes(b"?")
    return folder


def config(corpus, output, **changes):
    settings = {"corpus": str(corpus), "layout": "folder", "output": str(output), "runner": "here", "num_workers": 1}
    return BuildManifestConfig.of(**settings | changes)


def commit_of(folder, unit="manifest-00000"):
    return json.loads((folder / "_commits" / f"{unit}.json").read_text())


def test_a_report_its_json_the_dataset_and_the_log_say_what_was_passed_over(corpus, tmp_path, caplog):
    """At 5237d84 one INFO line had the number of files."""
    with caplog.at_level(logging.INFO):
        report = build_manifest(config(corpus, tmp_path / "m"))
    assert report.rows == 3
    assert report.passed_over == report.to_json()["passed_over"] == OTHERS
    assert ("passed over: other_endings", "3 (.ape 2, .txt 1), as b/c.ape") in report.lines()
    assert commit_of(tmp_path / "m")["notes"]["passed_over"] == OTHERS
    assert run_status(str(tmp_path / "m"))[0].passed_over == OTHERS
    said = [record for record in caplog.records if "passed over other_endings" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"]
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "m"))).faults == []


@pytest.mark.parametrize(
    ("point", "match"),
    [
        ("after_plan", ""),
        ("after_commit_before_publish", "shard-00000"),
        ("after_data_before_commit", "manifest-00000"),
        ("after_commit_before_publish", "manifest-00000"),
        ("after_shard_table_before_success", "/m"),
        ("after_success_before_cleanup", "/m"),
    ],
)
def test_a_killed_run_that_is_begun_again_says_the_same(corpus, tmp_path, point, match):
    wanted = config(corpus, tmp_path / "m")
    faults = [{"point": point, "match": match, "action": "kill"}]
    assert in_child(build_manifest, wanted, faults).code == KILLED
    for _ in range(2):
        assert build_manifest(wanted).passed_over == OTHERS


def test_what_is_passed_over_changes_no_byte_and_no_hash_of_a_manifest(corpus, tmp_path):
    first = build_manifest(config(corpus, tmp_path / "with"))
    for name in ("b/c.ape", "d.ape", "notes.txt"):
        (corpus / name).unlink()
    second = build_manifest(config(corpus, tmp_path / "without"))
    assert first.dataset_sha256 == second.dataset_sha256
    assert second.passed_over == {}
    assert "passed_over" not in commit_of(tmp_path / "without")["notes"]
    data = [(tmp_path / name / "manifest-00000.parquet").read_bytes() for name in ("with", "without")]
    assert data[0] == data[1]


def test_strict_refuses_what_is_passed_over_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(ManifestError, match=r"other_endings: 3 \(\.ape 2, \.txt 1\), as b/c\.ape"):
        build_manifest(config(corpus, tmp_path / "m", strict=True))
    assert not (tmp_path / "m").exists()
    for name in ("b/c.ape", "d.ape", "notes.txt"):
        (corpus / name).unlink()
    assert build_manifest(config(corpus, tmp_path / "m", strict=True)).rows == 3


def test_strict_lets_pass_what_a_setting_asks_for(corpus, tmp_path):
    for name in ("b/c.ape", "d.ape", "notes.txt"):
        (corpus / name).unlink()
    build_manifest(config(corpus, tmp_path / "old"))
    soundfile.write(corpus / "new.wav", noise(RATE, seed=9), RATE)
    report = build_manifest(config(corpus, tmp_path / "new", strict=True, known=(str(tmp_path / "old"),)))
    assert report.rows == 1
    assert report.passed_over == {"known": {"count": 3, "example": "0"}}


def test_a_prefix_of_a_bucket_tells_as_a_folder_does(bucket, corpus, tmp_path):
    s3fs.S3FileSystem().put(str(corpus), f"{bucket}/silent", recursive=True)
    assert build_manifest(config(f"{bucket}/silent", tmp_path / "m")).passed_over == OTHERS
    with pytest.raises(ManifestError, match=r"other_endings: 3"):
        build_manifest(config(f"{bucket}/silent", tmp_path / "n", strict=True))


@pytest.fixture
def stereo(tmp_path):
    """Three recordings of two channels, which cancel each other in two; one of these is a minute long."""
    folder = tmp_path / "stereo"
    folder.mkdir()
    left = noise(RATE, seed=1)
    long = np.tile(left, 60)
    for name, channels in {"a": (left, -left), "b": (left, left), "c": (long, -long)}.items():
        soundfile.write(folder / f"{name}.flac", np.stack(channels, axis=1), RATE)
    return folder


def features(tmp_path, encoder, **settings):
    """Give the settings of features in windows of 6 s; what is longer than 12 s is streamed."""
    return ExtractFeaturesConfig.of(
        manifest=str(tmp_path / "m"),
        output=str(tmp_path / "features"),
        encoder=encoder,
        layers=(1,),
        runner="here",
        num_workers=1,
        window_seconds=6.0,
        window_margin_seconds=1.0,
        batch_seconds=6.0,
        max_row_minutes=0.2,
        **settings,
    )


def test_channels_that_cancel_are_counted_by_the_stage_that_decodes_sent_or_streamed(stereo, small_encoder, tmp_path):
    assert build_manifest(config(stereo, tmp_path / "m")).passed_over == {}
    report = extract_features(features(tmp_path, small_encoder()))
    found = {"channels_cancel": {"count": 2, "example": f"{stereo}/a.flac"}}
    assert report.passed_over == found
    assert extract_features(features(tmp_path, small_encoder())).passed_over == found


def test_a_stage_that_reads_a_strict_manifest_is_strict(stereo, small_encoder, tmp_path):
    build_manifest(config(stereo, tmp_path / "m", strict=True))
    for _ in range(2):
        with pytest.raises(ManifestError, match=r"channels_cancel: \d, as \S+/a\.flac"):
            extract_features(features(tmp_path, small_encoder()))
    assert not (tmp_path / "features" / "_SUCCESS").exists()


def test_counts_of_decoding_cross_the_object_store():
    told = PassedOver()
    told.add(Kind.CHANNELS_CANCEL, example="a.flac")
    some = {"utterance_id": "u", "uri": "a.flac", "samples": np.zeros(4, np.int16), "seconds": 1.0}
    sent = [Utterance(**some, passed_over=told.to_json()), Utterance(**some)]
    assert [utterance.passed_over for utterance in unpack(pack(sent))] == [told.to_json(), None]


@pytest.fixture
def stale(tmp_path):
    """A WAV whose header says 1 s of the 2 s that it holds."""
    (tmp_path / "stale").mkdir()
    path = tmp_path / "stale" / "a.wav"
    soundfile.write(path, noise(2 * RATE), RATE)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = (2 * RATE).to_bytes(4, "little")
    path.write_bytes(data)
    return path.parent


def test_what_probing_finds_survives_a_kill_and_is_refused_before_the_manifest_is_committed(stale, tmp_path):
    found = {"short_headers": {"count": 1, "example": f"{stale}/a.wav"}}
    faults = [{"point": "after_commit_before_publish", "match": "manifest-00000", "action": "kill"}]
    assert in_child(build_manifest, config(stale, tmp_path / "m"), faults).code == KILLED
    report = build_manifest(config(stale, tmp_path / "m"))
    assert {kind: {name: told[name] for name in ("count", "example")} for kind, told in report.passed_over.items()} == (
        found
    )
    for _ in range(2):
        with pytest.raises(ManifestError, match=r"short_headers: 1\b.*a\.wav"):
            build_manifest(config(stale, tmp_path / "n", strict=True))
        assert not (tmp_path / "n" / "_commits").exists()
