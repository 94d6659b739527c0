"""The clock of MP3: samples lie where a plain reading has them, in the whole, in segments and in a stream."""

import struct

import numpy as np
import pytest
import soundfile
from made_audio import noise, reason_of
from made_recordings import ffmpeg, ffmpeg_samples, mp3, patched, read, recorded

from pipeline.audio.decode import Decoder
from pipeline.schema import Reason

# Between decoders of full range; those of libmpg123 and ffmpeg differ by 3.2e-6 on synthetic sound.
BETWEEN_DECODERS = 4e-6
SEGMENT = 1e-6


def bursts(rate, seconds=20):
    """Loud and quiet by turns, so that an encoder saves bits for later frames."""
    count = rate * seconds
    loud = (np.sin(np.arange(count) / rate * 7) > 0.3) + 0.01
    tone = np.sin(np.cumsum(np.linspace(0.02, 0.6, count)))
    return (8000 * loud * (tone + noise(count) / 8000)).clip(-32768, 32767).astype(np.int16)


def write(folder, data):
    path = folder / "a.mp3"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("bit_rate", ["8k", "16k", "24k", "64k"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_segment_of_an_mp3_is_its_slice_of_a_whole_reading(tmp_path, rate, bit_rate, channels):
    """At 5237d84 segments began with samples that were off by up to 0.46, as the decoder lacked earlier frames."""
    sound = bursts(rate)
    sound = np.stack([sound] * channels, axis=1) if channels > 1 else sound
    path = write(tmp_path, mp3(sound, rate, "-b:a", bit_rate))
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    with Decoder(sample_rate=rate) as decoder:
        assert np.abs(read(decoder, path).samples - whole[:, 0]).max() < SEGMENT
        for offset in np.random.default_rng(0).integers(0, len(whole) - 400, 12):
            segment = read(decoder, path, offset=int(offset), count=400).samples
            assert np.abs(segment - whole[offset : offset + 400, 0]).max() < SEGMENT


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("options", [["-b:a", "24k"], ["-b:a", "64k"], ["-q:a", "7"]])
def test_an_mp3_without_a_xing_frame_is_on_the_clock_of_a_plain_reading(tmp_path, rate, options):
    """At 5237d84 a constant-rate MP3 began 529 samples later than soundfile and ffmpeg have it."""
    path = write(tmp_path, mp3(bursts(rate), rate, *options, "-write_xing", 0))
    expected = ffmpeg_samples(path)[:, 0]
    plain, _ = soundfile.read(path, dtype="float32")
    with Decoder(sample_rate=rate) as decoder:
        found = read(decoder, path).samples
        assert len(found) == len(expected)
        assert np.abs(found - expected).max() < BETWEEN_DECODERS
        # libsndfile ends where it guesses, but the samples before that are these.
        count = min(len(plain), len(found))
        assert np.abs(found[:count] - plain[:count]).max() < SEGMENT
        for offset in (0, 1, 529, 100_000, len(found) - 300):
            segment = read(decoder, path, offset=offset, count=300).samples
            assert np.abs(segment - found[offset : offset + 300]).max() < SEGMENT


def test_an_mp3_that_lost_its_first_frame_is_on_the_clock_of_a_plain_reading(tmp_path):
    rate = 16_000
    data = recorded(noise(48_000), "MP3", "MPEG_LAYER_III", rate, bitrate_mode="CONSTANT")
    length = data.find(data[:2], 10)
    path = write(tmp_path, data[length:])
    plain, _ = soundfile.read(path, dtype="float32")
    with Decoder(sample_rate=rate) as decoder:
        found = read(decoder, path).samples
    assert len(found) == len(ffmpeg_samples(path))
    assert np.abs(found[: len(plain)] - plain).max() < SEGMENT


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("offset", [0, 123_457])
def test_a_long_mp3_in_pieces_gives_the_samples_of_the_whole(tmp_path, tagged, offset):
    rate = 16_000
    path = write(tmp_path, mp3(bursts(rate, 45), rate, "-b:a", "24k", "-write_xing", int(tagged)))
    with Decoder(sample_rate=rate) as decoder:
        whole = read(decoder, path).samples
        place = {"offset_samples": offset, "num_samples": len(whole) - offset, "sample_rate": rate, "channel": 0}
        pieces = list(decoder.stream(str(path), **place, utterance_id="u"))
    assert len(pieces) > 3
    assert np.abs(np.concatenate(pieces) - whole[offset:]).max() < SEGMENT


def test_a_vbri_frame_is_no_audio(tmp_path):
    """Fraunhofer's tag counts frames too, but libmpg123 plays it as silence and guesses the length."""
    rate = 16_000
    data = mp3(bursts(rate), rate, "-q:a", "7", "-write_xing", 0, "-id3v2_version", 0)
    plain = ffmpeg_samples(write(tmp_path, data))[:, 0]
    head = bytes([data[0], data[1] | 1, 0x80 | data[2] & 0x0C, data[3]]) + bytes(32)
    tag = head + b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(data), 1000, 0, 1, 1, 1)
    length = 72 * 64_000 // rate
    with Decoder(sample_rate=rate) as decoder:
        found = read(decoder, write(tmp_path, tag.ljust(length, b"\0") + data)).samples
    assert len(found) == len(plain)
    assert np.abs(found - plain).max() < BETWEEN_DECODERS


def test_frames_that_a_tag_counts_and_the_file_lacks_are_a_truncation(tmp_path):
    data = mp3(bursts(16_000), 16_000, "-b:a", "24k")
    place = max(data.find(b"Xing"), data.find(b"Info"))
    more = int.from_bytes(data[place + 8 : place + 12], "big") + 10
    with Decoder(sample_rate=16_000) as decoder:
        assert (
            reason_of(read, decoder, write(tmp_path, patched(data, place + 8, struct.pack(">I", more))))
            == Reason.TRUNCATED
        )


def test_layer_2_is_read_as_ffmpeg_reads_it(tmp_path):
    wave = recorded(noise(96_000), "WAV", rate=16_000)
    data = ffmpeg("-f", "wav", "-i", "-", "-c:a", "mp2", "-b:a", "32k", "-f", "mp2", "-", data=wave)
    path = write(tmp_path, data)
    expected = ffmpeg_samples(path)[:, 0]
    with Decoder(sample_rate=16_000) as decoder:
        found = read(decoder, path).samples
        segment = read(decoder, path, offset=50_000, count=500).samples
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(segment - found[50_000:50_500]).max() < SEGMENT
