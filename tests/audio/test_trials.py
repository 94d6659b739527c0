"""What befalls a decode process from outside is no fault of a recording; what a recording does to it, is."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made_audio import RATE, decode, noise, wav

from pipeline import faults
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason
from pipeline.work.deaths import DEATHS_ALONE, FOREIGN_DEATHS

ROOT = Path(__file__).parents[2]
FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGBUS", "SIGHUP", "SIGINT", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGXCPU")


@pytest.fixture
def recording(tmp_path):
    return wav(tmp_path / "a.wav", noise(8_000))


@pytest.fixture
def _no_waits(monkeypatch):
    monkeypatch.setattr("pipeline.work.deaths._LONGEST_WAIT", 0.01)


def happen(monkeypatch, folder, action, times):
    """Let a fault befall the decode process a number of times, while it reads ``killer``."""
    each = [{"once": str(folder / f"{action}-{number}")} for number in range(times)] if times else [{}]
    found = [{"point": "decode", "match": "killer", "action": action, **once} for once in each]
    # Several that wait at one point would all fire in one process.
    monkeypatch.setenv(faults.VARIABLE, json.dumps(found))


@pytest.fixture
def _signals_end_processes():
    """Let interrupts end the processes that are started: a shell has them ignored behind a &, and nohup a hangup."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_end_processes")
@pytest.mark.parametrize("name", FROM_OUTSIDE)
def test_a_signal_from_outside_costs_no_recording(tmp_path, monkeypatch, recording, name):
    happen(monkeypatch, tmp_path, "hang", 3)
    with Decoder(sample_rate=RATE) as decoder:
        ended = threading.Event()

        def kill():
            while not ended.wait(0.1):
                if len(list(tmp_path.glob("hang-*"))) > len(killed) and decoder._child is not None:
                    killed.append(decoder._child._process.pid)
                    os.kill(killed[-1], getattr(signal, name))

        killed = []
        thread = threading.Thread(target=kill)
        thread.start()
        try:
            assert np.array_equal(decode(decoder, recording, name="killer"), noise(8_000))
        finally:
            ended.set()
            thread.join()
    assert len(killed) == 3


@pytest.mark.usefixtures("_no_waits")
@pytest.mark.parametrize("times", [1, FOREIGN_DEATHS - 1])
def test_killed_less_often_than_the_limit_a_recording_is_read(tmp_path, monkeypatch, recording, times):
    happen(monkeypatch, tmp_path, "kill", times)
    with Decoder(sample_rate=RATE) as decoder:
        assert np.array_equal(decode(decoder, recording, name="killer"), noise(8_000))
    assert len(list(tmp_path.glob("kill-*"))) == times


@pytest.mark.usefixtures("_no_waits")
def test_killed_always_it_is_an_error_of_the_store_and_the_next_recording_is_read(monkeypatch, tmp_path, recording):
    happen(monkeypatch, tmp_path, "kill", 0)
    with Decoder(sample_rate=RATE) as decoder:
        with pytest.raises(StorageError, match="died by SIGKILL.*say nothing of the recording.*same command again"):
            decode(decoder, recording, name="killer")
        assert len(decode(decoder, recording, name="good")) == 8_000


@pytest.mark.usefixtures("_no_waits")
def test_a_process_that_is_halted_had_no_time_and_rejects_nothing(monkeypatch, tmp_path, recording):
    happen(monkeypatch, tmp_path, "stop", 2)
    with Decoder(sample_rate=RATE, limits=DecodeLimits(timeout_seconds=0.5)) as decoder:
        assert len(decode(decoder, recording, name="killer")) == 8_000
        happen(monkeypatch, tmp_path, "stop", 0)
        decoder.close()
        with pytest.raises(StorageError, match="was stopped"):
            decode(decoder, recording, name="killer")


