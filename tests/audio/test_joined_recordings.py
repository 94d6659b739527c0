"""Recordings joined by ``cat``: all of them is read, or the file is a reject; never the first alone in silence."""

import numpy as np
import pytest
import soundfile
from made_audio import RATE, decode, noise, reason_of
from made_recordings import ID3, ffmpeg_samples, mp3, patched, read, recorded, stale_wave

from pipeline.audio.containers.declared import SCANNED_BYTES, BadRecording, find
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.opening import Opener
from pipeline.audio.views import View
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind
from pipeline.schema import Reason

FIRST, SECOND = noise(96_000), noise(80_000, seed=1)
CONTAINERS = {
    "WAV": "PCM_16",
    "RF64": "PCM_16",
    "W64": "PCM_16",
    "AIFF": "PCM_16",
    "AU": "PCM_16",
    "CAF": "PCM_16",
    "NIST": "PCM_16",
    "FLAC": "PCM_16",
    "OGG": "VORBIS",
}


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


@pytest.mark.parametrize("container", [*CONTAINERS, "OPUS"])
@pytest.mark.parametrize("parts", ["first second", "second first", "first first", "first first first"])
def test_joined_recordings_are_a_reject_whatever_their_lengths(decoder, tmp_path, container, parts):
    subtype = CONTAINERS.get(container, "OPUS")
    made = {
        name: recorded(samples, "OGG" if container == "OPUS" else container, subtype)
        for name, samples in (("first", FIRST), ("second", SECOND))
    }
    path = tmp_path / "joined"
    path.write_bytes(b"".join(made[part] for part in parts.split()))
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED
    assert len(decode(decoder, write(tmp_path / "alone", made["first"]))) == len(FIRST)


def write(path, data):
    path.write_bytes(data)
    return path


def test_an_ogg_joined_with_itself_has_one_serial_number_and_is_a_reject(decoder, tmp_path):
    """At 5237d84 half of it was dropped in silence."""
    data = recorded(FIRST, "OGG", "VORBIS")
    path = write(tmp_path / "a.ogg", data + data)
    assert len(soundfile.read(path)[0]) == len(FIRST)
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 64_000])
def test_a_second_wave_behind_a_header_without_a_true_size_is_a_reject(decoder, tmp_path, size):
    wave = recorded(FIRST, "WAV")
    path = write(tmp_path / "a.wav", stale_wave(wave, size & 0xFFFFFF00 if size > 1 << 31 else size) + wave)
    if size > 1 << 31:
        place = wave.index(b"data") + 4
        path.write_bytes(patched(wave, place, b"\xff" * 4) + wave)
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED


@pytest.mark.parametrize("tagged", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_joined_mp3s_are_read_as_ffmpeg_reads_them(tmp_path, tagged, rate):
    """At 5237d84 the frames that the first tag counts were read, and no others."""
    first, second = (
        mp3(samples, rate, "-b:a", "64k", "-write_xing", int(tag), "-id3v2_version", 0)
        for samples, tag in zip((FIRST, SECOND), tagged, strict=True)
    )
    path = write(tmp_path / "a.mp3", first + second)
    expected = ffmpeg_samples(path)[:, 0]
    with Decoder(sample_rate=rate) as native:
        found = read(native, path)
        assert len(found.samples) == len(expected)
        assert len(FIRST) + len(SECOND) <= len(expected) <= len(FIRST) + len(SECOND) + 6 * 1152
        assert np.abs(found.samples - expected).max() < 4e-6
        assert found.passed_over[Kind.SHORT_HEADERS] == tagged[0]
        for offset in (1, 90_000, len(FIRST) + 2_000, len(expected) - 500):
            segment = read(native, path, offset=offset, count=400).samples
            assert np.abs(segment - found.samples[offset : offset + 400]).max() < 1e-6


def test_an_mp3_with_an_id3v2_tag_between_its_parts_is_read_to_its_end(decoder, tmp_path):
    first, second = mp3(FIRST), mp3(SECOND)
    assert second[:3] == b"ID3"
    found = read(decoder, write(tmp_path / "a.mp3", first + second))
    assert len(FIRST) + len(SECOND) <= len(found.samples) <= len(FIRST) + len(SECOND) + 4 * 1152


def test_joined_mp3s_of_two_rates_are_a_reject(decoder, tmp_path):
    path = write(tmp_path / "a.mp3", mp3(FIRST) + mp3(SECOND, 44_100))
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED


@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3"])
def test_a_second_recording_of_equal_length_is_found_on_s3_when_the_first_ends(tmp_path, container):
    """A probe of a remote file reads its ends, and those of two equal recordings look like one."""
    samples = noise(2_000_000)
    data = mp3(samples) if container == "MP3" else recorded(samples, container, CONTAINERS[container])
    with Decoder(sample_rate=RATE) as decoder:
        total = decoder.probe(str(write(tmp_path / "one", data))).num_samples
    fetched = []

    def fetch(begin, end):
        fetched.append((begin, end))
        return begin, end

    limits = DecodeLimits(max_seconds=600)
    for name, parts in (("one", 1), ("two", 2)):
        path = write(tmp_path / name, data * parts)
        source = {"name": name, "path": str(path), "start": 0, "num_bytes": len(data) * parts}
        opener = Opener(vars(limits), fetch)
        with opener.open({**source, "whole": True, "remote": True, "careful": False}, thorough=False) as recording:
            assert recording.num_samples == total or container == "MP3"
            assert len(recording.sound.read(total)) == total
            if parts == 1:
                recording.check_end()
            elif container == "MP3":
                assert recording.num_samples is None
            else:
                with pytest.raises(BadRecording, match="joined"):
                    recording.check_end()


@pytest.mark.parametrize("container", [*CONTAINERS, "MP3"])
@pytest.mark.parametrize("tag", ["id3v1", "ape", "lyrics", "id3v2"])
def test_tags_behind_a_recording_of_any_container_are_not_a_second_one(decoder, tmp_path, container, tag):
    ape = b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(16)
    tags = {
        "id3v1": b"TAG" + b"title".ljust(125, b"\0"),
        "ape": ape + ape[:23] + b"\x80" + bytes(8),
        "lyrics": b"LYRICSBEGININD0000200000021LYRICS200" + b"TAG" + bytes(125),
        "id3v2": ID3,
    }
    data = recorded(FIRST, container, CONTAINERS.get(container, "MPEG_LAYER_III"))
    plain = read(decoder, write(tmp_path / "plain", data))
    tagged = read(decoder, write(tmp_path / "tagged", data + tags[tag]))
    assert np.array_equal(tagged.samples, plain.samples)
    assert not tagged.passed_over


@pytest.mark.parametrize(("codec", "name"), [("flac", "FLAC"), ("speex", "Speex")])
def test_an_ogg_of_a_codec_that_is_not_read_is_named(decoder, tmp_path, codec, name):
    """libsndfile of soundfile's wheels opens no FLAC in Ogg."""
    page = bytearray(recorded(FIRST, "OGG", "VORBIS"))
    page[28 : 28 + 8] = {"flac": b"\x7fFLAC\1\0\0", "speex": b"Speex   "}[codec]
    with pytest.raises(AudioDecodeError, match=f"Ogg with {name}") as caught:
        decoder.probe(str(write(tmp_path / "a.oga", page)))
    assert caught.value.reason == Reason.NOT_AUDIO


def test_a_file_is_scanned_in_pieces_and_no_magic_bytes_lie_between_them(tmp_path):
    magic = b"fLaC\0\0\0\x22"
    for place in (0, 1, 2, 3, *range(SCANNED_BYTES - 9, SCANNED_BYTES + 3)):
        data = bytes(place) + magic + bytes(101)
        with View(str(write(tmp_path / "a", data)), 0, len(data)) as file:
            assert list(find(file, magic, 0, len(data))) == [place]
            assert not list(find(file, magic, place + 1, len(data)))
            assert not list(find(file, magic, 0, place + 7))
