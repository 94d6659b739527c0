"""CutSets that lhotse itself has written are read sample for sample; what lhotse would compute is refused by name."""

import gzip
import json

import numpy as np
import pytest
from made_audio import RATE, noise, wav

from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.audio.decode import Decoder
from pipeline.audio.makers import _segment
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

lhotse = pytest.importorskip("lhotse")


def read(corpus, passed_over=None):
    return list(read_corpus(str(corpus), "lhotse", passed_over=PassedOver() if passed_over is None else passed_over))


def supervision(name, start, duration, text=None, **more):
    return lhotse.SupervisionSegment(name, "r", start, duration, text=text, **more)


@pytest.fixture
def mono(tmp_path):
    return lhotse.Recording.from_file(wav(tmp_path / "audio/mono.wav", noise(20_011)))


@pytest.fixture
def stereo(tmp_path):
    return lhotse.Recording.from_file(wav(tmp_path / "audio/stereo.wav", noise(16_000, channels=2, seed=1)))


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "audio").mkdir()
    return tmp_path


def cut(recording, name="c", start=0.0, duration=None, channel=0, **more):
    duration = recording.duration if duration is None else duration
    return lhotse.MonoCut(name, start, duration, channel, recording=recording, **more)


def written(path, *cuts):
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    return path


def rows(path, *objects):
    path.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return path


def samples(candidate):
    """Decode what the manifest would hold of a candidate, as lhotse gives samples."""
    with Decoder(sample_rate=RATE) as decoder:
        info = decoder.probe(candidate.uri)
        place = {"offset_seconds": candidate.offset_seconds, "duration_seconds": candidate.duration_seconds}
        offset, length = _segment(place, info)
        where = {"offset_samples": offset, "num_samples": length, "sample_rate": info.sample_rate}
        decoded = decoder.decode(candidate.uri, channel=candidate.channel, utterance_id="u", **where)
    return decoded.astype(np.float32) / 32768


def test_a_cut_is_what_lhotse_loads_sample_for_sample(tmp_path, mono, stereo):
    cuts = [
        cut(mono, "whole"),
        cut(mono, "part", 0.25, 0.5),
        # Halves of a sample go up, where Python rounds to even.
        cut(mono, "half", 6.5 / RATE, 2000.5 / RATE),
        cut(mono, "odd", 0.1234567, 0.7654321),
        cut(stereo, "right", 0.1, 0.3, channel=1),
    ]
    found = read(written(tmp_path / "cuts.jsonl.gz", *cuts))
    assert [one.utterance_id for one in found] == [each.id for each in cuts]
    for one, each in zip(found, cuts, strict=True):
        assert np.array_equal(samples(one), each.load_audio()[0]), one.utterance_id


def test_labels_are_those_of_the_supervision_and_what_is_not_read_is_counted(tmp_path, mono):
    told = supervision("s", 0, 1.0, "hi there", speaker="7", language="English", gender="F", custom={"snr": 3})
    path = written(tmp_path / "cuts.jsonl", cut(mono, "a/1", supervisions=[told]), cut(mono, "b"))
    passed_over = PassedOver()
    one, bare = read(path, passed_over)
    assert (one.utterance_id, one.text, one.speaker, one.language) == ("a._1", "hi there", "7", "English")
    assert (bare.text, bare.speaker) == (None, None)
    counted = passed_over.to_json()
    assert counted.keys() == {"unread_columns"}
    assert counted["unread_columns"]["names"] == {"custom": 1, "gender": 1}


def test_several_supervisions_are_joined_in_their_order_and_counted(tmp_path, mono):
    turns = [supervision("2", 0.5, 0.5, "two", speaker="b"), supervision("1", 0.0, 0.5, "one", speaker="a")]
    same = [supervision("1", 0.0, 0.5, "one", speaker="a"), supervision("2", 0.5, 0.5, "two", speaker="a")]
    silent = [supervision("1", 0.0, 0.5, "one"), supervision("2", 0.5, 0.5)]
    cuts = [cut(mono, name, supervisions=found) for name, found in (("x", turns), ("y", same), ("z", silent))]
    passed_over = PassedOver()
    found = read(written(tmp_path / "cuts.jsonl", *cuts), passed_over)
    assert [(one.text, one.speaker) for one in found] == [("one two", None), ("one two", "a"), (None, None)]
    assert passed_over.to_json() == {
        "joined_labels": {"count": 3, "example": "x"},
        "without_label": {"count": 1, "example": "z", "names": {"text": 1}},
    }


