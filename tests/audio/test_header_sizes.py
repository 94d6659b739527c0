"""Headers that say too little, too much or nothing: all of the audio is read, or the file is a reject."""

import struct

import numpy as np
import pytest
import soundfile
from made_audio import RATE, noise, reason_of
from made_recordings import STALE, ffmpeg, mp3, patched, read, recorded, stale_wave, written

from pipeline.audio.decode import Decoder
from pipeline.passed_over import Kind
from pipeline.schema import Reason

SAMPLES = noise(96_000)
WAVE = SAMPLES / np.float32(32768)
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.29.100\0"
BEXT = b"bext" + struct.pack("<I", 602) + b"a description".ljust(602, b"\0")
CHUNK_ID3 = b"id3 " + struct.pack("<I", 20) + b"ID3\x03\0\0\0\0\0\x0aabcdefghij"


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


@pytest.mark.parametrize("container", STALE)
@pytest.mark.parametrize("declared", [2, 64_000, 4096 * 10, 191_998])
def test_a_header_that_says_too_little_hides_no_audio(decoder, tmp_path, container, declared):
    """At 5237d84 the 32,000 samples of a stale header were read, and 64,000 more were gone in silence."""
    data = STALE[container](recorded(SAMPLES, container), declared)
    path = written(tmp_path, data)
    assert len(soundfile.read(path)[0]) in (declared // 2, len(SAMPLES))
    found = read(decoder, path)
    assert np.array_equal(found.samples, WAVE)
    assert found.passed_over[Kind.SHORT_HEADERS] == 1
    for offset in (0, 31_990, 95_000):
        assert np.array_equal(read(decoder, path, offset=offset, count=999).samples, WAVE[offset : offset + 999])


@pytest.mark.parametrize("container", STALE)
def test_a_header_that_says_too_much_is_a_reject(decoder, tmp_path, container):
    path = written(tmp_path, STALE[container](recorded(SAMPLES, container), 2 * 96_002))
    assert reason_of(read, decoder, path) in (Reason.TRUNCATED, Reason.HEADER_LIES)


@pytest.mark.parametrize("container", STALE)
def test_a_header_that_is_right_is_read_without_a_word(decoder, tmp_path, container):
    found = read(decoder, written(tmp_path, recorded(SAMPLES, container)))
    assert np.array_equal(found.samples, WAVE)
    assert not found.passed_over


@pytest.mark.parametrize("container", STALE)
def test_a_container_without_a_size_is_read_to_its_end(decoder, tmp_path, container):
    data = recorded(SAMPLES, container)
    if container == "NIST":
        data = data.replace(b"sample_count", b"sample_other")
    elif container == "CAF":
        data = patched(data, data.index(b"data") + 4, b"\xff" * 8)
    elif container == "W64":
        data = patched(data, data.index(b"data\xf3\xac") + 16, struct.pack("<Q", 2**63 - 1))
    else:
        data = STALE[container](data, 0xFFFFFFFF if container == "AU" else 0)
    assert np.array_equal(read(decoder, written(tmp_path, data)).samples, WAVE)


@pytest.mark.parametrize("name", ["wav", "aiff", "au", "w64", "caf"])
def test_what_ffmpeg_writes_into_a_pipe_is_read_whole(decoder, tmp_path, name):
    data = ffmpeg("-f", "wav", "-i", "-", "-f", name, "-", data=recorded(SAMPLES, "WAV"))
    assert np.array_equal(read(decoder, written(tmp_path, data)).samples, WAVE)


@pytest.mark.parametrize(
    "behind", [LIST, BEXT, CHUNK_ID3, LIST + BEXT, LIST[:-9], b"\0", bytes(4000), b"TAG" + bytes(125)]
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_wave_is_followed_by_chunks_or_tags_without_a_word(decoder, tmp_path, behind, whole):
    data = recorded(SAMPLES, "WAV") + behind
    if whole:
        data = patched(data, 4, struct.pack("<I", len(data) - 8))
    found = read(decoder, written(tmp_path, data))
    assert np.array_equal(found.samples, WAVE)
    assert not found.passed_over


@pytest.mark.parametrize("padded", [True, False])
def test_a_chunk_behind_an_odd_number_of_bytes_is_seen_with_and_without_the_byte_between(decoder, tmp_path, padded):
    data = recorded(SAMPLES[:999], "WAV", "PCM_U8")
    plain = read(decoder, written(tmp_path, data)).samples
    end = data.index(b"data") + 8 + 999
    found = read(decoder, written(tmp_path, data[:end] + b"\0" * padded + LIST))
    assert np.array_equal(found.samples, plain)


def test_a_stale_wave_with_a_chunk_at_its_end_gives_the_audio_between(decoder, tmp_path):
    data = stale_wave(recorded(SAMPLES, "WAV"), 64_000) + LIST
    assert np.array_equal(read(decoder, written(tmp_path, data)).samples, WAVE)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU"])
def test_a_size_that_wrapped_past_4_gib_hides_no_hours(decoder, tmp_path, container):
    """At 5237d84 a WAV of six hours was read as 20 s."""
    head = recorded(SAMPLES, container)
    begin = len(head) - 2 * len(SAMPLES)
    size = (1 << 32) + 640_000
    path = tmp_path / "long"
    path.write_bytes(STALE[container](head, size & 0xFFFFFFFF)[:begin])
    last = noise(1_000, seed=5)
    with open(path, "r+b") as file:
        # Some samples, else the file would be all zeros behind its header, as padding is.
        for place in (begin, begin + 640_000, begin + size - 2_000):
            file.seek(place)
            file.write(last.astype("<i2" if container == "WAV" else ">i2").tobytes())
    if container == "AIFF":
        with open(path, "r+b") as file:
            file.seek(head.index(b"COMM") + 10)
            file.write(struct.pack(">I", size // 2))
    info = decoder.probe(str(path))
    assert info.num_samples == size // 2
    found = read(decoder, path, offset=size // 2 - 1_000, count=1_000)
    assert np.array_equal(found.samples, last / np.float32(32768))


def test_a_wave_past_4_gib_with_a_chunk_behind_it_ends_before_the_chunk(decoder, tmp_path):
    head = recorded(SAMPLES, "WAV")
    begin = head.index(b"data") + 8
    size = (1 << 32) + 64_000
    path = tmp_path / "long"
    path.write_bytes(stale_wave(head, 64_000)[:begin])
    with open(path, "r+b") as file:
        file.seek(begin + 64_000)
        file.write(noise(1_000).tobytes())
        file.seek(begin + size)
        file.write(LIST)
    assert decoder.probe(str(path)).num_samples == size // 2


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("counted", [1, 20, 50])
def test_an_mp3_whose_tag_counts_too_few_frames_is_read_to_its_end(tmp_path, rate, counted):
    data = mp3(SAMPLES, rate, "-b:a", "64k")
    place = max(data.find(b"Xing"), data.find(b"Info"))
    with Decoder(sample_rate=rate) as native:
        whole = read(native, written(tmp_path, data)).samples
        found = read(native, written(tmp_path, patched(data, place + 8, struct.pack(">I", counted))))
    assert len(whole) <= len(found.samples) <= len(whole) + 3 * 1152
    assert np.abs(found.samples[: len(whole)] - whole).max() < 1e-6
    assert found.passed_over[Kind.SHORT_HEADERS] == 1


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_bytes_of_no_known_kind_behind_a_recording_are_counted(decoder, tmp_path, container, subtype):
    data = recorded(SAMPLES, container, subtype)
    plain = read(decoder, written(tmp_path, data)).samples
    junk = np.random.default_rng(0).integers(0, 256, 150_000, dtype=np.uint8).tobytes()
    found = read(decoder, written(tmp_path, data + junk))
    assert np.array_equal(found.samples, plain)
    assert found.passed_over[Kind.UNREAD_END] == 1


def test_an_ogg_whose_last_page_says_less_than_one_before_it_is_a_reject(decoder, tmp_path):
    data = recorded(SAMPLES, "OGG", "VORBIS")
    last = data.rfind(b"OggS")
    path = written(tmp_path, patched(data, last + 6, struct.pack("<q", 1_000)))
    assert reason_of(decoder.probe, str(path)) == Reason.HEADER_LIES
