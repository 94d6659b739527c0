"""The layout mls: tables of millions of rows that name their recordings, a folder for each language."""

import tracemalloc

import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.audio.lines import MAX_LINE
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def made(folder, language="polish", split="dev", ending=".flac", rows=(), audio=()):
    part = folder / f"mls_{language}" / split
    part.mkdir(parents=True, exist_ok=True)
    (part / "transcripts.txt").write_bytes(b"".join(row.encode() if isinstance(row, str) else row for row in rows))
    for name in audio:
        speaker, book, _ = name.split("_")
        (part / "audio" / speaker / book).mkdir(parents=True, exist_ok=True)
        (part / "audio" / speaker / book / f"{name}{ending}").touch()
    return folder / f"mls_{language}"


def read(corpus):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), "mls", passed_over=passed_over))
    return found, passed_over.to_json()


def labels(found):
    return [(one.utterance_id, one.text, one.speaker, one.language, one.split) for one in found]


def test_rows_name_their_recordings_in_the_order_of_the_table(tmp_path):
    rows = ["8758_8338_000001\tgdy si\u0119 obudzi\u0142\n", "8758_8338_000000\tdrugi\n", "10_7_000000\ttrzeci\n"]
    corpus = made(tmp_path, rows=rows, audio=["8758_8338_000000", "8758_8338_000001", "10_7_000000"])
    found, passed_over = read(corpus)
    assert labels(found) == [
        ("8758_8338_000001", "gdy si\u0119 obudzi\u0142", "8758", "pl", "dev"),
        ("8758_8338_000000", "drugi", "8758", "pl", "dev"),
        ("10_7_000000", "trzeci", "10", "pl", "dev"),
    ]
    assert found[0].uri == f"{corpus}/dev/audio/8758/8338/8758_8338_000001.flac"
    assert {one.problem for one in found} == {None}
    assert passed_over == {}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        *(("dutch", "nl"), ("english", "en"), ("french", "fr"), ("german", "de")),
        *(("italian", "it"), ("polish_opus", "pl"), ("portuguese", "pt"), ("spanish", "es")),
    ],
)
def test_the_language_is_that_of_the_folder(tmp_path, language, code):
    ending = ".opus" if "opus" in language else ".flac"
    made(tmp_path, language, "test", ending, ["1_2_000000\tword\n", "1_2_000001\tword\n"], ["1_2_000000"])
    for corpus in (tmp_path, tmp_path / f"mls_{language}", tmp_path / f"mls_{language}/test"):
        found, _ = read(corpus)
        assert [(one.language, one.split, one.uri) for one in found] == [
            (code, "test", f"{tmp_path}/mls_{language}/test/audio/1/2/1_2_00000{number}{ending}") for number in (0, 1)
        ]


def test_several_languages_and_splits_are_one_corpus_in_a_fixed_order(tmp_path):
    for language in ("spanish", "dutch"):
        for split in ("train", "dev", "test"):
            name = f"{len(language)}_{len(split)}_{ord(split[0]):06d}"
            made(tmp_path, language, split, rows=[f"{name}\tword\n"], audio=[name])
    found, passed_over = read(tmp_path)
    assert [(one.language, one.split) for one in found] == [
        (language, split) for language in ("nl", "es") for split in ("dev", "test", "train")
    ]
    assert passed_over == {}


def test_a_folder_of_another_name_has_no_language_and_that_is_counted(tmp_path):
    made(tmp_path, rows=["1_2_000000\tword\n"], audio=["1_2_000000"]).rename(tmp_path / "mine")
    (one,), passed_over = read(tmp_path / "mine")
    assert (one.language, one.speaker, one.split) == (None, "1", "dev")
    assert passed_over == {
        "without_label": {"count": 1, "example": "dev/audio/1/2/1_2_000000.flac", "names": {"language": 1}}
    }


def test_recordings_that_no_row_names_are_counted_also_of_books_that_no_row_names(tmp_path):
    rows = ["1_2_000000\ta\n", "1_2_000000\ttwice\n", "3_4_000000\tb\n", "1_2_000003\tc\n"]
    audio = ["1_2_000000", "1_2_000001", "1_2_000003", "3_4_000000", "5_6_000000", "5_6_000001"]
    found, passed_over = read(made(tmp_path, rows=rows, audio=audio))
    assert len(found) == 4
    assert passed_over == {"unlisted_files": {"count": 3, "example": "dev/audio/1/2/1_2_000001.flac"}}