def test_a_window_has_not_the_text_of_a_supervision_that_goes_on_behind_it(tmp_path, mono):
    whole = cut(mono, supervisions=[supervision("s", 0, 1.2, "one two three", speaker="a")])
    windows = lhotse.CutSet.from_cuts([whole]).cut_into_windows(0.5)
    windows.to_file(tmp_path / "cuts.jsonl")
    passed_over = PassedOver()
    found = read(tmp_path / "cuts.jsonl", passed_over)
    assert [(one.text, one.speaker) for one in found] == [(None, "a")] * 3
    assert passed_over["recording_labels"] == 3


def test_a_recording_of_one_file_a_channel_is_read_from_the_file_of_the_channel(tmp_path):
    files = [wav(tmp_path / f"audio/{name}.wav", noise(8000, seed=seed)) for seed, name in enumerate("ab")]
    sources = [lhotse.audio.AudioSource("file", [2 * number], str(file)) for number, file in enumerate(files)]
    recording = lhotse.Recording("r", sources, RATE, 8000, 0.5)
    second = cut(recording, "second", channel=2)
    both = lhotse.MultiCut("both", 0, 0.5, [0, 2], recording=recording)
    found, refused = read(written(tmp_path / "cuts.jsonl", second, both))
    assert (found.uri, found.channel) == (str(files[1]), 0)
    assert np.array_equal(samples(found), second.load_audio()[0])
    assert refused.problem[0] == "bad_segment"
    assert "different sources" in refused.problem[1]


def test_the_channels_of_a_multicut_are_those_of_the_file(tmp_path, stereo):
    cuts = [lhotse.MultiCut("m", 0, 1.0, [0, 1], recording=stereo), lhotse.MultiCut("n", 0, 1.0, [1], recording=stereo)]
    both, one = read(written(tmp_path / "cuts.jsonl", *cuts))
    assert (both.channel, both.channels) == (None, (0, 1))
    assert (one.channel, one.channels) == (1, ())


def test_what_lhotse_would_compute_is_refused_by_name(tmp_path, mono):
    whole = cut(mono)
    cuts = {
        "Speed": whole.perturb_speed(1.1),
        "Resample": whole.resample(8000),
        "Volume": whole.perturb_volume(2.0),
        "MixedCut": whole.pad(duration=2.0),
        "PaddingCut": lhotse.cut.PaddingCut("p", 1.0, RATE, -23.0, num_samples=RATE),
    }
    found = read(written(tmp_path / "cuts.jsonl", *cuts.values(), cut(mono, "good")))
    assert [one.problem is None for one in found] == [False] * 5 + [True]
    for number, (name, one) in enumerate(zip(cuts, found, strict=False), 1):
        assert one.problem[0] == "bad_row"
        assert name in one.problem[1]
        assert f"line {number} of {tmp_path}/cuts.jsonl" in one.problem[1]


def made(**more):
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
    return {"id": "c", "start": 0, "duration": 1.0, "channel": 0, "recording": recording, "type": "MonoCut"} | more


def with_source(**source):
    recording = made()["recording"]
    return made(recording={**recording, "sources": [{**recording["sources"][0], **source}]})


BAD = [
    (with_source(type="command", source="curl -u me:SECRET host | sox"), "a command, which is never run"),
    (with_source(type="memory", source="UklG"), "in memory"),
    (with_source(type="shar", source=""), "layout lhotse-shar"),
    (with_source(type="url", source="https://host/a.wav?token=SECRET"), "local paths and s3://"),
    (with_source(type="url", source="s3://KEY:SECRET@bucket/a.wav"), "credentials"),
    (with_source(type="gopher", source="a.wav"), "'gopher' is not read"),
    (with_source(source=None), "must be a path"),
    (with_source(channels=None), "no list of channels"),
    (with_source(channels=[1]), "no source of the recording has channel 0"),
    (made(recording=None, features={"type": "fbank"}), "no recording, only features"),
    (made(recording="r"), "must be an object"),
    (made(recording={**made()["recording"], "sampling_rate": 0}), "above 0"),
    (made(recording={**made()["recording"], "sampling_rate": "16000"}), "must be a number"),
    (made(recording={**made()["recording"], "sources": {}}), "no list of sources"),
    (made(type="Window"), "'Window'"),
    (made(id=None), "no id"),
    (made(start=-0.1), "begins at sample -1600"),
    (made(start=float("nan")), "must be a number"),
    (made(duration=0), "has 0"),
    (made(duration=True), "must be a number"),
    (made(channel="left"), "whole number"),
    (made(supervisions={}), "must be a list"),
    (made(supervisions=["s"]), "must be an object"),
    (made(supervisions=[{"start": 0, "duration": 1, "text": ["a"]}]), "text must be text"),
    (made(supervisions=[{"start": None, "duration": 1}]), "must be a number"),
    ([1], "not a JSON object"),
]


