"""AAC, AMR, WMA, Opus and others, read through PyAV: where they begin and end, beside what was made and ffmpeg.

What begins late, or is too long, in these tables is what docs/containers.md tells users.
"""

import tarfile

import numpy as np
import pytest
import soxr
from made_audio import reason_of
from made_containers import write_table
from made_media import (
    AAC,
    AMR,
    FRAGMENTS,
    LATE_HEAD,
    OPUS,
    VORBIS,
    delay,
    encode,
    speechlike,
    with_itunes_gaps,
)
from made_recordings import ID3, ffmpeg_samples, patched, read

from pipeline.audio.corpora import read_corpus
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.media import MediaSound
from pipeline.audio.opening import Opener
from pipeline.audio.places import Place
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason

pytest.importorskip("av", reason="PyAV, of the extra [av], is not installed")

NUM_SAMPLES = 48_777
# Ending, options, container; samples by which it begins late, and is longer.
EXACT = [
    ("m4a", AAC, "mp4", 0),
    ("mp4", [*AAC, "-movflags", "+faststart"], "mp4", 0),
    ("mov", AAC, "mp4", 0),
    ("3gp", AAC, "mp4", 0),
    ("mp4", [*AAC, *LATE_HEAD], "mp4", 0),
    ("mp4", [*AAC, *FRAGMENTS], "mp4", 1024),
    ("m4a", [*AAC, "-use_editlist", "0"], "mp4", 1024),
    ("m4a", ["-c:a", "alac"], "mp4", 0),
    ("mka", ["-c:a", "alac"], "matroska", 0),
    ("mp4", ["-c:a", "flac"], "mp4", 0),
    ("mka", ["-c:a", "flac"], "matroska", 0),
    ("mp4", ["-c:a", "libmp3lame"], "mp4", 0),
    ("mka", ["-c:a", "libmp3lame"], "matroska", 0),
    ("webm", OPUS, "matroska", 0),
    ("mkv", OPUS, "matroska", 0),
    ("mp4", OPUS, "mp4", 0),
    ("webm", VORBIS, "matroska", 0),
    ("mp4", ["-c:a", "ac3", "-ar", "32000"], "mp4", 0),
    ("mka", ["-c:a", "ac3", "-ar", "32000"], "matroska", 0),
    ("mov", ["-c:a", "pcm_s16le"], "mp4", 0),
    ("mka", ["-c:a", "pcm_s24le"], "matroska", 0),
]
# The same, and the samples of a frame, to which the last one is filled up.
FILLED = [
    ("aac", AAC, "adts", 1024, 1024),
    ("mka", AAC, "matroska", 0, 1024),
    ("wma", ["-c:a", "wmav2"], "asf", -512, 512),
    ("wma", ["-c:a", "wmav1"], "asf", -512, 512),
    ("wma", ["-c:a", "libmp3lame"], "asf", 1105, 1152),
]


@pytest.fixture(scope="module")
def decoders():
    made = {rate: Decoder(sample_rate=rate) for rate in (8_000, 16_000, 32_000, 44_100, 48_000)}
    yield made
    for decoder in made.values():
        decoder.close()


def compared(decoders, path, samples, rate):
    """Read a recording at its own rate; gives it, by how much it begins late and is too long, and ffmpeg's samples."""
    info = decoders[16_000].probe(str(path))
    found = read(decoders[info.sample_rate], path)
    made = samples.astype(np.float32) / 32_768
    if info.sample_rate != rate:
        made = soxr.resample(made, rate, info.sample_rate)
    return found, delay(found.samples, made), len(found.samples) - len(made), ffmpeg_samples(path)[:, 0]


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize(("ending", "options", "container", "late"), EXACT)
def test_a_recording_begins_and_ends_where_the_one_that_was_made_does(
    decoders, tmp_path, ending, options, container, late, rate
):
    samples = speechlike(NUM_SAMPLES, rate)
    path = encode(tmp_path / f"a.{ending}", samples, rate, *options)
    found, begins, longer, witness = compared(decoders, path, samples, rate)
    assert (found.info.container, found.info.num_channels) == (container, 1)
    assert (begins, longer) == (late, late)
    assert not found.passed_over
    if ending == "mp4" and options[:2] == OPUS:
        # ffmpeg takes 104 of 312 samples away where the track counts 16,000 in a second, and leaves the padding.
        late = delay(witness, found.samples)
        assert late == (208 if rate == 16_000 else 0)
        witness = witness[late:]
    held = len(found.samples)
    assert held <= len(witness)
    assert np.array_equal(found.samples, witness[:held])


