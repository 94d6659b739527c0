import contextlib
import os

import numpy as np
import pytest
import soundfile
from made_audio import RATE, decode, noise, reason_of, wav

from pipeline.audio.decode import AudioInfo, DecodeLimits, Decoder, to_float32
from pipeline.errors import AudioDecodeError, SettingsError
from pipeline.schema import Reason

FORMATS = {
    "pcm16.wav": {"subtype": "PCM_16"},
    "pcm24.wav": {"subtype": "PCM_24"},
    "float.wav": {"subtype": "FLOAT"},
    "ulaw.wav": {"subtype": "ULAW"},
    "big.rf64": {"format": "RF64", "subtype": "PCM_16"},
    "pcm16.flac": {"subtype": "PCM_16"},
    "pcm24.flac": {"subtype": "PCM_24"},
    "vorbis.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus.ogg": {"format": "OGG", "subtype": "OPUS"},
    "mpeg.mp3": {"format": "MP3"},
}
LOSSLESS = ("pcm16.wav", "big.rf64", "pcm16.flac")


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_what_was_written(decoder, tmp_path, name):
    written = noise(40_000)
    soundfile.write(tmp_path / name, written, RATE, **FORMATS[name])
    container = {"rf64": "wav"}.get(name.split(".")[1], name.split(".")[1])
    expected = AudioInfo(container=container, sample_rate=RATE, num_channels=1, num_samples=40_000)
    assert decoder.probe(str(tmp_path / name)) == expected
    samples = decode(decoder, tmp_path / name)
    assert samples.shape == (40_000,)
    if name in LOSSLESS:
        assert samples.dtype == np.int16
        assert np.array_equal(samples, written)
    else:
        assert samples.dtype == np.float32
        correlation = np.corrcoef(samples, written)[0, 1]
        assert correlation > (0.999999 if "24" in name or "float" in name else 0.9)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("count", [3, 4_410, 24_001, 44_103])
def test_a_resampled_segment_has_the_nearest_number_of_samples(decoder, tmp_path, rate, count):
    soundfile.write(tmp_path / "a.wav", noise(count), rate)
    expected = (2 * count * RATE + rate) // (2 * rate)
    assert len(decode(decoder, tmp_path / "a.wav")) == expected


def test_resampling_keeps_a_tone_and_removes_what_the_new_rate_cannot_hold(decoder, tmp_path):
    time_48k, time_16k = np.arange(48_000) / 48_000, np.arange(RATE) / RATE
    both = 0.4 * np.sin(2 * np.pi * 440 * time_48k) + 0.4 * np.sin(2 * np.pi * 11_000 * time_48k)
    soundfile.write(tmp_path / "a.wav", both, 48_000, subtype="FLOAT")
    samples = decode(decoder, tmp_path / "a.wav")
    error = samples - 0.4 * np.sin(2 * np.pi * 440 * time_16k)
    # The first and last 50 ms see the silence outside the recording.
    assert np.abs(error[800:-800]).max() < 1e-5


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_picked_channel_of_16_bits_is_bit_exact(decoder, tmp_path, name):
    written = noise(20_000, channels=3)
    soundfile.write(tmp_path / name, written, RATE)
    picked = decode(decoder, tmp_path / name, channel=2)
    assert picked.dtype == np.int16
    assert np.array_equal(picked, written[:, 2])


def test_no_channel_means_the_mean_of_all(decoder, tmp_path):
    written = noise(20_000, channels=3)
    soundfile.write(tmp_path / "a.wav", written, RATE)
    mixed = decode(decoder, tmp_path / "a.wav")
    assert mixed.dtype == np.float32
    assert np.array_equal(mixed, (written.mean(axis=1) / 32768).astype(np.float32))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_a_segment_is_a_slice_of_the_whole_at_native_rate(tmp_path, name, rate):
    soundfile.write(tmp_path / name, noise(rate * 9), rate, **FORMATS[name])
    with Decoder(sample_rate=rate) as native:
        whole = to_float32(decode(native, tmp_path / name))
        # The last ones lie in the last Ogg page, where a plain seek in Vorbis lands elsewhere.
        for offset in (1, 70_001, rate * 9 - 20_000, rate * 9 - 4_000, rate * 9 - 37):
            segment = to_float32(decode(native, tmp_path / name, offset=offset, count=36, rate=rate))
            # MP3 and Opus carry state between frames: the last bits of float32, and of Opus speech mode 7e-4.
            tolerance = {"mpeg.mp3": 2e-6, "opus.ogg": 1e-3}.get(name, 0)
            assert np.abs(segment - whole[offset : offset + 36]).max() <= tolerance