def test_a_book_that_no_row_names_is_an_example(tmp_path):
    made(tmp_path, rows=["3_4_000000\ta\n"], audio=["1_2_000000", "3_4_000000", "5_6_000000"])
    assert read(tmp_path)[1] == {"unlisted_files": {"count": 2, "example": "mls_polish/dev/audio/1/2/1_2_000000.flac"}}
    (tmp_path / "mls_polish/dev/audio/1/2/1_2_000000.flac").unlink()
    assert read(tmp_path)[1] == {"unlisted_files": {"count": 1, "example": "mls_polish/dev/audio/5/6/5_6_000000.flac"}}


def test_a_recording_that_two_rows_name_does_not_hide_one_that_none_names(tmp_path):
    rows = ["1_2_000000\ta\n", "1_2_000000\tagain\n"]
    found, passed_over = read(made(tmp_path, rows=rows, audio=["1_2_000000", "1_2_000001"]))
    assert len(found) == 2
    assert passed_over == {"unlisted_files": {"count": 1, "example": "dev/audio/1/2/1_2_000001.flac"}}


def test_a_book_behind_a_link_does_not_hide_a_recording_that_no_row_names(tmp_path):
    rows = ["1_2_000000\ta\n", "1_3_000000\tb\n"]
    corpus = made(tmp_path, rows=rows, audio=["1_2_000000", "1_2_000001", "1_3_000000"])
    (corpus / "dev/audio/1/3").rename(tmp_path / "book")
    (corpus / "dev/audio/1/3").symlink_to(tmp_path / "book")
    _, passed_over = read(corpus)
    assert passed_over["unlisted_files"] == {"count": 1, "example": "dev/audio/1/2/1_2_000001.flac"}
    assert passed_over["linked_folders"] == {"count": 1, "example": "dev/audio/1/3"}


def test_a_row_without_a_recording_keeps_its_place(tmp_path):
    found, passed_over = read(made(tmp_path, rows=["1_2_000000\ta\n", "9_9_000000\tb\n"], audio=["1_2_000000"]))
    assert [one.uri.rpartition("audio")[2] for one in found] == ["/1/2/1_2_000000.flac", "/9/9/9_9_000000.flac"]
    assert passed_over == {}


def test_an_empty_text_is_counted(tmp_path):
    found, passed_over = read(made(tmp_path, rows=["1_2_000000\t\n", "1_2_000001\n"], audio=["1_2_000000"]))
    assert [one.text for one in found] == [None, None]
    assert passed_over["without_label"]["names"] == {"text": 2}


def test_other_files_of_the_corpus_are_counted(tmp_path):
    corpus = made(tmp_path, split="train", rows=["1_2_000000\ta\n"], audio=["1_2_000000"])
    for name in ("metainfo.txt", "train/segments.txt", "train/limited_supervision/9hr/handles.txt"):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_text("SPEAKER | GENDER\n")
    _, passed_over = read(corpus)
    assert passed_over == {"other_endings": {"count": 3, "example": "metainfo.txt", "names": {".txt": 3}}}


def test_both_packings_of_a_language_are_found_and_one_file_is_read_for_each_row_of_a_table(tmp_path):
    made(tmp_path, "polish", rows=["1_2_000000\ta\n"], audio=["1_2_000000"])
    made(tmp_path, "polish_opus", ending=".opus", rows=["1_2_000000\ta\n"], audio=["1_2_000000"])
    made(tmp_path, "polish_opus", ending=".wav", rows=["1_2_000000\ta\n"], audio=["1_2_000000"])
    found, passed_over = read(tmp_path)
    assert [one.uri.rpartition("/")[2] for one in found] == ["1_2_000000.flac", "1_2_000000.opus"]
    assert passed_over["unlisted_files"] == {"count": 1, "example": "mls_polish_opus/dev/audio/1/2/1_2_000000.wav"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"HEADER\ttext\n", "speaker_book_number, got 'HEADER'"),
        (b"../../1_2_3\ttext\n", "speaker_book_number"),
        (b"s3://KEY:SECRET@bucket/x\ttext\n", "speaker_book_number"),
        (b"1_2_000001\tcaf\xe9\n", "text is not UTF-8"),
        (b"1_2_000001\t" + b"x" * MAX_LINE + b"\n", "more than 4,194,304 characters"),
    ],
)
def test_a_row_that_cannot_be_used_is_a_problem_with_its_line_and_the_rest_is_read(tmp_path, row, words):
    rows = ["1_2_000000\ta\r\n", "\r\n", row, "1_2_000002  b c\r\n"]
    found, _ = read(made(tmp_path, rows=rows, audio=["1_2_000000", "1_2_000002"]))
    assert [(one.text, one.problem is None) for one in found] == [("a", True), (None, False), ("b c", True)]
    reason, detail = found[1].problem
    assert reason == "bad_row"
    assert f"line 3 of {tmp_path}/mls_polish/dev/transcripts.txt" in detail
    assert words in detail
    assert "SECRET" not in f"{found[1]}"