@pytest.mark.parametrize(("ending", "options", "container", "late", "frame"), FILLED)
def test_a_recording_that_does_not_say_its_delay_is_read_as_ffmpeg_reads_it(
    decoders, tmp_path, ending, options, container, late, frame
):
    samples = speechlike(NUM_SAMPLES, 16_000)
    path = encode(tmp_path / f"a.{ending}", samples, 16_000, *options)
    found, begins, longer, witness = compared(decoders, path, samples, 16_000)
    assert (found.info.container, begins) == (container, late)
    assert late <= longer < late + frame
    assert np.array_equal(found.samples, witness)


@pytest.mark.parametrize("ending", ["amr", "3gp"])
@pytest.mark.parametrize("silence", [0, 1])
def test_amr_is_read_and_its_silence_too(decoders, tmp_path, ending, silence):
    """FFmpeg's own decoder, and so ffmpeg, refuses a frame that stands for silence."""
    samples = speechlike(32_000, 8_000)
    samples[8_000:24_000] = 0
    path = encode(tmp_path / f"a.{ending}", samples, 8_000, *AMR, "-dtx", silence)
    found = read(decoders[8_000], path)
    late = delay(found.samples, samples / np.float32(32_768))
    assert 30 <= late <= 45 if ending == "amr" else -20 <= late <= 0
    assert len(found.samples) == 32_160 if ending == "amr" else len(found.samples) == 32_000
    assert np.abs(found.samples[12_000:22_000]).max() < 0.02
    if not silence:
        witness = ffmpeg_samples(path)[: len(found.samples), 0]
        assert np.abs(found.samples - witness).max() < 0.05


@pytest.mark.parametrize("mode", range(9))
def test_amr_of_the_wide_band_has_320_samples_in_a_frame(decoders, tmp_path, mode):
    num_bytes = (17, 23, 32, 36, 40, 46, 50, 58, 60)[mode]
    rng = np.random.default_rng(mode)
    frames = [bytes([mode << 3 | 4]) + rng.bytes(num_bytes) for _ in range(25)]
    path = tmp_path / "a.awb"
    path.write_bytes(b"#!AMR-WB\n" + b"".join(frames))
    found = read(decoders[16_000], path)
    assert (found.info.container, found.info.sample_rate, found.info.num_samples) == ("amr", 16_000, 25 * 320)
    assert np.array_equal(found.samples, ffmpeg_samples(path)[:, 0])


def test_amr_of_the_wide_band_whose_silence_ffmpeg_cannot_decode_is_no_short_result(decoders, tmp_path):
    rng = np.random.default_rng(0)
    speech = [bytes([2 << 3 | 4]) + rng.bytes(32) for _ in range(10)]
    path = tmp_path / "a.awb"
    path.write_bytes(b"#!AMR-WB\n" + b"".join([*speech, bytes([9 << 3 | 4]) + bytes(5), *speech]))
    assert reason_of(decoders[16_000].probe, str(path)) == Reason.NOT_AUDIO


@pytest.mark.parametrize("count", [NUM_SAMPLES, 0])
def test_the_tag_of_itunes_says_where_aac_begins_and_ends(decoders, tmp_path, count):
    samples = speechlike(NUM_SAMPLES, 16_000)
    path = encode(tmp_path / "a.m4a", samples, 16_000, *AAC, "-use_editlist", "0")
    # Its last packet is as long as the others, as those of iTunes.
    data = path.read_bytes()
    place = data.index(b"stts") + 8
    entries = int.from_bytes(data[place : place + 4], "big")
    data = patched(data, place + 8 * entries, (1024).to_bytes(4, "big"))
    data = patched(data, data.index(b"mdhd") + 20, (49 * 1024).to_bytes(4, "big"))
    path.write_bytes(with_itunes_gaps(data, 1024, 375, count))
    found, begins, longer, _ = compared(decoders, path, samples, 16_000)
    assert begins == 0
    assert longer in ((0,) if count else range(1, 1024))