def test_decoding_twice_gives_the_same_bits_in_another_process(decoder, tmp_path):
    soundfile.write(tmp_path / "a.mp3", noise(50_000), 44_100)
    with Decoder(sample_rate=RATE) as other:
        first, second = (
            decode(d, tmp_path / "a.mp3", offset=9_000, count=30_000, rate=44_100) for d in (decoder, other)
        )
    assert first.tobytes() == second.tobytes()


def test_real_speech_decodes_to_what_soundfile_reads(decoder, speech_root):
    paths = sorted((speech_root / "LibriSpeech").rglob("*.flac"))[:3]
    if not paths:
        pytest.skip("no LibriSpeech here")
    for path in paths:
        samples = decode(decoder, path)
        assert samples.dtype == np.int16
        assert np.array_equal(samples, soundfile.read(path, dtype="int16")[0])


def test_to_float32_divides_int16_by_32768_and_leaves_float32():
    assert to_float32(np.array([-32768, 0, 16384], np.int16)).tolist() == [-1.0, 0.0, 0.5]
    waveform = np.zeros(3, np.float32)
    assert to_float32(waveform) is waveform
    with pytest.raises(TypeError, match="float64"):
        to_float32(np.zeros(3))


def test_a_flac_without_a_length_is_counted_and_read(decoder, tmp_path):
    written = noise(80_000)
    path = flac_declaring(tmp_path, written, 0)
    assert decoder.probe(str(path)).num_samples == 80_000
    assert np.array_equal(decode(decoder, path), written)
    assert np.array_equal(decode(decoder, path, offset=70_000, count=10_000, rate=RATE), written[70_000:])


def test_an_mp3_without_a_length_is_counted_by_decoding(decoder, tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(320_000), RATE, bitrate_mode="VARIABLE", compression_level=0.3)
    data = path.read_bytes()
    # Without its first frame, which counts the others, libsndfile guesses from the bit rate of the next.
    path.write_bytes(data[data.find(data[:2], 10) :])
    assert abs(soundfile.info(path).frames - 320_000) > 100_000
    assert 320_000 <= decoder.probe(str(path)).num_samples <= 320_000 + 2 * 1152
    assert len(decode(decoder, path)) == decoder.probe(str(path)).num_samples
    assert reason_of(decode, decoder, path, count=400_000, rate=RATE) == Reason.TRUNCATED


def flac_declaring(folder, samples, num_samples):
    """Write a FLAC whose STREAMINFO declares another number of samples, in its last 36 bits of 8 bytes."""
    path = folder / f"declares_{num_samples}.flac"
    soundfile.write(path, samples, RATE)
    data = bytearray(path.read_bytes())
    field = int.from_bytes(data[18:26], "big")
    data[18:26] = (field >> 36 << 36 | num_samples).to_bytes(8, "big")
    path.write_bytes(data)
    return path


def write_flac_header(path):
    """Write STREAMINFO, marked as the last block, with no length and nothing behind it."""
    data = bytearray(flac_declaring(path.parent, noise(99), 0).read_bytes()[:42])
    data[4] |= 0x80
    path.write_bytes(data)


def write_cut(path, share, **kwargs):
    soundfile.write(path, noise(80_000), RATE, **kwargs)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


