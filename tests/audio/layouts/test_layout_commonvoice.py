"""Common Voice is read table by table: labels as they are written, and clips that no table names are counted."""

import os
import tracemalloc

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

HEADER = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
OLD_HEADER = "client_id path sentence up_votes down_votes age gender accent"


def row(number, sentence="Hallo.", *, locale="de", speaker="c0ffee", path=None):
    cells = {
        "client_id": speaker,
        "path": f"common_voice_{locale}_{number}.mp3" if path is None else path,
        "sentence": sentence,
        "up_votes": "2",
        "down_votes": "0",
        "locale": locale,
    }
    return cells


def table(path, rows, header=HEADER, end="\n", begin=""):
    names = header.split()
    lines = ["\t".join(names), *("\t".join(cells.get(name, "") for name in names) for cells in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((begin + "".join(line + end for line in lines)).encode())


def clips(folder, *names):
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / "clips" / name).touch()


def made(folder, locale="de"):
    """Write a language: eight clips, of which five are in a split."""
    table(folder / "train.tsv", [row(n, f"Satz {n}.", locale=locale) for n in (1, 2, 3)])
    table(folder / "dev.tsv", [row(4, locale=locale)])
    table(folder / "test.tsv", [row(5, locale=locale)])
    table(folder / "validated.tsv", [row(n, locale=locale) for n in range(1, 7)])
    table(folder / "invalidated.tsv", [row(7, locale=locale)])
    table(folder / "other.tsv", [row(8, locale=locale)])
    clips(folder, *(f"common_voice_{locale}_{n}.mp3" for n in range(1, 9)))
    return folder


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "commonvoice", passed_over=passed_over)), passed_over.to_json()


def test_the_three_splits_are_read_and_other_clips_are_counted(tmp_path):
    found, passed_over = read(made(tmp_path / "de"))
    assert [(one.utterance_id, one.split, one.text) for one in found] == [
        ("common_voice_de_4", "dev", "Hallo."),
        ("common_voice_de_5", "test", "Hallo."),
        ("common_voice_de_1", "train", "Satz 1."),
        ("common_voice_de_2", "train", "Satz 2."),
        ("common_voice_de_3", "train", "Satz 3."),
    ]
    assert found[0].uri == f"{tmp_path}/de/clips/common_voice_de_4.mp3"
    assert {(one.speaker, one.language, one.problem) for one in found} == {("c0ffee", "de", None)}
    assert passed_over["unlisted_files"] == {"count": 3, "example": "clips/"}
    assert passed_over["other_endings"] == {"count": 3, "example": "invalidated.tsv", "names": {".tsv": 3}}
    assert passed_over["unread_columns"]["names"]["up_votes"] == 3
    assert set(passed_over) == {"unlisted_files", "other_endings", "unread_columns"}


def test_a_release_of_several_languages_gives_what_each_gives_alone(tmp_path):
    release = tmp_path / "cv-corpus-17.0-2024-03-15"
    german, swiss = read(made(release / "de"))[0], read(made(release / "rm-vallader", "rm-vallader"))[0]
    clips(release / "xx", "alone.mp3")
    found, passed_over = read(release)
    assert found == german + swiss
    assert swiss[0].language == "rm-vallader"
    assert passed_over["unlisted_files"] == {"count": 7, "example": "de/clips/"}


def test_quotes_are_part_of_the_text(tmp_path):
    texts = ['"Ja', 'Er sagte: "Nein."', '""Doppelt""', "l'eau", "null", " Rand "]
    table(tmp_path / "de/train.tsv", [row(n, text) for n, text in enumerate(texts)])
    assert [one.text for one in read(tmp_path / "de")[0]] == texts


@pytest.mark.parametrize(("end", "begin"), [("\r\n", ""), ("\n", "\ufeff"), ("\r\n", "\ufeff")])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path, end, begin):
    table(tmp_path / "de/train.tsv", [row(1), row(2)])
    plain = read(tmp_path / "de")
    table(tmp_path / "de/train.tsv", [row(1), row(2)], end=end, begin=begin)
    assert read(tmp_path / "de") == plain


