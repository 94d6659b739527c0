"""Recordings of AAC, WMA, Opus and others that are cut, damaged, joined, encrypted or that would lead elsewhere."""

import subprocess
import sys

import numpy as np
import pytest
from made_audio import reason_of
from made_media import AAC, AMR, FRAGMENTS, OPUS, VORBIS, encode, place_of, speechlike, with_reference
from made_recordings import ffmpeg, recorded

from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.opening import Opener
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason

av = pytest.importorskip("av", reason="PyAV, of the extra [av], is not installed")

LIVE = [*OPUS, "-live", "1"]
FORMS = {
    "m4a": ("m4a", AAC),
    "faststart": ("mp4", [*AAC, "-movflags", "+faststart"]),
    "fragments": ("mp4", [*AAC, *FRAGMENTS]),
    "adts": ("aac", AAC),
    "mka": ("mka", AAC),
    "opus": ("webm", OPUS),
    "live": ("webm", LIVE),
    "vorbis": ("webm", VORBIS),
    "wma": ("wma", []),
    "amr": ("amr", AMR),
}


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=16_000, limits=DecodeLimits(timeout_seconds=20)) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    samples = speechlike(48_777, 16_000)
    return {
        name: encode(folder / f"{name}.{ending}", samples, 16_000, *options).read_bytes()
        for name, (ending, options) in FORMS.items()
    }


def held(decoder, path):
    """Give what is found of a recording, or its reject."""
    try:
        return decoder.probe(str(path))
    except AudioDecodeError as error:
        return Reason(error.reason)


@pytest.mark.parametrize("form", FORMS)
def test_a_recording_that_was_cut_is_truncated(decoder, made, tmp_path, form):
    data, path = made[form], tmp_path / "recording"
    path.write_bytes(data)
    whole = decoder.probe(str(path)).num_samples
    rng = np.random.default_rng(0)
    for cut in (len(data) - 1, *rng.integers(40, len(data), 25).tolist()):
        path.write_bytes(data[:cut])
        found = held(decoder, path)
        if isinstance(found, Reason):
            assert found in (Reason.TRUNCATED, Reason.NOT_AUDIO), cut
        else:
            # Frames of AMR and fragments of MP4 say nothing of those behind them.
            assert form in ("amr", "fragments"), cut
            assert found.num_samples <= whole, cut


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_recording_is_a_reject_or_keeps_its_clock(decoder, made, tmp_path, form):
    """No form of damage ends the process; a packet of Opus that is damaged may be shorter, by less than 0.2 s."""
    data, path = made[form], tmp_path / "recording"
    path.write_bytes(data)
    whole = decoder.probe(str(path))
    rng = np.random.default_rng(1)
    body = range(len(data) // 8, len(data) - len(data) // 8)
    for _ in range(25):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 8))):
            damaged[int(rng.choice(body))] = int(rng.integers(256))
        path.write_bytes(damaged)
        found = held(decoder, path)
        if isinstance(found, Reason):
            assert found in (Reason.TRUNCATED, Reason.NOT_AUDIO, Reason.HEADER_LIES, Reason.TOO_SHORT)
        else:
            assert abs(found.num_samples / found.sample_rate - whole.num_samples / whole.sample_rate) < 0.2


def test_a_decoding_that_fails_in_the_middle_is_no_short_result(decoder, made, tmp_path):
    data = bytearray(made["m4a"])
    begin = place_of(made["m4a"], b"mdat") + 8
    data[begin + 12_000 : begin + 14_000] = bytes(b"\xff" * 2_000)
    path = tmp_path / "a.m4a"
    path.write_bytes(data)
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED
    asked = {"num_samples": 1_000, "sample_rate": 16_000, "channel": None, "utterance_id": "u"}
    assert len(decoder.decode(str(path), offset_samples=0, **asked)) == 1_000
    assert reason_of(decoder.decode, str(path), offset_samples=40_000, **asked) == Reason.TRUNCATED


