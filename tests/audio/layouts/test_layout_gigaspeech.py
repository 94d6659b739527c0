"""GigaSpeech is read recording by recording out of its one JSON file, and nothing of it is lost in silence."""

import gzip
import io
import json
import tracemalloc

import pytest

from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.audio.layouts import json_arrays
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

POD, YOU = "audio/podcast/P0001/POD0000000025.opus", "audio/youtube/P0007/YOU0000000003.opus"


def segment(sid, text="HI <COMMA> THERE <PERIOD>", subsets=("{XL}", "{L}"), begin=780.31, end=783.13, **others):
    times = {"begin_time": begin, "end_time": end}
    return {"sid": sid, "speaker": "N/A", **times, "text_tn": text, "subsets": list(subsets), **others}


def recording(path, *segments, **others):
    aid = path.rpartition("/")[2].removesuffix(".opus")
    about = {"title": "T", "aid": aid, "path": path, "sample_rate": 16000, "channels": 1, "duration": 900.0}
    return {**about, "format": "opus", "segments": list(segments), **others}


def corpus(folder, *audios, name="GigaSpeech.json", present=(POD, YOU), **dump):
    """Write the metadata as the corpus has them: fields of the whole before and behind the recordings."""
    for path in present:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    whole = {"dataset": "GigaSpeech", "language": "EN", "subsets": {"XL": 1e4}, "audios": list(audios), "version": "1"}
    data = json.dumps(whole, **dump).encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def read(folder):
    passed_over = PassedOver()
    return list(read_corpus(str(folder), "gigaspeech", passed_over=passed_over)), passed_over.to_json()


def problems(found):
    return [(one.utterance_id, one.problem[0]) for one in found if one.problem]


def test_a_segment_has_its_sid_its_place_its_text_and_its_split(tmp_path):
    found, passed_over = read(
        corpus(
            tmp_path,
            recording(POD, segment("POD0000000025_S0000103"), segment("POD0000000025_S0000104", subsets=["{DEV}"])),
            recording(YOU, segment("YOU0000000003_S0000001", subsets=["{TEST}"]), segment("S2", subsets=[])),
            indent=2,
        )
    )
    assert [(one.utterance_id, one.split) for one in found] == [
        *(("POD0000000025_S0000103", "train"), ("POD0000000025_S0000104", "dev")),
        *(("YOU0000000003_S0000001", "test"), ("S2", None)),
    ]
    first = found[0]
    assert (first.uri, first.offset_seconds, first.duration_seconds) == (f"{tmp_path}/{POD}", 780.31, 2.82)
    assert (first.text, first.speaker, first.language) == ("HI <COMMA> THERE <PERIOD>", None, "en")
    assert passed_over == {
        "unread_columns": {"count": 1, "example": f"{tmp_path}/GigaSpeech.json", "names": {"title": 1}}
    }


def test_lhotse_reads_the_same_places_and_texts(tmp_path):
    from lhotse.recipes.gigaspeech import parse_utterance

    audio = recording(POD, segment("a", begin=0, end=0.1), segment("b", begin=0.1, end=0.3, speaker="ann"))
    found, _ = read(corpus(tmp_path, audio, present=[POD]))
    supervisions = parse_utterance(audio, tmp_path)[1]
    ours = [(one.utterance_id, one.offset_seconds, one.duration_seconds, one.text) for one in found]
    assert ours == [(one.id, one.start, one.duration, one.text) for one in supervisions]
    assert [one.speaker for one in found] == [None, "ann"]


@pytest.mark.parametrize("text", ["<SIL>", "<MUSIC>", "<NOISE> <PERIOD>", "<OTHER> <SIL>"])
def test_a_segment_that_is_marked_as_no_speech_is_a_reject_of_its_own_reason(tmp_path, text):
    audio = recording(POD, segment("a", text, ["{TEST}"]), segment("b", "<COMMA>"), segment("c", "OH <NOISE> NO"))
    found, _ = read(corpus(tmp_path, audio))
    assert problems(found) == [("a", "no_speech")]
    assert text in found[0].problem[1]
    assert found[2].text == "OH <NOISE> NO"