def test_old_releases_without_endings_and_locale_are_read(tmp_path):
    table(tmp_path / "cy/train.tsv", [row(0, path="f00d" * 32)], header=OLD_HEADER)
    clips(tmp_path / "cy", "f00d" * 32 + ".mp3", "beef.mp3")
    found, passed_over = read(tmp_path / "cy")
    assert [(one.utterance_id, one.language) for one in found] == [("f00d" * 32, "cy")]
    assert found[0].uri == f"{tmp_path}/cy/clips/{'f00d' * 32}.mp3"
    assert passed_over["unlisted_files"]["count"] == 1
    # A folder that is called as no language is none.
    (tmp_path / "cy").rename(tmp_path / "cv-corpus-1")
    found, passed_over = read(tmp_path / "cv-corpus-1")
    assert found[0].language is None
    assert passed_over["without_label"]["names"] == {"language": 1}


def test_a_row_that_cannot_be_used_costs_itself_alone(tmp_path):
    rows = [row(1), row(2, "mit\tTabulator"), row(3, path=""), row(4), row(5, path="a\0.mp3")]
    table(tmp_path / "de/train.tsv", rows)
    with (tmp_path / "de/train.tsv").open("ab") as file:
        file.write(b"kurz\n" + "\t".join(["x"] * 13).encode() + b"\xff\n")
        file.write(b"x\tcommon_voice_de_6.mp3\t\tcaf\xff" + b"\t" * 9 + b"\n")
    found, _ = read(tmp_path / "de")
    assert [one.problem is None for one in found] == [True, False, False, True, False, False, True, False]
    problems = [one.problem for one in found if one.problem]
    assert {reason for reason, _ in problems} == {"bad_row"}
    for (_, detail), said in zip(
        problems,
        (
            "line 3 of train.tsv: 14 fields, but the header has 13",
            "line 4 of train.tsv: no path to the clip",
            "line 6 of train.tsv: utterance_id is not UTF-8 text without control characters",
            "line 7 of train.tsv: 1 fields",
            "line 9 of train.tsv: text is not UTF-8",
        ),
        strict=True,
    ):
        assert detail.startswith(said)
    assert len({one.utterance_id for one in found}) == len(found)


def test_labels_that_are_missing_are_none_and_counted(tmp_path):
    table(tmp_path / "de/train.tsv", [row(1, "", speaker="", locale=""), row(2, speaker="nan")])
    found, passed_over = read(tmp_path / "de")
    assert [(one.text, one.speaker, one.language) for one in found] == [(None, None, "de"), ("Hallo.", None, "de")]
    assert passed_over["without_label"]["names"] == {"speaker": 2, "text": 1}
    assert passed_over["spelt_missing"]["count"] == 1


def test_paths_do_not_leave_the_folder_of_clips_unseen(tmp_path):
    made(tmp_path / "de")
    table(tmp_path / "de/dev.tsv", [row(0, path=path) for path in ("../train.mp3", "http://host/a.mp3", "/etc/a.mp3")])
    found, passed_over = read(tmp_path / "de")
    assert [one.uri.removeprefix(str(tmp_path)) for one in found[:3]] == [
        "/de/train.mp3",
        "/de/clips/http:/host/a.mp3",
        "/de/clips/etc/a.mp3",
    ]
    assert passed_over["unlisted_files"]["count"] == 4


def test_what_else_lies_among_the_clips_is_counted(tmp_path):
    made(tmp_path / "de")
    clips(tmp_path / "de", "._common_voice_de_1.mp3", "list.txt", "b.txt", "c.zip")
    (tmp_path / "de/clips/more").mkdir()
    (tmp_path / "de/clips/more/common_voice_de_9.mp3").touch()
    (tmp_path / "de/linked").symlink_to(tmp_path / "de/clips")
    (tmp_path / "de/dev.tsv").unlink()
    _, passed_over = read(tmp_path / "de")
    assert passed_over["hidden_files"] == {"count": 1, "example": "clips/"}
    assert passed_over["linked_folders"] == {"count": 1, "example": "linked"}
    assert passed_over["other_endings"]["names"] == {".tsv": 3, ".txt": 2, ".zip": 1}
    assert passed_over["unlisted_files"]["count"] == 5