@pytest.mark.parametrize("action", ["segfault", "abort"])
@pytest.mark.parametrize("times", [1, DEATHS_ALONE])
def test_a_death_of_its_own_that_does_not_come_again_costs_no_recording(
    tmp_path, monkeypatch, recording, action, times
):
    happen(monkeypatch, tmp_path, action, times)
    with Decoder(sample_rate=RATE) as decoder:
        # The first death is in a process that another recording may have harmed, so it does not count.
        assert len(decode(decoder, recording, name="good")) == 8_000
        assert len(decode(decoder, recording, name="killer")) == 8_000
    assert len(list(tmp_path.glob(f"{action}-*"))) == times


def test_deaths_alone_by_a_signal_of_its_own_reject_a_recording_with_what_was_found(monkeypatch, tmp_path, recording):
    happen(monkeypatch, tmp_path, "segfault", 0)
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(AudioDecodeError) as caught:
        decode(decoder, recording, name="killer")
    assert caught.value.reason == Reason.DECODER_CRASH
    assert f"died by SIGSEGV while it read killer, {DEATHS_ALONE} times with nothing else" in caught.value.detail


def test_where_a_recording_of_ours_kills_the_process_too_nothing_is_rejected(monkeypatch, recording):
    monkeypatch.setenv(faults.VARIABLE, json.dumps([{"point": "decode", "action": "segfault"}]))
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(StorageError, match="over a recording of ours too"):
        decode(decoder, recording, name="killer")


def test_one_hang_costs_no_recording(tmp_path, monkeypatch, recording):
    happen(monkeypatch, tmp_path, "hang", 1)
    with Decoder(sample_rate=RATE, limits=DecodeLimits(timeout_seconds=1)) as decoder:
        assert len(decode(decoder, recording, name="killer")) == 8_000


def test_memory_that_lacks_in_a_used_process_costs_no_recording(tmp_path, monkeypatch, recording):
    happen(monkeypatch, tmp_path, "memory", 1)
    with Decoder(sample_rate=RATE) as decoder:
        assert len(decode(decoder, recording, name="killer")) == 8_000


FEW_FILES = """
import os, resource, sys
from pipeline.audio.decode import Decoder
from pipeline.errors import StorageError
held = []
with Decoder(sample_rate=16_000, roots=[os.path.dirname(sys.argv[1])]) as decoder:
    decoder.probe(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        try:
            held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    try:
        print("read", decoder.probe(sys.argv[1]))
    except StorageError as error:
        print("store", error)
    os.close(held.pop())
    os.close(held.pop())
    print("read", decoder.probe(sys.argv[1]).num_samples)
"""


def test_too_many_open_files_are_no_fault_of_a_recording(recording):
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(recording)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("store ")
    assert "Too many open files" in first
    assert second == "read 8000"


def test_a_refusal_is_read_again_by_a_reader_that_notices_failed_reads(tmp_path, monkeypatch):
    """A file that grows while it is read looks cut; read again it is whole."""
    whole = wav(tmp_path / "whole.flac", noise(80_000)).read_bytes()
    path = tmp_path / "a.flac"
    path.write_bytes(whole[: len(whole) // 2])
    with Decoder(sample_rate=RATE) as decoder:
        with pytest.raises(AudioDecodeError, match="truncated"):
            decode(decoder, path, count=80_000, rate=RATE)
        path.write_bytes(whole)
        assert np.array_equal(decode(decoder, path), noise(80_000))


def test_what_is_read_again_costs_little(tmp_path):
    """Refusals are asked twice: not more than a few milliseconds each."""
    (tmp_path / "text.wav").write_text("no sound at all")
    (tmp_path / "riff.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVE" + b"\xa5" * 999)
    with Decoder(sample_rate=RATE, roots=[str(tmp_path)]) as decoder:
        wav(tmp_path / "good.wav", noise(99))
        decoder.probe(str(tmp_path / "good.wav"))
        began, user = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for name in ("text", "riff", "nowhere") * 20:
            with pytest.raises(AudioDecodeError):
                decoder.probe(str(tmp_path / f"{name}.wav"))
        assert time.monotonic() - began < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - user < 1