@pytest.mark.parametrize(("ending", "options"), [("m4a", AAC), ("aac", AAC), ("mka", ["-c:a", "flac"]), ("wma", [])])
def test_the_channels_of_a_recording_are_told_apart_and_averaged(decoders, tmp_path, ending, options):
    samples = speechlike(20_000, 16_000, channels=2)
    path = encode(tmp_path / f"a.{ending}", samples, 16_000, *options)
    left, right, mean = (read(decoders[16_000], path, channel=channel) for channel in (0, 1, None))
    witness = ffmpeg_samples(path, 2)
    assert left.info.num_channels == 2
    for found, expected in ((left, witness[:, 0]), (right, witness[:, 1]), (mean, witness.mean(axis=1))):
        assert np.abs(found.samples - expected[: len(found.samples)]).max() < 1e-6


def test_a_recording_is_resampled_as_a_whole(decoders, tmp_path):
    path = encode(tmp_path / "a.m4a", speechlike(60_000, 48_000), 48_000, *AAC)
    found = read(decoders[16_000], path)
    assert len(found.samples) == 20_000
    expected = soxr.resample(ffmpeg_samples(path)[:60_000, 0], 48_000, 16_000)
    assert np.abs(found.samples - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("ending", "options"),
    [("m4a", AAC), ("aac", AAC), ("webm", OPUS), ("webm", VORBIS), ("wma", []), ("amr", AMR), ("mka", ["-c:a", "mp3"])],
)
def test_a_segment_equals_its_slice_of_the_whole(tmp_path, ending, options, monkeypatch):
    """Whether it is decoded from the start, reads on, or lies in what was kept."""
    monkeypatch.setattr("pipeline.audio.media._KEPT_BYTES", 400_000)
    rate = 8_000 if options == AMR else 16_000
    path = encode(tmp_path / f"a.{ending}", speechlike(400_000, rate), rate, *options)
    rate = 48_000 if options == OPUS else rate
    source = {"name": "a", "path": str(path), "start": 0, "num_bytes": path.stat().st_size}
    source |= {"whole": True, "remote": False, "careful": False}
    with Decoder(sample_rate=rate) as decoder:
        expected = read(decoder, path).samples
    opener = Opener(vars(DecodeLimits()), lambda begin, end: (begin, end))
    rng = np.random.default_rng(1)
    starts = [350_000, 0, 399_000, 398_000, 120_000, 180_000, 175_000, 60_000, *rng.integers(0, 399_000, 4).tolist()]
    for start in starts:
        with opener.open(source, thorough=False) as recording:
            recording.sound.seek(start)
            found = recording.sound.read(1_000)[:, 0]
        assert np.abs(found - expected[start : start + 1_000]).max() <= 1e-6
        assert len(found) == len(expected[start : start + 1_000])


def test_segments_that_follow_each_other_cost_one_decoding(tmp_path, monkeypatch):
    begun = []
    begin = MediaSound._begin
    monkeypatch.setattr(MediaSound, "_begin", lambda sound: (begun.append(1), begin(sound))[1])
    path = encode(tmp_path / "a.m4a", speechlike(400_000, 16_000), 16_000, *AAC)
    other = encode(tmp_path / "b.m4a", speechlike(40_000, 16_000, seed=1), 16_000, *AAC)
    opener = Opener(vars(DecodeLimits()), lambda begin, end: (begin, end))

    def piece(path, start):
        source = {"name": path.name, "path": str(path), "start": 0, "num_bytes": path.stat().st_size}
        with opener.open(source | {"whole": True, "remote": False, "careful": False}, thorough=False) as recording:
            recording.sound.seek(start)
            return recording.sound.read(500)

    for start in range(0, 390_000, 30_000):
        piece(path, start)
    assert len(begun) == 1
    first = piece(other, 0)
    assert len(begun) == 2
    path.write_bytes(other.read_bytes())
    assert np.array_equal(piece(path, 0), first)
    assert len(begun) == 3