def test_a_corpus_that_is_none_of_common_voice_is_one_clear_error(tmp_path):
    table(tmp_path / "only/validated.tsv", [row(1)])
    with pytest.raises(ManifestError, match=r"no recordings .*no train\.tsv.*other_endings 1 \(\.tsv 1\)"):
        read(tmp_path / "only")
    table(tmp_path / "de/train.tsv", [])
    with pytest.raises(ManifestError, match=r"no recordings: its tables \(train\.tsv\) have no rows"):
        read(tmp_path / "de")
    table(tmp_path / "de/train.tsv", [], header="file text")
    with pytest.raises(ManifestError, match="is no table of Common Voice.*file, text"):
        read(tmp_path / "de")
    table(tmp_path / "de/train.tsv", [], header="path path sentence")
    with pytest.raises(ManifestError, match="names a column twice"):
        read(tmp_path / "de")
    (tmp_path / "de/train.tsv").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"train\.tsv is empty, so it is no table of Common Voice"):
        read(tmp_path / "de")


def test_a_clip_that_two_rows_name_does_not_hide_one_that_none_names(tmp_path):
    table(tmp_path / "de/train.tsv", [row(1), row(1), row(3)])
    clips(tmp_path / "de", "common_voice_de_1.mp3", "common_voice_de_2.mp3")
    _, passed_over = read(tmp_path / "de")
    assert passed_over["unlisted_files"] == {"count": 1, "example": "clips/"}


def test_recordings_elsewhere_and_linked_folders_among_the_clips_are_counted_as_such(tmp_path):
    made(tmp_path / "de")
    (tmp_path / "de/more.mp3").touch()
    (tmp_path / "de/._more.mp3").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.mp3").touch()
    (tmp_path / "de/clips/linked").symlink_to(tmp_path / "real")
    _, passed_over = read(tmp_path / "de")
    assert passed_over["unlisted_files"] == {"count": 4, "example": "more.mp3"}
    assert passed_over["linked_folders"] == {"count": 1, "example": "clips/"}
    assert passed_over["hidden_files"]["count"] == 1
    assert passed_over["other_endings"]["names"] == {".tsv": 3}


def test_an_empty_split_of_a_small_language_is_no_error(tmp_path):
    table(tmp_path / "ab/train.tsv", [row(1, locale="ab")])
    table(tmp_path / "ab/dev.tsv", [], header=HEADER)
    assert len(read(tmp_path / "ab")[0]) == 1


@pytest.mark.parametrize("rows", [1_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_memory_grows_by_one_number_for_each_row_and_not_with_the_clips(tmp_path, rows):
    def peak(count):
        folder = tmp_path / f"{count}/de"
        folder.mkdir(parents=True)
        with (folder / "train.tsv").open("w") as file:
            file.write("\t".join(HEADER.split()) + "\n")
            for n in range(count):
                file.write(f"{'c0ffee' * 20}\tcommon_voice_de_{n}.mp3\t\tEin Satz {n}.{chr(9) * 8}de\t\n")
        (folder / "clips").mkdir()
        for n in range(0, count, 10):
            os.close(os.open(folder / f"clips/common_voice_de_{n}.mp3", os.O_CREAT | os.O_WRONLY))
        (folder / "clips/more.mp3").touch()
        passed_over = PassedOver()
        tracemalloc.start()
        try:
            corpus = read_corpus(str(folder), "commonvoice", passed_over=passed_over)
            read_well = sum(one.problem is None for one in corpus)
            used = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read_well == count
        assert passed_over.to_json()["unlisted_files"]["count"] == 1
        return used

    peak(10)
    # A hash of 8 bytes, and the spare room of an array.
    assert peak(10 * rows) - peak(rows) <= 12 * 9 * rows


def test_labels_are_those_that_lhotse_reads(tmp_path):
    recipe = pytest.importorskip("lhotse.recipes.commonvoice")
    made(tmp_path / "cv/de")
    table(tmp_path / "cv/de/train.tsv", [row(n, f'Satz "{n}.') for n in (1, 2, 3)])
    for path in (tmp_path / "cv/de/clips").iterdir():
        sf.write(path, np.zeros(4_800), 16_000, format="MP3")
    # It starts processes for each split.
    theirs = recipe.prepare_commonvoice(tmp_path / "cv", tmp_path / "out", languages="de", splits=["train"])["de"]
    expected = {
        (one.id, one.text, one.speaker, one.language, split)
        for split, part in theirs.items()
        for one in part["supervisions"]
    }
    found = [one for one in read(tmp_path / "cv")[0] if one.split == "train"]
    assert {(one.utterance_id, one.text, one.speaker, one.language, one.split) for one in found} == expected
    assert len(expected) == 3
