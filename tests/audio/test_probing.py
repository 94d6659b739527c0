"""Candidates to manifest rows: segments, channels, and a reject for each that cannot be used."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import noise

from pipeline.audio.corpora import Candidate
from pipeline.audio.decode import DecodeLimits
from pipeline.audio.makers import ProbeFactory
from pipeline.audio.stage import candidate_table
from pipeline.store.dataset import parquet_bytes
from pipeline.store.storage import LocalStore


@pytest.fixture
def probe(tmp_path):
    """Probe candidates as a worker does; give the rows and the rejects."""
    soundfile.write(tmp_path / "mono.wav", noise(8000), 8000)
    soundfile.write(tmp_path / "stereo.wav", noise(4000, channels=2), 16000)

    def run(*candidates, channels="mix", pick_channel=0):
        store = LocalStore(str(tmp_path / "scratch"))
        store.write("_candidates/shard-00000.parquet", parquet_bytes(candidate_table(candidates), {}))
        factory = ProbeFactory(
            scratch=store.uri,
            limits=DecodeLimits(),
            roots=(str(tmp_path),),
            channels=channels,
            pick_channel=pick_channel,
            lineage={},
        )
        output = factory().make("shard-00000", [])
        rows = pq.read_table(pa.BufferReader(output.data)).to_pylist()
        assert output.rows == len(rows)
        assert output.seconds == pytest.approx(sum(row["num_samples"] / row["sample_rate"] for row in rows))
        return rows, output.rejects.to_pylist()

    def candidate(name="mono", **fields):
        return Candidate(utterance_id=fields.pop("id", name), uri=str(tmp_path / f"{name}.wav"), **fields)

    return run, candidate


def test_a_recording_without_a_segment_is_taken_whole(probe):
    run, candidate = probe
    (row,), rejects = run(candidate(text="hello", speaker="s"))
    assert (row["offset_samples"], row["num_samples"], row["sample_rate"], row["channel"]) == (0, 8000, 8000, None)
    assert (row["text"], row["speaker"], row["emotion"]) == ("hello", "s", None)
    assert rejects == []


def test_a_segment_in_seconds_becomes_the_nearest_samples(probe):
    run, candidate = probe
    (row,), _ = run(candidate(offset_seconds=0.25004, duration_seconds=0.5))
    assert (row["offset_samples"], row["num_samples"]) == (2000, 4000)


def test_a_duration_just_past_the_end_is_cut_and_one_far_past_it_is_rejected(probe):
    run, candidate = probe
    rows, rejects = run(
        candidate(id="near", offset_seconds=0.5, duration_seconds=0.55),
        candidate(id="far", offset_seconds=0.5, duration_seconds=0.7),
        candidate(id="outside", offset_seconds=1.5),
        candidate(id="nothing", offset_seconds=1.0),
    )
    assert [(row["utterance_id"], row["num_samples"]) for row in rows] == [("near", 4000)]
    assert {row["utterance_id"]: row["reason"] for row in rejects} == {
        "far": "bad_segment",
        "outside": "bad_segment",
        "nothing": "too_short",
    }


def test_times_whose_samples_have_no_number_cost_their_segment_alone(probe):
    run, candidate = probe
    rows, rejects = run(
        candidate(id="begin", offset_seconds=1e305, duration_seconds=1.0),
        candidate(id="length", offset_seconds=0.25, duration_seconds=1e306),
        candidate(id="good", offset_seconds=0.25, duration_seconds=0.5),
    )
    assert [row["utterance_id"] for row in rows] == ["good"]
    assert [(row["utterance_id"], row["reason"]) for row in rejects] == [
        ("begin", "bad_segment"),
        ("length", "bad_segment"),
    ]
    assert "1e+305 s is no time in a recording" in rejects[0]["detail"]


def test_channels_are_mixed_picked_or_split(probe):
    run, candidate = probe
    both = (candidate("mono"), candidate("stereo"))
    rows, _ = run(*both)
    assert [row["channel"] for row in rows] == [None, None]
    rows, rejects = run(*both, channels="pick", pick_channel=1)
    assert [(row["utterance_id"], row["channel"]) for row in rows] == [("stereo", 1)]
    assert [(row["utterance_id"], row["reason"]) for row in rejects] == [("mono", "bad_segment")]
    rows, _ = run(*both, channels="split")
    assert [(row["utterance_id"], row["channel"]) for row in rows] == [
        ("mono", None),
        ("stereo.ch0", 0),
        ("stereo.ch1", 1),
    ]


def test_a_listed_channel_wins_over_the_policy(probe):
    run, candidate = probe
    (row,), _ = run(candidate("stereo", channel=1), channels="split")
    assert (row["utterance_id"], row["channel"]) == ("stereo", 1)


def test_problems_of_the_listing_and_of_the_header_become_rejects_with_their_words(probe):
    run, candidate = probe
    rows, rejects = run(
        candidate(id="listed", problem=("bad_row", "row 7 has no uri")), candidate("absent"), candidate("mono")
    )
    assert [row["utterance_id"] for row in rows] == ["mono"]
    assert [(row["utterance_id"], row["reason"]) for row in rejects] == [("listed", "bad_row"), ("absent", "missing")]
    assert rejects[0]["detail"] == "row 7 has no uri"
    assert np.all([row["stage"] == "manifest" for row in rejects])
