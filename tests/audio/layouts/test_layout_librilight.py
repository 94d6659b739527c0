"""The layout librilight: recordings of hours, cut where the JSON beside them says that somebody speaks."""

import json

import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

BOOK = "960/history_of_holland_64kb_mp3"
NAME = "history_of_holland_01_64kb"


def made(folder, described=None, part="small", name=NAME, ending=".flac", **more):
    """A recording with its JSON: ``described`` as it stands, else with these fields."""
    book = folder / part / BOOK
    book.mkdir(parents=True, exist_ok=True)
    (book / f"{name}{ending}").touch()
    if described is None:
        fields = {"speaker": "960", "book_meta": {"id": "319", "genre": ["History"]}, "snr": 5.391} | more
        described = json.dumps(fields)
    (book / f"{name}.json").write_bytes(described if isinstance(described, bytes) else described.encode())
    return str(folder)


def read(corpus):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), "librilight", passed_over=passed_over))
    return found, passed_over.to_json()


def test_each_stretch_of_voice_is_an_utterance_named_by_its_place(tmp_path):
    corpus = made(tmp_path, voice_activity=[[0.4, 12.32], [12.32, 14], [3600.5, 3610.25]])
    found, passed_over = read(corpus)
    recording = f"960._history_of_holland_64kb_mp3._{NAME}"
    assert [one.utterance_id for one in found] == [
        f"{recording}.-400-12320",
        f"{recording}.-12320-14000",
        f"{recording}.-3600500-3610250",
    ]
    places = [(one.offset_seconds, one.offset_seconds + one.duration_seconds) for one in found]
    assert [start for start, _ in places] == [0.4, 12.32, 3600.5]
    assert [end for _, end in places] == pytest.approx([12.32, 14, 3610.25])
    assert {(one.uri, one.speaker, one.language, one.split, one.text, one.problem) for one in found} == {
        (f"{corpus}/small/{BOOK}/{NAME}.flac", "960", "en", "small", None, None)
    }
    assert passed_over == {}


def test_ids_do_not_depend_on_the_folder_that_is_the_corpus(tmp_path):
    made(tmp_path / "data", voice_activity=[[0, 1]], part="medium")
    found, _ = read(tmp_path)
    assert found == read(tmp_path / "data")[0] == read(tmp_path / "data/medium")[0]
    assert found[0].split == "medium"


@pytest.mark.parametrize(("name", "part"), [("unlab-60k", "unlab-60k"), ("speech", None), ("dev", None)])
def test_the_folder_of_the_corpus_is_a_split_only_where_it_is_a_set(tmp_path, name, part):
    made(tmp_path, voice_activity=[[0, 1], [2, 3]], part=name)
    found, passed_over = read(tmp_path / name)
    assert {one.split for one in found} == {part}
    missed = {"count": 1, "example": f"{BOOK}/{NAME}.flac", "names": {"split": 1}}
    assert passed_over == ({} if part else {"without_label": missed})
    assert {one.split for one in read(tmp_path)[0]} == {name}


def test_the_speaker_may_be_a_number_and_is_that_of_the_folder_where_the_json_has_none(tmp_path):
    made(tmp_path, json.dumps({"speaker": 960, "voice_activity": [[0, 1]]}), name="a")
    made(tmp_path, json.dumps({"speaker": None, "voice_activity": [[0, 1]]}), name="b")
    made(tmp_path, json.dumps({"voice_activity": [[0, 1]]}), name="c")
    made(tmp_path, json.dumps({"speaker": ["960"], "voice_activity": [[0, 1]]}), name="d")
    found, _ = read(tmp_path)
    assert [one.speaker for one in found] == ["960"] * 4
    assert [one.problem is None for one in found] == [True, True, True, False]


DAMAGED = [
    ("", "bad_row", "not JSON"),
    ('{"speaker": "960", "voice_activity": [[0.4,', "bad_row", "not JSON"),
    (b'{"speaker": "caf\xe9"}', "bad_row", "not JSON"),
    ("[" * 100_000, "bad_row", "not JSON"),
    ("[]", "bad_row", "must hold an object"),
    ('{"speaker": "960"}', "bad_row", "no voice_activity"),
    ('{"voice_activity": null}', "bad_row", "voice_activity must be a list, got NoneType"),
    ('{"voice_activity": {"0": [0, 1]}}', "bad_row", "voice_activity must be a list, got an object"),
    ('{"voice_activity": []}', "no_speech", "voice_activity is empty"),
]