def test_members_of_tars_and_cells_of_tables_are_read_as_files_are(decoders, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    paths = [
        encode(folder / f"{number}.{ending}", speechlike(20_000 + 999 * number, 16_000), 16_000, *options)
        for number, (ending, options) in enumerate([("m4a", AAC), ("webm", OPUS), ("wma", []), ("aac", AAC)])
    ]
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths:
            tar.add(path, path.name)
    write_table(tmp_path / "t.parquet", [(path.read_bytes(), None) for path in paths], row_group_size=2)
    members = list(read_corpus(str(tmp_path / "s.tar"), "webdataset", passed_over=PassedOver()))
    cells = list(read_corpus(str(tmp_path / "t.parquet"), "parquet", passed_over=PassedOver()))
    assert len(members) == len(cells) == 4
    decoder = decoders[16_000]
    for path, member, cell in zip(paths, members, cells, strict=True):
        expected = read(decoder, path)
        for one in (member, cell):
            found = PassedOver()
            part = Place(
                member=one.member,
                byte_offset=one.byte_offset,
                num_bytes=one.num_bytes,
                row_group=one.row_group,
                row=one.row,
            )
            info = decoder.probe(one.uri, part=part, passed_over=found)
            assert info == expected.info
            assert not found
            samples = decoder.decode(
                one.uri,
                offset_samples=5_000,
                num_samples=7_000,
                sample_rate=info.sample_rate,
                channel=0,
                utterance_id="u",
                part=part,
            )
            whole = decoder.decode(
                str(path),
                offset_samples=5_000,
                num_samples=7_000,
                sample_rate=info.sample_rate,
                channel=0,
                utterance_id="u",
            )
            assert np.array_equal(samples, whole)


def test_objects_of_s3_are_read_as_files_are_and_apart_from_each_other(decoders, bucket, tmp_path):
    import s3fs

    store = s3fs.S3FileSystem(use_listings_cache=False)
    decoder = decoders[16_000]
    for number, (ending, options) in enumerate([("m4a", AAC), ("m4a", AAC), ("webm", OPUS), ("wma", []), ("aac", AAC)]):
        path = encode(tmp_path / f"{number}.{ending}", speechlike(300_000, 16_000, seed=number), 16_000, *options)
        uri = f"{bucket.rstrip('/')}/media/{path.name}"
        store.put(str(path), uri)
        expected = read(decoder, path)
        found = PassedOver()
        info = decoder.probe(uri, passed_over=found)
        assert (info, found.note()) == (expected.info, {})
        for offset in (250_000, 0, 100_000):
            asked = {"offset_samples": offset, "num_samples": 9_000, "sample_rate": info.sample_rate, "channel": 0}
            remote = decoder.decode(uri, **asked, utterance_id="u")
            assert np.array_equal(remote, decoder.decode(str(path), **asked, utterance_id="u"))


def test_a_container_is_known_behind_a_tag_and_by_no_ending(decoders, tmp_path):
    path = encode(tmp_path / "a.aac", speechlike(20_000, 16_000), 16_000, *AAC)
    plain = read(decoders[16_000], path)
    tagged = tmp_path / "tagged.wav"
    tagged.write_bytes(ID3 + path.read_bytes())
    assert np.array_equal(read(decoders[16_000], tagged).samples, plain.samples)


VIDEO = ["-f", "lavfi", "-i", "color=s=64x64:d=2"]


@pytest.mark.parametrize(
    ("ending", "options", "streams"),
    [
        ("mp4", ["-map", "0", "-map", "1", "-c:v", "libx264"], {"video": 1}),
        ("mkv", ["-map", "1", "-map", "0", "-c:v", "libx264"], {"video": 1}),
        ("mkv", ["-map", "0", "-map", "1", "-map", "1", "-c:a", "aac", "-c:v", "libx264"], {"audio": 1, "video": 1}),
        ("m4a", ["-map", "1", "-map", "0", "-c:v", "png", "-disposition:v", "attached_pic"], {}),
    ],
)
def test_the_first_stream_of_audio_is_read_and_others_are_counted(decoders, tmp_path, ending, options, streams):
    samples = speechlike(32_000, 16_000)
    picture = ["-f", "lavfi", "-i", "color=s=64x64:d=0.04"]
    path = encode(tmp_path / f"a.{ending}", samples, 16_000, *options, before=VIDEO if streams else picture)
    found = read(decoders[16_000], path)
    assert delay(found.samples, samples / np.float32(32_768)) == 0
    told = found.passed_over.note().get("passed_over", {}).get("other_streams", {})
    assert told.get("names", {}) == streams


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_audio_that_begins_late_begins_at_its_first_sample_and_is_counted(decoders, tmp_path, ending):
    samples = speechlike(32_000, 16_000)
    options = ["-map", "0", "-map", "1", "-c:v", "libx264", "-c:a", "aac"]
    path = encode(tmp_path / f"a.{ending}", samples, 16_000, *options, before=[*VIDEO, "-itsoffset", "0.7"])
    found = read(decoders[16_000], path)
    # MP4 has no room for a delay there: ffmpeg begins the audio so much earlier.
    assert delay(found.samples, samples / np.float32(32_768)) == (1024 if ending == "mp4" else 0)
    assert Kind.LATE_AUDIO.value in found.passed_over.note()["passed_over"]
