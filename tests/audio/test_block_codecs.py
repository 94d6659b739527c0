"""Codecs that decode blocks of samples: the length is that of whole blocks, or less where ``fact`` says so."""

import struct

import numpy as np
import pytest
from made_audio import noise
from made_recordings import ffmpeg, ffmpeg_samples, patched, read, recorded, written

from pipeline.audio.decode import Decoder

RATE = 8_000
FORMS = [
    ("WAV", "GSM610"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "G721_32"),
    ("WAV", "NMS_ADPCM_32"),
    ("W64", "GSM610"),
    ("W64", "IMA_ADPCM"),
    ("W64", "MS_ADPCM"),
    ("AIFF", "GSM610"),
    ("AIFF", "IMA_ADPCM"),
    ("AU", "G721_32"),
    ("AU", "G723_24"),
    ("AU", "G723_40"),
    ("CAF", "ALAC_16"),
]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


def without_fact(data):
    """Take the fact chunk out of a WAV."""
    place = data.index(b"fact")
    return data[:place] + data[place + 12 :]


def test_a_gsm_wave_of_an_odd_number_of_blocks_has_no_noise_at_its_end(decoder, tmp_path):
    """At 5237d84 it had 24,320 samples, the last 320 of them loud noise."""
    data = recorded(noise(24_000), "WAV", "GSM610", RATE)
    for made in (data, without_fact(data)):
        found = read(decoder, written(tmp_path, made)).samples
        assert np.array_equal(found, ffmpeg_samples(tmp_path / "recording")[:, 0])
        assert len(found) == 24_000


@pytest.mark.parametrize("blocks", [1, 2, 74, 75, 76])
@pytest.mark.parametrize("left", [0, 1, 32, 64])
def test_a_gsm_block_that_is_not_whole_is_no_audio(decoder, tmp_path, blocks, left):
    data = without_fact(recorded(noise(320 * blocks), "WAV", "GSM610", RATE))
    place = data.index(b"data") + 4
    end = place + 4 + 65 * blocks
    data = patched(data, place, struct.pack("<I", 65 * blocks + left))[:end] + b"\x5a" * left
    assert len(read(decoder, written(tmp_path, data)).samples) == 320 * blocks


@pytest.mark.parametrize(
    ("fact", "expected"), [(23_990, 23_990), (23_700, 23_700), (24_001, 24_000), (0, 24_000), (80, 24_000)]
)
def test_fact_is_believed_where_it_takes_away_what_filled_the_last_block(decoder, tmp_path, fact, expected):
    data = recorded(noise(24_000), "WAV", "GSM610", RATE)
    data = patched(data, data.index(b"fact") + 8, struct.pack("<I", fact))
    assert len(read(decoder, written(tmp_path, data)).samples) == expected


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kept", [1.0, 0.97, 0.5])
def test_adpcm_has_the_samples_that_ffmpeg_decodes(decoder, tmp_path, codec, channels, kept):
    """A last block may be short; libsndfile fills it up with noise."""
    wave = recorded(noise(20_000, channels=channels), "WAV", rate=RATE)
    data = ffmpeg("-f", "wav", "-i", "-", "-c:a", codec, "-f", "wav", "-", data=wave)
    if b"fact" in data:
        data = without_fact(data)
    place = data.index(b"data") + 4
    held = len(data) - place - 4
    align = struct.unpack("<H", data[32:34])[0]
    size = held // align * align - int(align * (1 - kept)) // (8 * channels) * (8 * channels)
    data = patched(data[: place + 4 + size], place, struct.pack("<I", size))
    expected = ffmpeg_samples(written(tmp_path, data), channels)[:, 0]
    found = read(decoder, tmp_path / "recording").samples
    if codec == "adpcm_ima_wav":
        assert np.array_equal(found, expected)
    else:
        # libsndfile and ffmpeg round the prediction of a negative number to different sides.
        assert abs(len(found) - len(expected)) <= 2
        assert np.abs(found[: len(expected)] - expected[: len(found)]).max() < 0.01


@pytest.mark.parametrize(("container", "subtype"), FORMS)
@pytest.mark.parametrize("count", [24_000, 24_001, 23_990])
def test_a_segment_of_blocks_is_a_slice_of_the_whole_and_the_end_is_no_noise(
    decoder, tmp_path, container, subtype, count
):
    samples = noise(count)
    path = written(tmp_path, recorded(samples, container, subtype, RATE))
    whole = read(decoder, path).samples
    assert count <= len(whole) < count + 1_024
    assert np.abs(whole[:count] - samples / 32768).mean() < 0.5 * np.abs(samples / 32768).mean()
    for offset in (1, 777, 11_111, count - 300):
        segment = read(decoder, path, offset=offset, count=300).samples
        assert np.array_equal(segment, whole[offset : offset + 300])


@pytest.mark.parametrize("count", [1_000, 5_953, 20_000])
def test_the_halved_fact_of_two_channels_that_libsndfile_writes_hides_no_audio(decoder, tmp_path, count):
    data = recorded(noise(count, channels=2), "WAV", "IMA_ADPCM", RATE)
    fact = struct.unpack("<I", data[data.index(b"fact") + 8 :][:4])[0]
    found = read(decoder, written(tmp_path, data)).samples
    assert len(found) == 2 * fact + len(found) % 2 >= count