@pytest.mark.parametrize("name", ["GigaSpeech.json", "GigaSpeech.json.gz", "other.json", "other.JSON.gz"])
def test_the_corpus_may_be_its_file_packed_or_not(tmp_path, name):
    corpus(tmp_path, recording(POD, segment("a")), recording(YOU, segment("b")), name=name)
    found, _ = read(tmp_path / name)
    assert [one.uri for one in found] == [f"{tmp_path}/{POD}", f"{tmp_path}/{YOU}"]
    assert corpus_roots(f"{tmp_path}/{name}", "gigaspeech") == [str(tmp_path)]
    if name.startswith("Giga"):
        assert read(tmp_path)[0] == found


def test_recordings_of_folders_that_were_not_fetched_are_counted_and_single_ones_stay(tmp_path):
    absent = "audio/podcast/P0001/POD0000000026.opus"
    extra = "audio/youtube/P0007/YOU0000000009.opus"
    audios = [recording(POD, segment("a")), recording(absent, segment("b")), recording(YOU, segment("c"), segment("d"))]
    found, passed_over = read(corpus(tmp_path, *audios, present=[POD]))
    # That the file of b is missing is for whoever opens it.
    assert [one.utterance_id for one in found] == ["a", "b"]
    assert passed_over["unmatched_ids"] == {
        "count": 2,
        "example": f"YOU0000000003: {YOU}",
        "names": {"audio/youtube/P0007": 2},
    }
    _, passed_over = read(corpus(tmp_path, *audios, present=[POD, YOU, extra, "TERMS.txt"]))
    assert passed_over["unlisted_files"] == {"count": 1, "example": extra}
    assert passed_over["other_endings"]["example"] == "TERMS.txt"
    assert "unmatched_ids" not in passed_over


def test_what_cannot_be_used_is_a_problem_that_says_where(tmp_path):
    audios = [
        recording(
            POD,
            segment("late", begin=5, end=5),
            segment("spelt", begin="1.5", end="2.5"),
            segment("nan", begin=float("nan")),
            segment("flag", begin=True),
            segment("huge", begin=1e300, end=1e306),
            segment("labels", text=["a"]),
            segment("subsets", subsets=[1]),
            segment(None),
            "no object",
            segment(7),
        ),
        recording(YOU),
        recording(YOU, segments={"a": 1}),
        {"aid": "x", "segments": []},
        ["no object"],
        recording("https://user:secret@host/a.opus", segment("remote")),
    ]
    found, _ = read(corpus(tmp_path, *audios))
    assert problems(found) == [
        *(("late", "bad_segment"), ("nan", "bad_row"), ("flag", "bad_row"), ("huge", "bad_segment")),
        *(("labels", "bad_row"), ("subsets", "bad_row")),
        *(("POD0000000025.-8", "bad_row"), ("POD0000000025.-9", "bad_row")),
        *((".-audio2", "no_segment"), (".-audio3", "bad_row"), (".-audio4", "bad_row"), (".-audio5", "bad_row")),
        ("remote", "bad_row"),
    ]
    assert [one.utterance_id for one in found if not one.problem] == ["spelt", "7"]
    assert found[0].problem[1].startswith("segment 1 of recording 1 of GigaSpeech.json: ")
    assert "secret" not in str(found)


def test_bytes_that_are_no_text_cost_their_segment(tmp_path):
    corpus(tmp_path, recording(POD, segment("a", "BROKEN"), segment("b")))
    data = (tmp_path / "GigaSpeech.json").read_bytes()
    (tmp_path / "GigaSpeech.json").write_bytes(b"\xef\xbb\xbf" + data.replace(b"BROKEN", b"CAF\xff"))
    found, _ = read(tmp_path)
    assert problems(found) == [("a", "bad_row")]
    assert found[1].text == "HI <COMMA> THERE <PERIOD>"


@pytest.mark.parametrize("cut", [1, 40, 300, 900, -3])
def test_a_cut_file_is_an_error_that_says_where(tmp_path, cut):
    corpus(tmp_path, recording(POD, segment("a"), segment("b"), segment("c")), recording(YOU, segment("d")))
    data = (tmp_path / "GigaSpeech.json").read_bytes()
    (tmp_path / "GigaSpeech.json").write_bytes(data[:cut])
    with pytest.raises(ManifestError, match=r"GigaSpeech\.json cannot be read from character [0-9,]+ on"):
        read(tmp_path)


def test_a_packed_file_that_is_cut_is_an_error(tmp_path):
    corpus(tmp_path, recording(POD, segment("a")), name="GigaSpeech.json.gz")
    data = (tmp_path / "GigaSpeech.json.gz").read_bytes()
    (tmp_path / "GigaSpeech.json.gz").write_bytes(data[:-20])
    with pytest.raises(ManifestError, match=r"GigaSpeech\.json\.gz cannot be read"):
        read(tmp_path)


