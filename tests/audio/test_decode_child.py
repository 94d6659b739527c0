"""The life of the decode child: crashes, hangs, memory, parents that die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_audio import RATE, decode, noise, reason_of, wav

from pipeline import faults
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.schema import Reason


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("abort", Reason.DECODER_CRASH),
        ("segfault", Reason.DECODER_CRASH),
        ("hang", Reason.DECODER_TIMEOUT),
        ("allocate", Reason.DECODER_MEMORY),
        ("error", Reason.UNREADABLE),
    ],
)
def test_a_decoder_that_dies_or_hangs_costs_one_file(tmp_path, monkeypatch, action, reason):
    path = wav(tmp_path / "a.wav", noise(8_000))
    monkeypatch.setenv(faults.VARIABLE, json.dumps([{"point": "decode", "match": "killer", "action": action}]))
    with Decoder(sample_rate=RATE, limits=DecodeLimits(timeout_seconds=2)) as decoder:
        for _ in range(2):
            assert len(decode(decoder, path, name="good")) == 8_000
            assert reason_of(decode, decoder, path, name="killer") == reason
        assert len(decode(decoder, path, name="good")) == 8_000


def test_real_decoding_is_held_to_its_memory(tmp_path):
    wav(tmp_path / "a.wav", noise(170 * 48_000), 48_000)
    wav(tmp_path / "b.wav", noise(RATE))
    with Decoder(sample_rate=RATE, limits=DecodeLimits(memory_bytes=16 << 20)) as decoder:
        assert reason_of(decode, decoder, tmp_path / "a.wav") == Reason.DECODER_MEMORY
        assert len(decode(decoder, tmp_path / "b.wav")) == RATE


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid, seconds=5.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    path = wav(tmp_path / "a.wav", noise(100))
    script = (
        "import sys, time; from pipeline.audio.decode import Decoder\n"
        "decoder = Decoder(sample_rate=16000); decoder.probe(sys.argv[1]); print('ready', flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        cwd=tmp_path,
    )
    try:
        assert parent.stdout.readline() == b"ready\n"
        (child,) = children(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert gone(child)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_close_leaves_no_child_and_a_closed_decoder_starts_anew(tmp_path):
    path = wav(tmp_path / "a.wav", noise(100))
    before = set(children(os.getpid()))
    decoder = Decoder(sample_rate=RATE)
    assert set(children(os.getpid())) == before
    decoder.probe(str(path))
    (child,) = set(children(os.getpid())) - before
    decoder.close()
    assert not Path(f"/proc/{child}").exists()
    assert decoder.probe(str(path)).num_samples == 100
    decoder.close()


def test_a_child_that_died_between_requests_is_replaced(tmp_path):
    path = wav(tmp_path / "a.wav", noise(100))
    before = set(children(os.getpid()))
    with Decoder(sample_rate=RATE) as decoder:
        decoder.probe(str(path))
        (child,) = set(children(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
        assert gone(child)
        assert decoder.probe(str(path)).num_samples == 100


def test_the_child_starts_from_a_folder_with_traps_and_loads_nothing_heavy(tmp_path, monkeypatch):
    path = wav(tmp_path / "a.wav", noise(100))
    for name in ("numpy", "pipeline", "json", "soundfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a trap')")
    monkeypatch.chdir(tmp_path)
    before = set(children(os.getpid()))
    with Decoder(sample_rate=RATE) as decoder:
        decoder.probe(str(path))
        (child,) = set(children(os.getpid())) - before
        mapped = Path(f"/proc/{child}/maps").read_text()
    assert "libsndfile" in mapped
    assert not [name for name in ("torch", "arrow", "ray/_raylet") if name in mapped]