def test_bad_rows_of_two_tables_have_names_of_their_own(tmp_path):
    for split in ("dev", "test"):
        made(tmp_path, split=split, rows=["bad\n", "worse\n", "1_2_000000\ta\n"], audio=["1_2_000000"])
    found, _ = read(tmp_path)
    assert len({one.utterance_id for one in found if one.problem}) == 4


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("mls_polish/dev/audio/1/2/1_2_000000.flac", "not in the layout mls; use the layout folder"),
        ("mls_polish/dev/audio/1_2_000.tar.gz", r"no recordings and no .*transcripts\.txt.*\.gz 1"),
    ],
)
def test_a_corpus_without_a_table_is_one_clear_error(tmp_path, below, words):
    (tmp_path / below).parent.mkdir(parents=True)
    (tmp_path / below).touch()
    with pytest.raises(ManifestError, match=words):
        read(tmp_path)


@pytest.mark.parametrize("row", ["1_2_000000\ta\n", "no id\n", ""])
def test_tables_whose_recordings_are_still_packed_are_one_clear_error(tmp_path, row):
    corpus = made(tmp_path, rows=[row])
    (corpus / "dev/audio").mkdir()
    (corpus / "dev/audio/1_2_000.tar.gz").touch()
    with pytest.raises(ManifestError, match=r"no recordings that its transcripts\.txt name.*\.gz 1"):
        read(corpus)


def peak(corpus):
    """How many rows are read, and the most memory that it takes."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_corpus(str(corpus), "mls", passed_over=PassedOver()))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("few", "many"), [(1_000, 10_000), pytest.param(10_000, 100_000, marks=pytest.mark.nightly)])
def test_memory_grows_by_one_number_for_each_row(tmp_path, few, many):
    def corpus(name, count, per_book=500, per_speaker=5_000):
        ids = [f"{1 + row // per_speaker}_{row // per_book}_{row % per_book:06d}" for row in range(count)]
        rows = (f"{row}\tsome words that were read aloud, {row}\n" for row in ids)
        return made(tmp_path / name, rows=rows, audio=ids[::per_book])

    small, large = corpus("few", few), corpus("many", many)
    read(corpus("warm", 1))
    counts, peaks = zip(peak(small), peak(large), strict=True)
    assert counts == (few, many)
    # A hash of 8 bytes, and the spare room of an array.
    assert peaks[1] - peaks[0] <= 12 * (many - few), peaks


def test_lhotse_reads_the_same_texts(tmp_path):
    pytest.importorskip("lhotse")
    from lhotse.recipes.mls import prepare_mls

    for split in ("dev", "test", "train"):
        name = f"1_2_{ord(split[0]):06d}"
        corpus = made(tmp_path, split=split, rows=[f"{name}\tjeden\n"], audio=[name])
        soundfile.write(corpus / split / "audio/1/2" / f"{name}.flac", [0.0] * 1600, 16000)
    (corpus / "metainfo.txt").write_text(" SPEAKER | GENDER | PARTITION\n 1 | F | dev\n")
    theirs = prepare_mls(tmp_path, opus=False)["polish"]
    found, _ = read(tmp_path)
    assert {(one.utterance_id, one.text, one.speaker, one.split) for one in found} == {
        (one.id, one.text, one.speaker, split) for split, part in theirs.items() for one in part["supervisions"]
    }
