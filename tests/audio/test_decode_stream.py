"""Recordings that stream in stretches: the samples of one piece, bounded memory, faults that show late."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_audio import RATE, decode, noise

from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.errors import AudioDecodeError
from pipeline.schema import Reason


def stream(decoder, path, *, offset=0, count=None, channel=None):
    info = decoder.probe(str(path))
    return decoder.stream(
        str(path),
        offset_samples=offset,
        num_samples=info.num_samples - offset if count is None else count,
        sample_rate=info.sample_rate,
        channel=channel,
        utterance_id="u",
    )


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE, limits=DecodeLimits(max_seconds=3_600)) as decoder:
        yield decoder


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("rate", [RATE, 22_050, 48_000])
def test_a_stream_gives_the_samples_of_one_piece(decoder, tmp_path, name, rate):
    soundfile.write(tmp_path / name, noise(rate * 25 + 77), rate)
    pieces = list(stream(decoder, tmp_path / name))
    whole = decode(decoder, tmp_path / name)
    assert len(pieces) == 3
    assert max(map(len, pieces)) < 10.1 * RATE
    assert {piece.dtype for piece in pieces} == {whole.dtype}
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_segment_streams_as_a_slice(decoder, tmp_path):
    written = noise(RATE * 30)
    soundfile.write(tmp_path / "a.flac", written, RATE)
    pieces = list(stream(decoder, tmp_path / "a.flac", offset=50_001, count=12 * RATE))
    np.testing.assert_array_equal(np.concatenate(pieces), written[50_001 : 50_001 + 12 * RATE])


def test_a_truncation_that_shows_late_ends_the_stream_with_its_reason(decoder, tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(RATE * 40), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    found = stream(decoder, path)
    assert len(next(found)) == 10 * RATE
    with pytest.raises(AudioDecodeError) as caught:
        list(found)
    assert caught.value.reason == Reason.TRUNCATED
    assert len(decode(decoder, path, count=RATE)) == RATE


def test_an_abandoned_stream_leaves_the_decoder_usable(decoder, tmp_path):
    written = noise(RATE * 60)
    soundfile.write(tmp_path / "a.wav", written, RATE)
    found = stream(decoder, tmp_path / "a.wav")
    next(found)
    found.close()
    np.testing.assert_array_equal(decode(decoder, tmp_path / "a.wav", count=500), written[:500])
    found = stream(decoder, tmp_path / "a.wav")
    np.testing.assert_array_equal(np.concatenate(list(found)), written)


def test_a_slow_reader_is_no_fault_of_the_recording(tmp_path):
    import time

    soundfile.write(tmp_path / "a.wav", noise(RATE * 60), RATE)
    with Decoder(sample_rate=RATE, limits=DecodeLimits(timeout_seconds=0.5)) as decoder:
        found = stream(decoder, tmp_path / "a.wav")
        first = next(found)
        time.sleep(1.2)
        assert sum(map(len, [first, *found])) == RATE * 60


def test_a_decoder_that_is_killed_in_the_middle_again_and_again_gives_each_sample_once(tmp_path):
    written = noise(RATE * 60)
    soundfile.write(tmp_path / "a.wav", written, RATE)
    with Decoder(sample_rate=RATE) as decoder:
        found = []
        for stretch in stream(decoder, tmp_path / "a.wav"):
            found.append(stretch)
            os.kill(decoder._child._process.pid, (signal.SIGKILL, signal.SIGTERM, signal.SIGBUS)[len(found) % 3])
        np.testing.assert_array_equal(np.concatenate(found), written)


MEMORY = """
import json, resource, sys
from pipeline.audio.decode import DecodeLimits, Decoder
with Decoder(sample_rate=16_000, limits=DecodeLimits(max_seconds=1e5)) as decoder:
    info = decoder.probe(sys.argv[1])
    place = dict(offset_samples=0, num_samples=info.num_samples, sample_rate=info.sample_rate, channel=0)
    count = sum(len(block) for block in decoder.stream(sys.argv[1], utterance_id="u", **place))
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([count, own, child]))
"""


def test_memory_does_not_grow_with_the_recording(tmp_path):
    def peak(hours):
        path = tmp_path / f"{hours}.flac"
        with soundfile.SoundFile(path, "w", 8_000, 1) as file:
            for _ in range(hours * 60):
                file.write(noise(8_000 * 60))
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path)],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        count, own, child = json.loads(done.stdout)
        assert count == hours * 3_600 * RATE
        return own + child

    # Two hours decoded are 460 MB of float32.
    assert peak(2) - peak(1) < 20 << 20
