import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.containers.declared import BadRecording
from pipeline.audio.containers.magic import sniff
from pipeline.audio.containers.mpeg import check_mpeg
from pipeline.audio.containers.ogg import check_ogg
from pipeline.audio.containers.riff import check_wave
from pipeline.audio.decode import Decoder
from pipeline.audio.views import View

RATE = 16_000
SAMPLES = (1000 * np.sin(np.arange(30_000))).astype(np.int16)


def opened(path):
    return View(str(path), 0, Path(path).stat().st_size)


def wave_with_sizes(path, *, riff, data, tail=b""):
    """Write a WAV of SAMPLES with other numbers in its two size fields."""
    content = SAMPLES.astype("<i2").tobytes()
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", riff) + form + b"data" + struct.pack("<I", data) + content + tail)
    return str(path)


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0, 0),
        (8, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0x7FFFF024, 0x7FFFF000),
        (36 + 60_000, 0x80000000),
        (36 + 60_000, 60_000),
        (0, 60_000),
    ],
)
def test_a_wave_written_to_a_pipe_is_read_whole(tmp_path, riff, data):
    uri = wave_with_sizes(tmp_path / "a.wav", riff=riff, data=data)
    with Decoder(sample_rate=RATE) as decoder:
        assert decoder.probe(uri).num_samples == len(SAMPLES)
        samples = decoder.decode(
            uri,
            offset_samples=1_000,
            num_samples=len(SAMPLES) - 1_000,
            sample_rate=RATE,
            channel=None,
            utterance_id="u",
        )
    assert np.array_equal(samples, SAMPLES[1_000:])


@pytest.mark.parametrize(
    ("riff", "data", "reason"),
    [
        (36 + 60_000, 120_000, "header_lies"),
        (4, 0x7FFF0000, "header_lies"),
        (36 + 120_000, 120_000, "truncated"),
        (0xFFFFFFFF, 60_002, "truncated"),
    ],
)
def test_a_wave_that_declares_more_than_it_holds_is_refused(tmp_path, riff, data, reason):
    uri = wave_with_sizes(tmp_path / "a.wav", riff=riff, data=data)
    with pytest.raises(BadRecording) as caught:
        check_wave(opened(uri), thorough=True)
    assert caught.value.reason == reason


def test_an_empty_data_chunk_before_others_stays_empty(tmp_path):
    tail = b"LIST" + struct.pack("<I", 4) + b"INFO"
    path = tmp_path / "a.wav"
    soundfile.write(path, SAMPLES[:0], RATE)
    data = bytearray(path.read_bytes()) + tail
    data[4:8] = struct.pack("<I", len(data) - 8)
    path.write_bytes(data)
    declared = check_wave(opened(path), thorough=True)
    assert (declared.overlay, declared.num_samples) == (None, 0)


def test_an_ogg_file_of_two_recordings_is_refused_and_one_of_one_is_not(tmp_path):
    for name in ("a.ogg", "b.ogg"):
        soundfile.write(tmp_path / name, SAMPLES, RATE, format="OGG", subtype="VORBIS")
    joined = (tmp_path / "a.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes()
    check_ogg(opened(tmp_path / "a.ogg"), thorough=True)
    (tmp_path / "both.ogg").write_bytes(joined)
    # libsndfile numbers the streams that one process writes anew; equal numbers would be one recording.
    assert joined[14:18] != (tmp_path / "b.ogg").read_bytes()[14:18]
    with pytest.raises(BadRecording, match="several Ogg recordings"):
        check_ogg(opened(tmp_path / "both.ogg"), thorough=True)


def test_an_ogg_file_cut_at_any_byte_of_its_last_page_is_truncated(tmp_path):
    soundfile.write(tmp_path / "a.ogg", SAMPLES, RATE, format="OGG", subtype="OPUS")
    data = (tmp_path / "a.ogg").read_bytes()
    last = data.rfind(b"OggS")
    for end in {last + 6, last + 20, last + 27, last + 30, (last + len(data)) // 2, len(data) - 1}:
        (tmp_path / "cut.ogg").write_bytes(data[:end])
        with pytest.raises(BadRecording, match="cut"):
            check_ogg(opened(tmp_path / "cut.ogg"), thorough=True)


@pytest.mark.parametrize("tagged", [False, True])
def test_an_mp3_says_its_length_only_in_its_first_frame(tmp_path, tagged):
    soundfile.write(tmp_path / "a.mp3", SAMPLES, RATE)
    data = (tmp_path / "a.mp3").read_bytes()
    prefix = b"odd bytes behind a tag" if tagged else b""
    for name, body in (("whole", data), ("headless", data[data.find(data[:2], 10) :])):
        (tmp_path / name).write_bytes(prefix + body)
        declared = check_mpeg(opened(tmp_path / name), thorough=True, remote=False)
        assert declared.counted == (name == "whole") == (declared.overlay is None)


def first_frame_bytes(data, rate):
    """Length of a Layer III frame, from its bit rate."""
    mpeg_1 = data[1] >> 3 & 3 == 3
    kbits = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    if not mpeg_1:
        kbits = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    return (144 if mpeg_1 else 72) * kbits[(data[2] >> 4) - 1] * 1000 // rate + (data[2] >> 1 & 1)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("grows", [False, True])
def test_an_mp3_without_its_first_frame_is_read_to_its_end(tmp_path, rate, channels, grows):
    """Loud after quiet, or quiet after loud: the guess of libsndfile is too short or too long."""
    num_samples = rate * 8
    loudness = np.linspace(0.001, 0.3, num_samples) ** 2 * 3
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((num_samples, channels)) * (loudness if grows else loudness[::-1])[:, None]
    path = tmp_path / "a.mp3"
    soundfile.write(path, audio, rate, bitrate_mode="VARIABLE", compression_level=0.3)
    whole, _ = soundfile.read(path, always_2d=True)
    data = path.read_bytes()
    path.write_bytes(data[first_frame_bytes(data, rate) :])
    with Decoder(sample_rate=rate) as decoder:
        info = decoder.probe(str(path))
        place = {"offset_samples": 0, "num_samples": info.num_samples, "sample_rate": rate, "channel": 0}
        samples = decoder.decode(str(path), **place, utterance_id="u")
    assert (info.sample_rate, info.num_channels) == (rate, channels)
    assert num_samples <= info.num_samples <= num_samples + 3 * 1152
    # Without the tag nobody removes the encoder's delay, so the same waveform stands up to 3 frames later.
    middle = whole[4 * rate : 4 * rate + 2000, 0]
    shifts = [samples[4 * rate + s : 4 * rate + s + 2000] @ middle for s in range(3 * 1152)]
    best = int(np.argmax(shifts))
    assert np.abs(samples[4 * rate + best : 4 * rate + best + 2000] - middle).max() < 1e-5


def test_containers_are_known_by_their_first_bytes():
    assert sniff(b"RIFF\x00\x00\x00\x00WAVE") == sniff(b"RF64\xff\xff\xff\xffWAVE") == "wav"
    assert sniff(b"RIFF\x00\x00\x00\x00AVI ") is None
    assert (sniff(b"fLaC\x00"), sniff(b"OggS\x00"), sniff(b"ID3\x04")) == ("flac", "ogg", "mp3")
    assert sniff(bytes.fromhex("fffb9064")) == "mp3"
    # ADTS AAC has layer 0; a UTF-16 text begins FF FE.
    assert sniff(bytes.fromhex("fff15080")) is None
    assert sniff(bytes.fromhex("fffe480065006c00")) is None
    assert sniff(b"") is None
    assert sniff(b"\xff") is None