def test_a_folder_without_its_table_or_without_its_audio_is_one_clear_error(tmp_path):
    with pytest.raises(ManifestError, match=r"there is no file .*absent\.json"):
        read(tmp_path / "absent.json")
    with pytest.raises(ManifestError, match="audio where its paths say"):
        read(corpus(tmp_path, recording(POD, segment("a")), present=[]))
    (tmp_path / "GigaSpeech.json").write_text('{"audios": {}}')
    with pytest.raises(ManifestError, match="no recordings: its object has no array 'audios'"):
        read(tmp_path)
    (tmp_path / "GigaSpeech.json").unlink()
    (tmp_path / "a.wav").touch()
    with pytest.raises(ManifestError, match=r"no GigaSpeech\.json.*use the layout folder"):
        read(tmp_path)


@pytest.mark.parametrize("behind", ['{"audios": []}', "}", "x", "]"])
def test_what_follows_the_object_of_the_file_is_an_error(tmp_path, behind):
    corpus(tmp_path, recording(POD, segment("a")))
    with (tmp_path / "GigaSpeech.json").open("a") as file:
        file.write("\n")
    assert len(read(tmp_path)[0]) == 1
    with (tmp_path / "GigaSpeech.json").open("a") as file:
        file.write(behind)
    with pytest.raises(ManifestError, match=r"GigaSpeech\.json cannot be read .*ends before.* follows"):
        read(tmp_path)


@pytest.mark.parametrize("digits", [4_301, 100_000])
def test_a_number_of_too_many_digits_is_a_clear_error(tmp_path, digits):
    corpus(tmp_path, recording(POD, segment("a", begin="NUMBER")))
    text = (tmp_path / "GigaSpeech.json").read_text()
    (tmp_path / "GigaSpeech.json").write_text(text.replace('"NUMBER"', "1" * digits))
    with pytest.raises(ManifestError, match=r"GigaSpeech\.json cannot be read .*too many digits") as error:
        read(tmp_path)
    assert "set_int_max_str_digits" not in str(error.value)


def test_audio_behind_a_linked_folder_is_named(tmp_path):
    folder = corpus(tmp_path / "c", recording(POD, segment("a")))
    (folder / "audio").rename(tmp_path / "real")
    (folder / "audio").symlink_to(tmp_path / "real")
    with pytest.raises(ManifestError, match="links to folders are not followed: 1, as audio"):
        read(folder)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_an_array_is_the_same_however_the_file_comes_in_pieces(monkeypatch, size):
    monkeypatch.setattr(json_arrays, "_CHUNK", size)
    items = [1, -12.5e3, 1.5e-7, 123456789, 'a\\"]\u00fc\U0001d11e', {"b": [[], {}]}, None, True, []]
    whole = {"n": 12, "deep": {"audios": [0]}, "audios": items, "after": 3.25}
    for form in ({}, {"indent": 1}, {"ensure_ascii": False}):
        file = io.BytesIO(json.dumps(whole, **form).encode())
        assert list(json_arrays.array_elements(file, "audios", "f")) == items


def test_a_value_of_any_length_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(json_arrays, "MAX_ELEMENT", 100_000)
    file = io.BytesIO(b'{"audios": [1, "' + b"x" * 3_000_000)
    elements = json_arrays.array_elements(file, "audios", "f")
    assert next(elements) == 1
    with pytest.raises(ManifestError, match="more than 100,000 characters"):
        next(elements)
    assert file.closed or file.tell() < 1_000_000


@pytest.mark.parametrize("few", [1_000, pytest.param(10_000, marks=[pytest.mark.nightly, pytest.mark.timeout(900)])])
def test_memory_does_not_grow_with_the_number_of_segments(tmp_path, few):
    def peak(count):
        folder = tmp_path / str(count)
        folder.mkdir()
        made = (recording(POD, *(segment(f"{n}_{each}") for each in range(100))) for n in range(count // 100))
        corpus(folder, *made)
        passed_over = PassedOver()
        tracemalloc.start()
        try:
            rows = sum(1 for _ in read_corpus(str(folder), "gigaspeech", passed_over=passed_over))
            return rows, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # What is imported and compiled once is no part of it.
    peak(100)
    (rows, small), (more, large) = peak(few), peak(10 * few)
    assert (rows, more) == (few, 10 * few)
    assert large <= 1.3 * small
