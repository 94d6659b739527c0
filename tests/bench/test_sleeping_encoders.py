"""The benches of many workers and many jobs, made small: each job its own output, all with the same hash."""

import json
import sys

import pytest

from bench import scaling, side_by_side

pytestmark = [pytest.mark.ray, pytest.mark.nightly]


def test_two_jobs_on_one_cluster_each_write_their_own(tmp_path, monkeypatch):
    flags = ["--jobs", "1", "2", "--shards", "6", "--sleep-seconds", "0.2", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["side_by_side", *flags])
    side_by_side.main()
    rows = json.loads((tmp_path / "found.json").read_text())["side_by_side"]
    assert [(row["jobs"], len(row["each"])) for row in rows] == [(1, 1), (2, 2), (2, 2)]
    # Two jobs may both ask for every GPU: the second one waits, and ends as well.
    assert rows[-1]["workers"] == 4
    assert len({each["sha256"] for row in rows for each in row["each"]}) == 1


def test_shares_of_linear_are_shares(tmp_path, monkeypatch):
    flags = [
        "--actors",
        "2",
        "--shards-per-actor",
        "12",
        "--sleep-seconds",
        "1",
        "--json",
        str(tmp_path / "found.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["scaling", *flags])
    scaling.main()
    (found,) = json.loads((tmp_path / "found.json").read_text())["scaling"]
    assert 0 < found["linear_to_the_end"] <= 1
    assert 0 < found["linear"] <= 1
    assert found["shards"] == 24
    assert 0 < found["driver_ms_per_shard"] < 1e3 * found["wall_seconds"]