@pytest.mark.parametrize(("described", "reason", "words"), DAMAGED)
def test_a_recording_whose_json_says_nothing_is_one_problem(tmp_path, described, reason, words):
    made(tmp_path, described, name="a")
    made(tmp_path, voice_activity=[[0, 1]], name="b")
    bad, good = read(tmp_path)[0]
    assert bad.utterance_id == "960._history_of_holland_64kb_mp3._a"
    assert bad.problem[0] == reason
    assert f"small/{BOOK}/a.json: " in bad.problem[1]
    assert words in bad.problem[1]
    assert good.problem is None


def test_a_recording_without_json_is_a_problem_and_json_without_a_recording_is_counted(tmp_path):
    corpus = made(tmp_path, voice_activity=[[0, 1]], name="a")
    (tmp_path / "small" / BOOK / "b.flac").touch()
    made(tmp_path, voice_activity=[[0, 1]], name="c", ending=".txt")
    made(tmp_path, voice_activity=[[0, 1]], name="d", ending=".wav")
    (tmp_path / "small/stats.json").touch()
    found, passed_over = read(corpus)
    assert [(one.uri.rpartition("/")[2], one.problem and one.problem[0]) for one in found] == [
        ("a.flac", None),
        ("b.flac", "no_segment"),
        ("d.wav", None),
    ]
    assert passed_over == {
        "other_endings": {"count": 2, "example": f"small/{BOOK}/c.txt", "names": {".json": 1, ".txt": 1}},
        "unmatched_ids": {"count": 1, "example": f"small/{BOOK}/c.json", "names": {".json": 1}},
    }


STRETCHES = [
    ("[-0.5, 1]", "starts at -0.5 s"),
    ("[2, 1]", "starts at 2 s and ends at 1 s"),
    ("[1, 1]", "starts at 1 s and ends at 1 s"),
    ("[NaN, 1]", "starts at nan s"),
    ("[0, NaN]", "ends at nan s"),
    ("[0, Infinity]", "ends at inf s"),
    ("[0, 1" + "0" * 400 + "]", "ends at inf s"),
    ("[6, 1e306]", "starts at 6 s and ends at 1e+306 s"),
    ("[5.5, 7]", "starts at 5.5 s, but one before it ends at 6 s"),
    ("[0, 1]", "starts at 0 s, but one before it ends at 6 s"),
    ('["0", "1"]', "starts at nan s"),
    ("[true, 10]", "starts at nan s"),
    ("[0]", "a start and an end"),
    ("[7, 8, 9]", "a start and an end"),
    ("null", "a start and an end"),
    ('"ab"', "a start and an end"),
]


@pytest.mark.parametrize(("stretch", "words"), STRETCHES)
def test_a_stretch_that_cannot_be_is_a_problem_and_the_others_are_read(tmp_path, stretch, words):
    found, _ = read(made(tmp_path, f'{{"speaker": "960", "voice_activity": [[5, 6], {stretch}, [6, 8.5]]}}'))
    assert [one.problem is None for one in found] == [True, False, True]
    assert found[1].utterance_id == f"960._history_of_holland_64kb_mp3._{NAME}.-stretch2"
    reason, detail = found[1].problem
    assert reason == "bad_segment"
    assert f"stretch 2 in voice_activity of {tmp_path}/small/{BOOK}/{NAME}.json" in detail
    assert words in detail


def test_a_recording_outside_of_a_speakers_book_is_kept_whole(tmp_path):
    made(tmp_path, voice_activity=[[0, 1]])
    (tmp_path / "small/intro.flac").touch()
    found, passed_over = read(tmp_path)
    assert [(one.utterance_id, one.offset_seconds) for one in found][1:] == [("small._intro", None)]
    assert passed_over == {"unfit_names": {"count": 1, "example": "small/intro.flac"}}


def test_a_corpus_of_another_form_is_refused(tmp_path):
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs/one.flac").touch()
    with pytest.raises(ManifestError, match="layout librilight; use the layout folder"):
        read(tmp_path)


def test_lhotse_cuts_at_the_same_times(tmp_path):
    pytest.importorskip("lhotse")
    from lhotse.recipes.librilight import _prepare_subset

    corpus = made(tmp_path, voice_activity=[[0.1, 0.32], [0.4, 0.9]])
    soundfile.write(tmp_path / "small" / BOOK / f"{NAME}.flac", [0.0] * 16000, 16000)
    _, theirs = _prepare_subset("small", corpus, 1)
    found, _ = read(corpus)
    assert [(one.speaker, one.offset_seconds, round(one.duration_seconds, 6)) for one in found] == [
        (one.speaker, one.start, round(one.duration, 6)) for one in theirs
    ]
