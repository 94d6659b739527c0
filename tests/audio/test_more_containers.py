"""Containers by their magic bytes: SPHERE, AIFF, AU, W64, CAF, what lies behind tags, and names for what is refused."""

import numpy as np
import pytest
import soundfile
from made_audio import RATE, noise, reason_of
from made_recordings import ID3, ffmpeg, ffmpeg_samples, read, recorded

from pipeline.audio.candidate import EXTENSIONS, stem
from pipeline.audio.containers.magic import name_of
from pipeline.audio.corpora import read_corpus
from pipeline.audio.decode import Decoder
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import PassedOver
from pipeline.schema import Reason

SAMPLES = noise(30_000)
STEREO = noise(30_000, channels=2)
FORMS = {
    "sphere": [("NIST", name) for name in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW")],
    "aiff": [("AIFF", name) for name in ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")],
    "au": [("AU", name) for name in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")],
    "w64": [("W64", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")],
    "caf": [("CAF", name) for name in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAC_16")],
    "wav": [("RF64", "PCM_16"), ("RF64", "FLOAT"), ("WAVEX", "PCM_24")],
}
ALL = [
    (container, *form, endian)
    for container, forms in FORMS.items()
    for form in forms
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(*form, endian)
]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("container", "kind", "subtype", "endian"), ALL)
def test_a_container_is_read_as_soundfile_reads_it_whole_and_in_segments(
    decoder, tmp_path, container, kind, subtype, endian
):
    """At 5237d84 SPHERE, AIFF, AU, W64 and CAF were not_audio."""
    path = write(tmp_path / "recording", recorded(STEREO, kind, subtype, endian=endian))
    plain, _ = soundfile.read(path, dtype="float32")
    found = read(decoder, path, channel=1)
    assert (found.info.container, found.info.num_channels, found.info.num_samples) == (container, 2, len(STEREO))
    assert np.array_equal(found.samples, plain[:, 1])
    assert not found.passed_over
    for offset in (1, 11_111, 29_000):
        assert np.array_equal(read(decoder, path, offset=offset, count=999, channel=0).samples, plain[offset:, 0][:999])


def sphere(body, *, coding="pcm", num_bytes=2, order="01", count=30_000, head=1024, more=""):
    fields = f"channel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i {num_bytes}\n{more}"
    fields += f"sample_count -i {count}\nsample_byte_format -s{len(order)} {order}\n"
    fields += f"sample_coding -s{len(coding)} {coding}\nspeaker_id -s4 fc s\nend_head\n"
    return f"NIST_1A\n{head:7d}\n{fields}".encode().ljust(head) + body


@pytest.mark.parametrize("head", [1024, 2048, 16_384])
@pytest.mark.parametrize("order", ["01", "10"])
def test_sphere_of_either_byte_order_and_any_length_of_head_is_read(decoder, tmp_path, head, order):
    body = SAMPLES.astype("<i2" if order == "01" else ">i2").tobytes()
    found = read(decoder, write(tmp_path / "a.sph", sphere(body, order=order, head=head)))
    assert np.array_equal(found.samples, SAMPLES / np.float32(32768))


@pytest.mark.parametrize("coding", ["ulaw", "mu-law", "alaw"])
def test_sphere_of_telephone_speech_is_read(decoder, tmp_path, coding):
    data = recorded(SAMPLES, "AU", "ALAW" if coding == "alaw" else "ULAW")
    expected = ffmpeg_samples(write(tmp_path / "a.au", data))[:, 0]
    body = data[-len(SAMPLES) :]
    path = write(tmp_path / "a.sph", sphere(body, coding=coding, num_bytes=1, order="1"))
    assert np.array_equal(read(decoder, path).samples, expected)


@pytest.mark.parametrize("coding", ["pcm,embedded-shorten-v2.00", "ulaw,embedded-shorten-v2.00", "shortpack-v0"])
def test_compressed_sphere_is_refused_by_name(decoder, tmp_path, coding):
    path = write(tmp_path / "a.sph", sphere(bytes(9_000), coding=coding))
    with pytest.raises(AudioDecodeError, match=coding.split(",")[-1]) as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


@pytest.mark.parametrize(
    "data",
    [
        b"NIST_1A\n   9999\n" + bytes(1_000),
        b"NIST_1A\n   none\n" + bytes(2_000),
        sphere(bytes(60_000), order="77"),
        sphere(bytes(60_000), num_bytes=7),
        sphere(bytes(60_000)).replace(b"sample_rate", b"sample_rote"),
        sphere(bytes(60_000), more="channels_interleaved -s5 FALSE\n"),
    ],
)
def test_a_sphere_head_that_cannot_be_understood_is_a_reject(decoder, tmp_path, data):
    assert reason_of(decoder.probe, str(write(tmp_path / "a.sph", data))) in (
        Reason.TRUNCATED,
        Reason.HEADER_LIES,
        Reason.NOT_AUDIO,
    )


@pytest.mark.parametrize("name", ["FLAC", "WAV", "OGG", "AIFF", "W64", "MP3"])
@pytest.mark.parametrize("before", [ID3, ID3 + ID3, ID3 + bytes(77)])
def test_a_recording_is_looked_for_behind_id3v2_tags(decoder, tmp_path, name, before):
    """At 5237d84 a FLAC behind a tag was taken for MP3: a false rate and a few hundred samples, or a reject."""
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(name, "PCM_16")
    data = recorded(SAMPLES, name, subtype)
    plain = read(decoder, write(tmp_path / "plain", data))
    tagged = read(decoder, write(tmp_path / "tagged", before + data))
    assert tagged.info == plain.info
    assert np.array_equal(tagged.samples, plain.samples)
    segment = read(decoder, tmp_path / "tagged", offset=20_000, count=500).samples
    assert np.array_equal(segment, read(decoder, tmp_path / "plain", offset=20_000, count=500).samples)


@pytest.mark.parametrize(
    ("ending", "options", "name"),
    [
        ("wv", [], "WavPack"),
        ("tta", [], "TTA"),
        ("avi", [], "AVI"),
        ("ac3", [], "AC-3"),
        ("flv", ["-ar", "44100"], "Flash"),
    ],
)
@pytest.mark.parametrize("tagged", [False, True])
def test_a_container_that_is_not_read_is_named(decoder, tmp_path, ending, options, name, tagged):
    path = tmp_path / f"a.{ending}"
    ffmpeg("-f", "wav", "-i", "-", *options, path, data=recorded(SAMPLES, "WAV"))
    path.write_bytes(ID3 * tagged + path.read_bytes())
    with pytest.raises(AudioDecodeError, match=f"this is {name}") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"ajkg\x02" + bytes(99), "Shorten"),
        (b"PK\x03\x04" + bytes(99), "ZIP"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0BFM \4\1\0\0\0", "Kaldi"),
        (bytes(64), "zeros"),
        (b"plain words, and no audio at all", "text"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"\x8e\x12\x80\x44" * 9, None),
    ],
)
def test_what_is_no_audio_is_named_where_it_is_known(head, name):
    found = name_of(head)
    assert found is None if name is None else name in found


def test_a_folder_holds_recordings_of_every_ending(tmp_path):
    for number, extension in enumerate(EXTENSIONS):
        (tmp_path / f"{number:02d}{extension.upper() if number % 2 else extension}").touch()
    found = [candidate.utterance_id for candidate in read_corpus(str(tmp_path), "folder", passed_over=PassedOver())]
    assert found == [f"{number:02d}" for number in range(len(EXTENSIONS))]
    assert {".sph", ".aiff", ".aif", ".aifc", ".au", ".snd", ".w64", ".caf"} < set(EXTENSIONS)
    assert stem("a.au.wav") == "a.au"