@pytest.mark.parametrize(("row", "words"), BAD)
def test_a_bad_cut_is_a_problem_with_its_line_and_the_rest_is_read(tmp_path, row, words):
    found = read(rows(tmp_path / "cuts.jsonl", made(id="1"), row, made(id="2")))
    assert [one.problem is None for one in found] == [True, False, True]
    assert words in found[1].problem[1]
    assert "line 2 of" in found[1].problem[1]
    assert "SECRET" not in f"{found[1]}"


def test_relative_paths_begin_at_the_manifest_and_s3_is_read(tmp_path):
    found = read(
        rows(tmp_path / "cuts.jsonl", with_source(source="../x/a.wav"), with_source(type="url", source="s3://b/a.wav"))
    )
    assert [one.uri for one in found] == [f"{tmp_path.parent}/x/a.wav", "s3://b/a.wav"]


def test_a_folder_a_pattern_and_a_file_give_the_same_cuts(tmp_path):
    for shard in range(3):
        rows(tmp_path / f"train_cuts.{shard:02d}.jsonl", made(id=f"c{shard}"))
    rows(tmp_path / "train_recordings.jsonl", {"id": "r", "sources": []})
    passed_over = PassedOver()
    whole = read(tmp_path, passed_over)
    assert [one.utterance_id for one in whole] == ["c0", "c1", "c2"]
    assert passed_over["other_endings"] == 1
    assert read(tmp_path / "train_cuts.{00..02}.jsonl") == whole
    assert read(tmp_path / "train_cuts.01.jsonl") == whole[1:2]
    for corpus in (tmp_path, tmp_path / "train_cuts.{00..02}.jsonl", tmp_path / "train_cuts.01.jsonl"):
        assert corpus_roots(str(corpus), "lhotse") == [str(tmp_path)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "r", "sources": [], "sampling_rate": 16000}, "holds recordings, not cuts: lhotse cut simple -r"),
        ({"id": "s", "recording_id": "r", "start": 0, "duration": 1}, "holds supervisions or features, not cuts"),
        ({"audio_filepath": "a.wav"}, "no cuts of lhotse"),
    ],
)
def test_a_manifest_of_another_kind_is_one_clear_error(tmp_path, row, words):
    with pytest.raises(ManifestError, match=words):
        read(rows(tmp_path / "cuts.jsonl", row))


def test_an_absent_empty_or_damaged_manifest_is_one_clear_error(tmp_path):
    with pytest.raises(ManifestError, match="there is no file .*cuts.jsonl"):
        read(tmp_path / "cuts.jsonl")
    (tmp_path / "cuts.jsonl").touch()
    with pytest.raises(ManifestError, match="no recordings: it has no cuts"):
        read(tmp_path / "cuts.jsonl")
    (tmp_path / "cuts.jsonl").write_text(json.dumps([made()]))
    with pytest.raises(ManifestError, match="not an array"):
        read(tmp_path / "cuts.jsonl")
    packed = bytearray(gzip.compress("".join(json.dumps(made(id=f"{n}")) + "\n" for n in range(5000)).encode()))
    packed[len(packed) // 2 :] = b"\xff" * 400
    (tmp_path / "cuts.jsonl.gz").write_bytes(packed)
    with pytest.raises(ManifestError, match="cannot be read"):
        read(tmp_path / "cuts.jsonl.gz")
    with pytest.raises(ManifestError, match="braces"):
        read(tmp_path / "cuts.{0.jsonl")


def test_manifests_a_folder_below_are_told_of(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "cuts.jsonl").touch()
    with pytest.raises(ManifestError, match=r"no recordings: .*it holds only the folder train: give it"):
        read(tmp_path / "data")