BAD = {
    "missing": (Reason.MISSING, lambda path: None),
    "below_a_file": (Reason.MISSING, lambda path: path.parent.rmdir() or path.parent.write_bytes(b"RIFF")),
    "dangling_link": (Reason.MISSING, lambda path: path.symlink_to(path.parent / "nowhere")),
    "link_loop": (Reason.MISSING, lambda path: path.symlink_to(path)),
    "folder": (Reason.NOT_A_FILE, lambda path: path.mkdir()),
    "fifo": (Reason.NOT_A_FILE, os.mkfifo),
    "device": (Reason.NOT_A_FILE, lambda path: path.symlink_to("/dev/zero")),
    "empty": (Reason.EMPTY, lambda path: path.touch()),
    "one_byte": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"\xff")),
    "text": (Reason.NOT_AUDIO, lambda path: path.write_text("not a sound at all")),
    "html": (Reason.NOT_AUDIO, lambda path: path.write_text("<html>404</html>")),
    "pickle": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"\x80\x04K\x01." * 100)),
    "avi": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"RIFF\x00\x01\x00\x00AVI LIST" + bytes(99))),
    "ircam": (Reason.NOT_AUDIO, lambda path: soundfile.write(path, noise(99), RATE, format="IRCAM", subtype="PCM_16")),
    "only_riff": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"RIFF\x04\x00\x00\x00WAVE")),
    "only_flac": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"fLaC")),
    "only_ogg": (Reason.TRUNCATED, lambda path: path.write_bytes(b"OggS\x00\x02")),
    "only_id3": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x05" + bytes(99))),
    "noise_in_riff": (Reason.NOT_AUDIO, lambda path: path.write_bytes(b"RIFF\x24\x00\x00\x00WAVE" + b"\xa5" * 999)),
    "no_samples": (Reason.TOO_SHORT, lambda path: wav(path, noise(0), format="WAV")),
    "no_samples_flac": (Reason.TOO_SHORT, lambda path: write_flac_header(path)),
    "channels_64": (Reason.TOO_MANY_CHANNELS, lambda path: wav(path, noise(99, channels=64), format="WAV")),
    "rate_1": (Reason.BAD_SAMPLE_RATE, lambda path: wav(path, noise(99), 1, format="WAV")),
    "rate_1M": (Reason.BAD_SAMPLE_RATE, lambda path: wav(path, noise(99), 1_000_000, format="WAV")),
    "cut_wav": (Reason.TRUNCATED, lambda path: write_cut(path, 0.5, format="WAV")),
    "cut_wav_by_little": (Reason.TRUNCATED, lambda path: write_cut(path, 0.999, format="WAV")),
    "cut_flac": (Reason.TRUNCATED, lambda path: write_cut(path, 0.5, format="FLAC")),
    "cut_flac_by_little": (Reason.TRUNCATED, lambda path: write_cut(path, 0.99, format="FLAC")),
    "cut_ogg": (Reason.TRUNCATED, lambda path: write_cut(path, 0.5, format="OGG")),
    "cut_opus": (Reason.TRUNCATED, lambda path: write_cut(path, 0.9, format="OGG", subtype="OPUS")),
    "cut_mp3": (Reason.TRUNCATED, lambda path: write_cut(path, 0.5, format="MP3")),
    "nan": (Reason.NOT_FINITE, lambda path: wav(path, np.full(99, np.nan), format="WAV", subtype="FLOAT")),
    "inf": (Reason.NOT_FINITE, lambda path: wav(path, np.array([0, np.inf, 0]), format="WAV", subtype="DOUBLE")),
    "minutes_10": (Reason.TOO_LONG, lambda path: wav(path, np.zeros(600 * RATE, np.int16), format="FLAC")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_recording_is_refused_with_its_reason_and_the_next_one_is_read(decoder, tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    reason, write = BAD[name]
    write(folder / name)
    good = wav(tmp_path / "good.wav", noise(8_000))
    assert reason_of(decode, decoder, folder / name) == reason
    assert len(decode(decoder, good)) == 8_000


def test_a_file_without_permission_is_unreadable(decoder, tmp_path):
    path = wav(tmp_path / "a.wav", noise(99))
    decoder.probe(str(path))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        assert reason_of(decoder.probe, str(path)) == Reason.UNREADABLE
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("uri", ["relative.wav", "http://x/a.wav", "/a\0b.wav", "", "s3://bucket", "s3://k:s@b/a.wav"])
def test_a_uri_of_another_kind_is_a_bad_row_and_its_secret_is_not_repeated(decoder, uri):
    with pytest.raises(AudioDecodeError, match="bad_row") as caught:
        decoder.probe(uri)
    assert "k:s" not in str(caught.value)


def test_flac_that_declares_two_thirds_of_a_terabyte_lies(decoder, tmp_path):
    path = flac_declaring(tmp_path, noise(80_000), 2**36 - 1)
    assert reason_of(decoder.probe, str(path)) == Reason.HEADER_LIES
    assert reason_of(decode, decoder, path, count=80_000, rate=RATE) == Reason.HEADER_LIES


def test_flac_that_declares_twice_what_it_holds_is_truncated(decoder, tmp_path):
    path = flac_declaring(tmp_path, noise(80_000), 160_000)
    assert reason_of(decode, decoder, path) == Reason.TRUNCATED
    assert len(decode(decoder, path, count=80_000, rate=RATE)) == 80_000


def test_hours_of_real_silence_are_too_long_but_not_a_lie(decoder, tmp_path):
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(120 * RATE, np.int16))
    assert decoder.probe(str(path)).num_samples == 7200 * RATE
    assert reason_of(decode, decoder, path) == Reason.TOO_LONG
    assert not decode(decoder, path, offset=7000 * RATE, count=RATE, rate=RATE).any()


def test_a_cut_recording_still_gives_the_segments_before_the_cut(decoder, tmp_path):
    write_cut(tmp_path / "a.flac", 0.9)
    assert np.array_equal(decode(decoder, tmp_path / "a.flac", count=40_000, rate=RATE), noise(80_000)[:40_000])


def test_an_mp3_may_lack_two_frames_of_what_a_manifest_counts_and_no_more(decoder, tmp_path):
    wav(tmp_path / "a.mp3", noise(48_000))
    assert len(decode(decoder, tmp_path / "a.mp3", count=48_000 + 2304, rate=RATE)) == 48_000
    assert reason_of(decode, decoder, tmp_path / "a.mp3", count=48_000 + 2305, rate=RATE) == Reason.BAD_SEGMENT


@pytest.mark.parametrize(("offset", "count"), [(-1, 10), (0, 101), (100, 1), (90, 11), (5, 0), (5, -5), (2**40, 1)])
def test_a_segment_outside_the_recording_is_refused(decoder, tmp_path, offset, count):
    path = wav(tmp_path / "a.wav", noise(100))
    request = {"offset_samples": offset, "num_samples": count, "sample_rate": RATE, "channel": None}
    assert reason_of(decoder.decode, str(path), **request, utterance_id="u") == Reason.BAD_SEGMENT


def test_a_file_that_differs_from_its_manifest_lies(decoder, tmp_path):
    path = wav(tmp_path / "a.wav", noise(100))
    assert reason_of(decode, decoder, path, count=100, rate=8_000) == Reason.HEADER_LIES
    assert reason_of(decode, decoder, path, count=100, rate=RATE, channel=1) == Reason.HEADER_LIES


def test_recordings_must_lie_under_a_root_with_links_resolved(tmp_path):
    inside, outside = tmp_path / "corpus", tmp_path / "corpus-private"
    inside.mkdir()
    outside.mkdir()
    wav(inside / "a.wav", noise(100))
    wav(outside / "b.wav", noise(100))
    (inside / "within.wav").symlink_to("a.wav")
    (inside / "leaves.wav").symlink_to(outside / "b.wav")
    (tmp_path / "root").symlink_to(inside)
    with Decoder(sample_rate=RATE, roots=[str(tmp_path / "root")]) as decoder:
        assert decoder.probe(str(inside / "within.wav")).num_samples == 100
        assert decoder.probe(str(tmp_path / "root/a.wav")).num_samples == 100
        for path in ("corpus/leaves.wav", "corpus-private/b.wav", "corpus/../corpus-private/b.wav"):
            assert reason_of(decoder.probe, str(tmp_path / path)) == Reason.OUTSIDE_ROOT
        assert reason_of(decoder.probe, "s3://bucket/a.wav") == Reason.OUTSIDE_ROOT


def test_limits_of_seconds_channels_and_bytes_are_kept(tmp_path):
    path = wav(tmp_path / "a.wav", noise(RATE, channels=2))
    for limits, reason in (
        (DecodeLimits(max_seconds=0.99), Reason.TOO_LONG),
        (DecodeLimits(max_channels=1), Reason.TOO_MANY_CHANNELS),
        (DecodeLimits(max_file_bytes=64_000), Reason.TOO_LONG),
        (DecodeLimits(min_sample_rate=RATE + 1), Reason.BAD_SAMPLE_RATE),
    ):
        with Decoder(sample_rate=RATE, limits=limits) as decoder:
            assert reason_of(decode, decoder, path, count=RATE, rate=RATE) == reason
    with Decoder(sample_rate=RATE, limits=DecodeLimits(max_seconds=1, max_channels=2)) as decoder:
        assert len(decode(decoder, path)) == RATE


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(SettingsError, match="max_seconds"):
        DecodeLimits(max_seconds=0)
    with pytest.raises(SettingsError, match="min_sample_rate"):
        DecodeLimits(min_sample_rate=8_000, max_sample_rate=4_000)
    with pytest.raises(SettingsError, match="sample_rate"):
        Decoder(sample_rate=0)


def test_noise_on_stderr_of_a_broken_mp3_does_not_block(decoder, tmp_path):
    wav(tmp_path / "a.mp3", noise(30 * RATE))
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(4000, len(data), len(data) // 20):
        data[place] ^= 0x55
    (tmp_path / "a.mp3").write_bytes(data)
    # libmpg123 repairs what it can, so a damaged stream gives its full length, or is refused as cut.
    with contextlib.suppress(AudioDecodeError):
        assert np.isfinite(decode(decoder, tmp_path / "a.mp3")).all()
    soundfile.write(tmp_path / "good.wav", noise(100), RATE)
    assert len(decode(decoder, tmp_path / "good.wav")) == 100
