"""The layout ljspeech: a table between bars beside a folder of recordings, as its own README has it."""

import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.audio.lines import MAX_LINE
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def made(folder, table, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "metadata.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return str(folder)


def read(corpus):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), "ljspeech", passed_over=passed_over))
    return found, passed_over.to_json()


def test_the_text_is_the_spoken_one_and_that_as_written_where_there_is_no_other(tmp_path):
    rows = [
        "LJ001-0001|In 1465, Dr. Sweynheim|In fourteen sixty-five, Doctor Sweynheim",
        "LJ001-0002|has no third field",
        "LJ001-0003|has an empty one|",
        "LJ001-0004| |  ",
    ]
    corpus = made(tmp_path, "\n".join(rows), *(f"wavs/LJ001-000{number}.wav" for number in (1, 2, 3, 4)))
    found, passed_over = read(corpus)
    assert [one.utterance_id for one in found] == [row.split("|")[0] for row in rows]
    assert [one.text for one in found] == [
        "In fourteen sixty-five, Doctor Sweynheim",
        "has no third field",
        "has an empty one",
        None,
    ]
    assert [one.uri for one in found] == [f"{corpus}/wavs/LJ001-000{number}.wav" for number in (1, 2, 3, 4)]
    assert {one.problem for one in found} == {None}
    assert passed_over == {
        "unread_columns": {"count": 1, "example": "metadata.csv", "names": {"text before normalisation": 1}},
        "without_label": {"count": 1, "example": "wavs/LJ001-0004.wav", "names": {"text": 1}},
    }


def test_quotes_are_part_of_the_text(tmp_path):
    rows = ['a|"begins and never ends|"begins and never ends', 'b|she said "no"|she said "no"', 'c|"""|"""']
    found, passed_over = read(made(tmp_path, "\n".join(rows), "wavs/a.wav", "wavs/b.wav", "wavs/c.wav"))
    assert [one.text for one in found] == ['"begins and never ends', 'she said "no"', '"""']
    assert passed_over == {}


def test_a_byte_order_mark_and_line_ends_of_other_systems_change_nothing(tmp_path):
    table = "a|eins, zwei|eins, zwei\r\nb|gr\u00fcn|gr\u00fcn\r\n\r\n"
    found, _ = read(made(tmp_path, b"\xef\xbb\xbf" + table.encode(), "wavs/a.wav", "wavs/b.wav"))
    assert [(one.utterance_id, one.text) for one in found] == [("a", "eins, zwei"), ("b", "gr\u00fcn")]


def test_speaker_and_language_are_known_of_ids_of_lj_alone(tmp_path):
    found, _ = read(made(tmp_path, "LJ050-0278|one|one\nneutral_1|eins|eins\nLJ050-02780|two|two\n", "wavs/x.wav"))
    assert [(one.speaker, one.language, one.split) for one in found] == [("LJ", "en", None), *[(None, None, None)] * 2]


def test_recordings_without_a_row_are_counted_and_a_row_without_a_recording_keeps_its_place(tmp_path):
    corpus = made(
        tmp_path,
        "b|two|two\na|one|one\n",
        "wavs/a.wav",
        "wavs/c.wav",
        "wavs/d.wav",
        "extra/a.wav",
        "README",
        "wavs/a.npy",
    )
    found, passed_over = read(corpus)
    assert [(one.utterance_id, one.uri, one.problem) for one in found] == [
        ("b", f"{corpus}/wavs/b.wav", None),
        ("a", f"{corpus}/wavs/a.wav", None),
    ]
    assert passed_over == {
        "other_endings": {"count": 2, "example": "README", "names": {".npy": 1, "none": 1}},
        "unlisted_files": {"count": 3, "example": "extra/a.wav"},
    }


def test_recordings_may_have_been_packed_and_ids_may_have_the_ending(tmp_path):
    names = ("wavs/a.flac", "wavs/b.flac", "wavs/b.wav", "wavs/b.webm", "wavs/c.wav", "wavs/deep/d.opus")
    corpus = made(tmp_path, "a|one\nb|two\nc.wav|three\ndeep/d|four\n", *names)
    found, passed_over = read(corpus)
    assert [(one.utterance_id, one.uri) for one in found] == [
        ("a", f"{corpus}/wavs/a.flac"),
        ("b", f"{corpus}/wavs/b.wav"),
        ("c", f"{corpus}/wavs/c.wav"),
        ("deep._d", f"{corpus}/wavs/deep/d.opus"),
    ]
    assert passed_over == {"unlisted_files": {"count": 2, "example": "wavs/b.flac"}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"alone", "1 fields between bars"),
        (b"a|one|one|speaker", "4 fields between bars"),
        (b"|one|one", "no id"),
        (b"a|caf\xe9|caf\xe9", "text is not UTF-8"),
        (b"a|nul\0|nul\0", "text is not UTF-8"),
        (b"s3://KEY:SECRET@bucket/a|one|one", "credentials"),
        (b"a|" + b"x" * MAX_LINE + b"|SECRET", "more than 4,194,304 characters"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem_with_its_line_and_the_rest_is_read(tmp_path, row, words):
    found, _ = read(made(tmp_path, b"x|one|one\n\n" + row + b"\ny|two|two\n", "wavs/x.wav", "wavs/y.wav", "wavs/a.wav"))
    assert [one.problem is None for one in found] == [True, False, True]
    reason, detail = found[1].problem
    assert reason == "bad_row"
    assert "line 3 of" in detail
    assert words in detail
    assert "SECRET" not in f"{found[1]}"


def test_a_row_that_leads_out_of_the_corpus_names_a_file_out_of_the_corpus(tmp_path):
    corpus = made(tmp_path / "corpus", "../../secret|one\n", "wavs/a.wav")
    (one,), _ = read(corpus)
    assert one.uri == f"{tmp_path}/secret.wav"


@pytest.mark.parametrize(
    ("table", "names", "words"),
    [
        (None, ["wavs/a.wav"], r"no metadata\.csv.*layout ljspeech; use the layout folder"),
        (None, ["a.pdf"], r"no recordings and no metadata\.csv.*\.pdf 1"),
        ("a|one\n", ["wavs/a.m4p", "b.wav"], r"no recordings in wavs/.*\.m4p 1"),
        ("\n", ["wavs/a.wav"], r"metadata\.csv has no rows"),
    ],
)
def test_a_corpus_of_another_form_is_one_clear_error(tmp_path, table, names, words):
    made(tmp_path, table or "", *names)
    if table is None:
        (tmp_path / "metadata.csv").unlink()
    with pytest.raises(ManifestError, match=words):
        read(tmp_path)


def test_lhotse_reads_the_same_texts(tmp_path):
    recipes = pytest.importorskip("lhotse.recipes")
    corpus = made(tmp_path, 'LJ001-0001|No. 1 "x|number one "x\nLJ001-0002|two|two\n', "wavs/a.wav")
    for name in ("LJ001-0001", "LJ001-0002"):
        soundfile.write(f"{corpus}/wavs/{name}.wav", [0.0] * 2205, 22050)
    theirs = {one.id: one.custom["normalized_text"] for one in recipes.prepare_ljspeech(corpus)["supervisions"]}
    found, _ = read(corpus)
    assert {one.utterance_id: one.text for one in found} == theirs