def test_packets_that_are_missing_in_the_middle_are_a_reject(decoder, tmp_path):
    path = encode(tmp_path / "a.mka", speechlike(64_000, 16_000), 16_000, *AAC, "-cluster_time_limit", "200")
    data = path.read_bytes()
    clusters = [place for place in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", place)]
    begin, end = clusters[8], clusters[10]
    void = b"\xec\x01" + (end - begin - 9).to_bytes(7, "big")
    path.write_bytes(data[:begin] + void + bytes(end - begin - 9) + data[end:])
    with pytest.raises(AudioDecodeError, match=r"its clock jumps by 0\.\d+ s") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize(("form", "joined"), [("m4a", False), ("opus", False), ("live", False), ("adts", True)])
def test_joined_recordings_are_read_whole_or_refused(decoder, made, tmp_path, form, joined):
    path = tmp_path / "recording"
    path.write_bytes(made[form] * 2)
    if joined:
        assert decoder.probe(str(path)).num_samples == 2 * 49 * 1024
    else:
        assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED


@pytest.mark.parametrize("form", ["m4a", "opus"])
def test_bytes_behind_the_end_are_counted(decoder, made, tmp_path, form):
    path, passed_over = tmp_path / "recording", PassedOver()
    path.write_bytes(made[form])
    whole = decoder.probe(str(path), passed_over=passed_over)
    assert not passed_over
    path.write_bytes(made[form] + b"\x01none of it" * 50)
    assert decoder.probe(str(path), passed_over=passed_over) == whole
    assert list(passed_over.note()["passed_over"]) == [Kind.UNREAD_END]


def test_a_container_without_audio_is_no_audio(decoder, tmp_path):
    path = tmp_path / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=s=64x64:d=1", "-c:v", "libx264", path)
    with pytest.raises(AudioDecodeError, match="it holds no audio, but video") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


def test_a_codec_that_was_not_looked_at_is_refused_by_name(decoder, tmp_path):
    path = encode(tmp_path / "a.mka", speechlike(20_000, 16_000), 16_000, "-c:a", "tta")
    with pytest.raises(AudioDecodeError, match="its codec tta is not read") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


def test_encrypted_audio_is_refused(decoder, tmp_path):
    key = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0" * 32, "-encryption_kid", "1" * 32]
    path = encode(tmp_path / "a.mp4", speechlike(20_000, 16_000), 16_000, *AAC, *key)
    with pytest.raises(AudioDecodeError, match="it is encrypted") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


def test_samples_that_lie_in_another_file_are_not_fetched_from_there(decoder, tmp_path, monkeypatch):
    """FFmpeg follows this reference where it is asked to; a recording of ours opens no other file even then."""
    other = encode(tmp_path / "other.mov", speechlike(48_777, 16_000), 16_000, "-c:a", "pcm_s16le")
    path = tmp_path / "a.mov"
    path.write_bytes(with_reference(other.read_bytes(), other))
    asked = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), options=asked) as opened:
        assert sum(frame.samples for frame in opened.decode(audio=0)) == 48_777
    assert reason_of(decoder.probe, str(path)) == Reason.TRUNCATED

    real, refused = av.open, []

    def follows(*args, container_options, io_open, **kwargs):
        def noted(*told):
            refused.append(told[0])
            return io_open(*told)

        return real(*args, container_options=container_options | asked, io_open=noted, **kwargs)

    monkeypatch.setattr(av, "open", follows)
    opener = Opener(vars(DecodeLimits()), lambda begin, end: (begin, end))
    source = {"name": "a", "path": str(path), "start": 0, "num_bytes": path.stat().st_size}
    source |= {"whole": True, "remote": False, "careful": False}
    with (
        pytest.raises(Exception, match=r"packets are there|another file"),
        opener.open(source, thorough=True) as recording,
    ):
        recording.sound.read(1_000)
    assert refused == [str(other)]


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{other}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{other}\n#EXT-X-ENDLIST\n",
        "[Reference]\nRef1=file://{other}\n",
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "m4a", "wma", "mkv"])
def test_a_list_of_other_files_is_no_recording(decoder, tmp_path, text, ending):
    other = encode(tmp_path / "other.m4a", speechlike(9_000, 16_000), 16_000, *AAC)
    path = tmp_path / f"a.{ending}"
    path.write_text(text.format(other=other))
    with pytest.raises(AudioDecodeError, match="this is text") as caught:
        decoder.probe(str(path))
    assert caught.value.reason == Reason.NOT_AUDIO


def test_memory_and_length_are_bounded_as_for_other_recordings(tmp_path):
    path = encode(tmp_path / "a.m4a", speechlike(80 * 48_000, 48_000), 48_000, *AAC)
    short = encode(tmp_path / "b.m4a", speechlike(20_000, 16_000), 16_000, *AAC)
    asked = {"offset_samples": 0, "num_samples": 80 * 48_000, "sample_rate": 48_000, "channel": 0, "utterance_id": "u"}
    with Decoder(sample_rate=48_000, limits=DecodeLimits(memory_bytes=24 << 20)) as decoder:
        assert reason_of(decoder.decode, str(path), **asked) == Reason.DECODER_MEMORY
        assert decoder.probe(str(short)).num_samples == 20_000
        assert decoder.probe(str(path)).num_samples == 80 * 48_000
    with Decoder(sample_rate=48_000, limits=DecodeLimits(max_seconds=5)) as decoder:
        assert reason_of(decoder.decode, str(path), **asked) == Reason.TOO_LONG
    with Decoder(sample_rate=48_000, limits=DecodeLimits(max_expansion=1)) as decoder:
        assert reason_of(decoder.probe, str(path)) == Reason.HEADER_LIES


def test_rates_and_channels_are_bounded_as_for_other_recordings(tmp_path):
    path = encode(tmp_path / "a.m4a", speechlike(20_000, 16_000, channels=2), 16_000, *AAC)
    with Decoder(sample_rate=16_000, limits=DecodeLimits(max_channels=1)) as decoder:
        assert reason_of(decoder.probe, str(path)) == Reason.TOO_MANY_CHANNELS
    with Decoder(sample_rate=16_000, limits=DecodeLimits(max_sample_rate=8_000)) as decoder:
        assert reason_of(decoder.probe, str(path)) == Reason.BAD_SAMPLE_RATE


def test_the_child_loads_pyav_only_where_a_recording_needs_it():
    code = "import sys; import pipeline.audio.decode_child; print('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_without_pyav_the_reject_says_what_to_install(tmp_path, monkeypatch):
    """The child is given a path on which av is a package that cannot be found."""
    path = encode(tmp_path / "a.m4a", speechlike(9_000, 16_000), 16_000, *AAC)
    wave = tmp_path / "a.wav"
    wave.write_bytes(recorded(speechlike(9_000, 16_000), "WAV"))
    hider = tmp_path / "hidden"
    hider.mkdir()
    (hider / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'av' else find(name, *rest)\n"
    )
    monkeypatch.setattr(sys, "path", [str(hider), *sys.path])
    with Decoder(sample_rate=16_000) as decoder:
        with pytest.raises(AudioDecodeError, match=r'pip install "strata-tokens\[av\]"') as caught:
            decoder.probe(str(path))
        assert caught.value.reason == Reason.NOT_AUDIO
        assert decoder.probe(str(wave)).num_samples == 9_000
