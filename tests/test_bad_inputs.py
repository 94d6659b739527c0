"""Promise R6 and R7 through the whole main job: a folder of bad recordings costs rows of _rejects and nothing else."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import data_bytes

from pipeline.faults import VARIABLE

ROOT = Path(__file__).parents[1]
RATE = 16_000
GOOD = 6


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def flac_that_declares(path, num_samples):
    """Write a good FLAC and change the 36-bit sample count of its STREAMINFO block."""
    soundfile.write(path, noise(1), RATE, format="FLAC")
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC"
    # Sample count: the low 4 bits of byte 21 and bytes 22 to 25.
    data[21] = (data[21] & 0xF0) | (num_samples >> 32)
    data[22:26] = struct.pack(">I", num_samples & 0xFFFFFFFF)
    path.write_bytes(data)


def wav_header(rate=RATE, channels=1, bits=16, data=0, kind=1, riff=None):
    block = channels * bits // 8
    fields = struct.pack("<HHIIHH", kind, channels, rate, (rate * block) & 0xFFFFFFFF, block, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + fields + b"data" + struct.pack("<I", data)
    return b"RIFF" + struct.pack("<I", len(chunks) + data if riff is None else riff) + chunks


def cut(path, source, share):
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def write_bad(folder, outside):
    """Write one bad recording after the other; give the reasons that each may be rejected for."""
    good_wav, good_flac = folder / "good_0.wav", folder / "good_1.flac"
    pcm = (noise(1) * 32767).astype("<i2").tobytes()
    bad = {}

    def add(name, *reasons):
        bad[name.rsplit(".", 1)[0]] = set(reasons)
        return folder / name

    add("empty.wav", "empty").write_bytes(b"")
    add("empty.flac.mp3", "empty").write_bytes(b"")
    add("text.wav", "not_audio").write_text("this is a poem, not a recording\n" * 20)
    add("html.mp3", "not_audio").write_text("<!doctype html><title>404</title>" * 30)
    add("image.ogg", "not_audio").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(4000))
    add("random.flac", "not_audio").write_bytes(b"\x00" + os.urandom(4000))
    add("magic_only.flac", "not_audio", "truncated", "header_lies").write_bytes(b"fLaC")
    add("riff_only.wav", "not_audio", "truncated", "header_lies").write_bytes(b"RIFF\x24\x00\x00\x00WAVE")
    add("zero_length.wav", "too_short", "empty").write_bytes(wav_header(data=0, riff=36))
    soundfile.write(add("hundredth.wav", "too_short"), noise(0.01), RATE)
    soundfile.write(add("one_sample.wav", "too_short"), noise(1)[:1], RATE)
    soundfile.write(add("nan.wav", "not_finite"), np.full(RATE, np.nan), RATE, subtype="FLOAT")
    one_inf = noise(1)
    one_inf[7000] = np.inf
    soundfile.write(add("inf.wav", "not_finite"), one_inf, RATE, subtype="FLOAT")
    cut(add("half.flac", "truncated"), good_flac, 0.5)
    cut(add("half_pcm.wav", "truncated", "header_lies"), good_wav, 0.5)
    flac_that_declares(add("declares_2e36.flac", "header_lies"), 2**36 - 1)
    flac_that_declares(add("declares_twice.flac", "truncated", "header_lies"), 2 * RATE)
    add("size_lies.wav", "header_lies", "truncated").write_bytes(wav_header(data=2**31 - 64) + pcm)
    soundfile.write(add("silence_3h.flac", "too_long"), np.zeros(3 * 3600 * 4000, np.int16), 4000, format="FLAC")
    soundfile.write(add("too_long.wav", "too_long"), np.zeros(130 * 8000, np.int16), 8000)
    add("one_hertz.wav", "bad_sample_rate").write_bytes(wav_header(rate=1, data=len(pcm)) + pcm)
    add("rate_4g.wav", "bad_sample_rate", "not_audio").write_bytes(wav_header(rate=2**31 - 1, data=len(pcm)) + pcm)
    add("channels_64.wav", "too_many_channels").write_bytes(wav_header(channels=64, data=len(pcm)) + pcm)
    os.mkfifo(add("fifo.wav", "not_a_file"))
    (add("broken_link.wav", "missing")).symlink_to(folder / "nowhere.wav")
    soundfile.write(outside / "secret.wav", noise(1), RATE)
    (add("out_of_root.wav", "outside_root")).symlink_to(outside / "secret.wav")
    (add("loop.wav", "missing", "unreadable", "not_a_file")).symlink_to(folder / "loop.wav")
    soundfile.write(add("good_1.wav", "duplicate_id"), noise(1), RATE)
    for name, reason in (("segfault", "crash"), ("abort", "crash"), ("hang", "timeout"), ("allocate", "memory")):
        soundfile.write(add(f"{name}_decoder.wav", f"decoder_{reason}"), noise(1), RATE)
    return bad


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, outside = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("outside")
    for number in range(GOOD):
        soundfile.write(folder / f"good_{number}.{'flac' if number == 1 else 'wav'}", noise(1.5, number), RATE)
    return folder, write_bad(folder, outside)


def run(corpus, output, encoder, *flags):
    faults = [
        {"point": "decode", "match": f"{action}_decoder", "action": action}
        for action in ("segfault", "abort", "hang", "allocate")
    ]
    command = [
        *(sys.executable, ROOT / "jobs" / "run_pipeline.py"),
        *("--corpus", corpus, "--layout", "folder", "--output", output, "--encoder", encoder),
        *("--layers", 1, 3, "--num-clusters", 8, "--max-iterations", 3, "--decode-timeout-seconds", 3, *flags),
        *("--max-utterance-seconds", 120),
    ]
    environment = {**os.environ, VARIABLE: json.dumps(faults), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory, small_encoder):
    output = tmp_path_factory.mktemp("run")
    encoder = small_encoder(kind="wavlm", stem="layer", stable=True)
    return output, encoder, run(corpus[0], output, encoder, "--runner", "here")


def rejects_of(output):
    tables = [pq.read_table(folder) for folder in Path(output).glob("*/_rejects") if any(folder.iterdir())]
    return pa.concat_tables(tables).to_pylist()


def test_there_are_thirty_kinds_of_bad_input(corpus):
    assert len(corpus[1]) >= 30


def test_every_bad_input_is_rejected_for_the_right_reason_and_the_run_succeeds(done, corpus):
    output, _, result = done
    assert result.returncode == 0, result.stderr[-3000:]
    found = {}
    for row in rejects_of(output):
        found.setdefault(Path(row["uri"]).name.rsplit(".", 1)[0], set()).add(row["reason"])
    wrong = {name: (found.get(name), reasons) for name, reasons in corpus[1].items() if not found.get(name)}
    assert wrong == {}
    assert {name: found[name] for name, reasons in corpus[1].items() if not found[name] <= reasons} == {}
    assert set(found) <= set(corpus[1])


def test_every_good_input_is_tokenised(done):
    output, _, _ = done
    rows = pq.read_table(Path(output) / "tokens").to_pylist()
    assert sorted(row["utterance_id"] for row in rows) == [f"good_{number}" for number in range(GOOD)]
    assert all(row["num_frames"] == 74 for row in rows)


def test_details_tell_a_person_what_was_found(done):
    output, _, _ = done
    for row in rejects_of(output):
        assert len(row["detail"]) > 8, row
        assert row["stage"] in ("manifest", "features", "tokens")
    duplicate = next(row for row in rejects_of(output) if row["reason"] == "duplicate_id")
    assert "good_1.flac" in duplicate["detail"]
    assert "good_1.wav" in duplicate["detail"]


def assert_refused(result):
    assert result.returncode == 1
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "utterances were rejected" in sentence
    assert "max_reject_fraction" in sentence
    assert "Traceback" not in result.stderr


def test_a_low_limit_fails_with_one_clear_sentence(done, corpus, tmp_path):
    _, encoder, _ = done
    assert_refused(run(corpus[0], tmp_path / "run", encoder, "--runner", "here", "--max-reject-fraction", 0.1))


RAY = ("--runner", "ray", "--ray-address", "local")


# Nightly: the test before it does the same in this process, and test_runners.py compares both.
@pytest.mark.nightly
@pytest.mark.ray
def test_on_ray_the_same_inputs_are_rejected_for_the_same_reasons(done, corpus, tmp_path):
    output, encoder, _ = done
    result = run(corpus[0], tmp_path, encoder, *RAY)
    assert result.returncode == 0, result.stderr[-3000:]
    assert reasons_of(tmp_path) == reasons_of(output)
    assert data_bytes(tmp_path / "tokens") == data_bytes(output / "tokens")


@pytest.mark.ray
@pytest.mark.nightly
def test_on_ray_a_low_limit_fails_with_one_clear_sentence(done, corpus, tmp_path):
    _, encoder, _ = done
    assert_refused(run(corpus[0], tmp_path / "run", encoder, *RAY, "--max-reject-fraction", 0.1))


def reasons_of(output):
    return sorted((row["uri"], row["stage"], row["reason"]) for row in rejects_of(output))
