"""Who does the work: what is asked for, or by the amount of audio and the Ray that is there."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.work.choice import HERE_MINUTES, Choice, RunnerSettings
from pipeline.work.joined import joined_cluster

ROOT = Path(__file__).parents[2]
CHOOSE = """
import json, sys
from pipeline.work.choice import Choice
from pipeline.work.joined import joined_cluster
found = joined_cluster()
name, why = Choice("auto", 60.0)._decide()
print(json.dumps([name, why, None if found is None else found.running, "ray" in sys.modules]))
"""


def decided(name, minutes):
    return Choice(name, 60 * minutes)._decide()


def chosen_in_a_process(**environment):
    """Let a fresh process choose for a minute of audio: runner, reason, whether Ray runs, whether it was imported."""
    known = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE],
        env={**known, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def write_cluster_file(folder, port):
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")


def test_auto_does_an_hour_of_audio_in_this_process_and_gives_more_to_ray():
    assert decided("auto", HERE_MINUTES)[0] == "here"
    name, why = decided("auto", HERE_MINUTES + 0.1)
    assert name == "ray"
    assert "more than 60" in why


def test_what_is_asked_for_is_taken_whatever_the_amount():
    assert decided("here", 10**6) == ("here", "--runner here asks for it")
    assert decided("ray", 0) == ("ray", "--runner ray asks for it")


def test_another_runner_is_refused():
    with pytest.raises(SettingsError, match="runner must be auto, ray or here, got 'there'"):
        Choice("there", 1.0)
    with pytest.raises(SettingsError, match="got 'there'"):
        RunnerSettings(runner="there").choice(1.0)


def test_a_cluster_that_is_named_gets_even_little_work_and_ray_is_not_imported_to_find_it():
    assert chosen_in_a_process(RAY_ADDRESS="10.0.0.1:6379") == ["ray", "RAY_ADDRESS names a cluster", True, False]


def test_an_address_local_starts_ray_and_runs_not_yet():
    name, why, running, imported = chosen_in_a_process(RAY_ADDRESS="local")
    assert (name, running, imported) == ("ray", False, False)
    assert "local" in why


def test_a_cluster_that_runs_on_this_machine_is_joined(tmp_path):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        write_cluster_file(tmp_path, server.getsockname()[1])
        found = chosen_in_a_process(RAY_TMPDIR=str(tmp_path))
    assert found == ["ray", "a Ray cluster runs on this machine", True, False]


@pytest.mark.parametrize("text", [None, "", "no address", "127.0.0.1:x"])
def test_what_a_cluster_that_was_killed_has_left_behind_is_no_cluster(tmp_path, text):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        write_cluster_file(tmp_path, probe.getsockname()[1])
    if text is not None:
        (tmp_path / "ray" / "ray_current_cluster").write_text(text)
    name, why, running, imported = chosen_in_a_process(RAY_TMPDIR=str(tmp_path))
    assert (name, running, imported) == ("here", None, False)
    assert "no Ray cluster is joined" in why


def test_auto_as_an_address_looks_for_a_cluster_as_none_does(tmp_path):
    assert chosen_in_a_process(RAY_ADDRESS="auto", RAY_TMPDIR=str(tmp_path))[0] == "here"


def test_the_choice_is_told_once_and_again_when_it_changes(caplog, monkeypatch):
    monkeypatch.setattr(Choice, "_told", None)
    with caplog.at_level(logging.INFO, "pipeline.work.choice"):
        for _ in range(3):
            assert Choice("auto", 60.0).runner.name == "here"
        assert Choice("here", 60.0).runner.name == "here"
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("runner: this process, because no Ray cluster is joined and 1.0 minutes of audio")
    assert lines[0].endswith("--runner ray starts Ray")
    assert lines[1] == "runner: this process, because --runner here asks for it"


def test_a_choice_that_nobody_asks_for_a_runner_tells_nothing(caplog):
    with caplog.at_level(logging.INFO, "pipeline.work.choice"):
        Choice("ray", 60.0)
    assert caplog.records == []


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_process_that_is_connected_to_ray_stays_with_it():
    found = joined_cluster()
    assert (found.running, found.why) == (True, "this process is connected to Ray")
    assert decided("auto", 0) == ("ray", found.why)
