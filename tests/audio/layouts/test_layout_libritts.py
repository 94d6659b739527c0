"""The layout libritts: chapters with a table of texts and a file for each, as the corpus is packed."""

import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.audio.layouts import libritts
from pipeline.audio.lines import MAX_LINE
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

CHAPTER = "84/121123"
IDS = ("84_121123_000007_000001", "84_121123_000008_000000")
TABLE = f'{IDS[0]}\tNo. 1.\tNumber one.\n{IDS[1]}\t"Yes, sir," he said.\t"Yes, sir," he said.\n'


def write(folder, name, content=b""):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def made(folder, part="dev-clean", table=TABLE, ids=IDS):
    for name in ids:
        write(folder, f"{part}/{CHAPTER}/{name}.wav")
        write(folder, f"{part}/{CHAPTER}/{name}.normalized.txt", f"file of {name}")
        write(folder, f"{part}/{CHAPTER}/{name}.original.txt", "as written")
    if table is not None:
        write(folder, f"{part}/{CHAPTER}/84_121123.trans.tsv", table)
    write(folder, f"{part}/{CHAPTER}/84_121123.book.tsv", "".join(f"{name}\ttext\t0.1\t20.5\n" for name in ids))
    return str(folder)


def read(corpus):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), "libritts", passed_over=passed_over))
    return found, passed_over.to_json()


def test_the_text_is_the_spoken_one_and_all_that_is_not_read_is_counted_by_its_whole_ending(tmp_path):
    corpus = made(tmp_path)
    write(tmp_path, "SPEAKERS.txt")
    found, passed_over = read(corpus)
    assert [(one.utterance_id, one.text, one.speaker, one.split, one.language, one.problem) for one in found] == [
        (IDS[0], "Number one.", "84", "dev-clean", "en", None),
        (IDS[1], '"Yes, sir," he said.', "84", "dev-clean", "en", None),
    ]
    names = {".book.tsv": 1, ".original.txt": 2, ".txt": 1}
    assert passed_over == {"other_endings": {"count": 4, "example": "SPEAKERS.txt", "names": names}}


def test_a_set_alone_and_a_folder_above_give_the_same_utterances(tmp_path):
    made(tmp_path / "LibriTTS_R", "train-clean-100")
    whole, _ = read(tmp_path)
    assert whole == read(tmp_path / "LibriTTS_R")[0] == read(tmp_path / "LibriTTS_R/train-clean-100")[0]
    assert {one.split for one in whole} == {"train-clean-100"}


@pytest.mark.parametrize(("name", "part"), [("train-other-500", "train-other-500"), ("tts", None), ("training", None)])
def test_the_folder_of_the_corpus_is_a_split_only_where_it_is_a_set(tmp_path, name, part):
    made(tmp_path, name)
    found, passed_over = read(tmp_path / name)
    assert {one.split for one in found} == {part}
    missed = {"count": 2, "example": f"{CHAPTER}/{IDS[0]}.wav", "names": {"split": 2}}
    assert passed_over.get("without_label") == (None if part else missed)
    assert {one.split for one in read(tmp_path)[0]} == {name}


def test_an_id_that_comes_twice_in_a_table_has_its_first_text(tmp_path):
    table = f"{IDS[0]}\ta\tfirst\n{IDS[0]}\tb\tsecond\n{IDS[1]}\tc\tthird\n{IDS[1]}\td\t{'x' * MAX_LINE}\n"
    found, passed_over = read(made(tmp_path, table=table))
    assert [(one.text, one.problem) for one in found] == [("first", None), ("third", None)]
    example = f"line 2 of dev-clean/{CHAPTER}/84_121123.trans.tsv"
    assert passed_over["unread_lines"] == {"count": 2, "example": example, "names": {"id twice": 2}}


def test_a_table_that_cannot_be_read_is_one_clear_error(tmp_path):
    made(tmp_path, table=None)
    write(tmp_path, f"dev-clean/{CHAPTER}/84_121123.trans.tsv/x")
    with pytest.raises(ManifestError, match=r"84_121123\.trans\.tsv cannot be read: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("table", [None, "", f"{IDS[0]}\tNo. 1.\t\n"])
def test_texts_come_from_the_files_where_the_table_has_none(tmp_path, table):
    found, passed_over = read(made(tmp_path, table=table))
    assert [one.text for one in found] == [f"file of {name}" for name in IDS]
    assert set(passed_over) == {"other_endings"}


def test_an_utterance_with_an_empty_text_or_none_is_read_and_counted(tmp_path):
    corpus = made(tmp_path, table=None)
    write(tmp_path, f"dev-clean/{CHAPTER}/{IDS[0]}.normalized.txt", " \n")
    (tmp_path / f"dev-clean/{CHAPTER}/{IDS[1]}.normalized.txt").unlink()
    found, passed_over = read(corpus)
    assert [(one.utterance_id, one.text, one.problem) for one in found] == [(name, None, None) for name in IDS]
    example = f"dev-clean/{CHAPTER}/{IDS[0]}.wav"
    assert passed_over["without_label"] == {"count": 2, "example": example, "names": {"text": 2}}


def test_texts_without_a_recording_are_counted_once_also_in_the_last_chapter(tmp_path):
    corpus = made(tmp_path)
    for part, name in (("dev-clean", IDS[0]), ("test-clean", IDS[1])):
        made(tmp_path, part)
        (tmp_path / f"{part}/{CHAPTER}/{name}.wav").unlink()
    write(tmp_path, f"test-clean/{CHAPTER}/84_121123_000009_000000.normalized.txt", "in no table")
    found, passed_over = read(corpus)
    assert [(one.split, one.utterance_id) for one in found] == [("dev-clean", IDS[1]), ("test-clean", IDS[0])]
    assert passed_over["unmatched_ids"] == {
        "count": 3,
        "example": f"{IDS[0]} of dev-clean/{CHAPTER}",
        "names": {"text": 3},
    }


def test_resource_forks_are_hidden_files_and_no_recordings(tmp_path):
    corpus = made(tmp_path)
    for name in (f"._{IDS[0]}.wav", f"._{IDS[0]}.normalized.txt", "._84_121123.trans.tsv", f"._{IDS[0]}.original.txt"):
        write(tmp_path, f"dev-clean/{CHAPTER}/{name}", b"\0\5\x16\7")
    found, passed_over = read(corpus)
    assert [one.utterance_id for one in found] == list(IDS)
    assert passed_over["hidden_files"]["count"] == 4
    assert set(passed_over) == {"hidden_files", "other_endings"}


def test_a_recording_that_was_packed_comes_before_its_text_and_has_it(tmp_path):
    corpus = made(tmp_path, table=None)
    for name in IDS:
        path = tmp_path / f"dev-clean/{CHAPTER}/{name}.wav"
        path.rename(path.with_suffix(".flac"))
    found, passed_over = read(corpus)
    assert [one.text for one in found] == [f"file of {name}" for name in IDS]
    assert set(passed_over) == {"other_endings"}


def test_a_line_with_other_fields_is_counted_and_the_file_says_the_text(tmp_path):
    found, passed_over = read(made(tmp_path, table=f"{IDS[0]}\tNumber one.\n{IDS[1]}\tone\ttwo\tthree\n"))
    assert [one.text for one in found] == [f"file of {name}" for name in IDS]
    assert passed_over["unread_lines"] == {
        "count": 2,
        "example": f"line 1 of dev-clean/{CHAPTER}/84_121123.trans.tsv",
        "names": {"2 fields": 1, "4 fields": 1},
    }


@pytest.mark.parametrize("text", [b"caf\xe9", b"x" * MAX_LINE, b"nul\0"])
def test_a_text_of_the_table_that_cannot_be_used_is_a_problem_of_its_utterance(tmp_path, text):
    found, _ = read(made(tmp_path, table=f"{IDS[0]}\ta\t".encode() + text + f"\n{IDS[1]}\tb\tb\n".encode()))
    assert [one.problem is None for one in found] == [False, True]
    assert found[0].problem[0] == "bad_row"
    assert f"{IDS[0]} in {tmp_path}/dev-clean/{CHAPTER}/84_121123.trans.tsv" in found[0].problem[1]


def test_a_file_that_is_not_utf8_is_a_problem_of_its_utterance(tmp_path):
    made(tmp_path, table=None)
    write(tmp_path, f"dev-clean/{CHAPTER}/{IDS[1]}.normalized.txt", b"caf\xe9")
    found, _ = read(tmp_path)
    assert [one.problem is None for one in found] == [True, False]
    assert f"{IDS[1]}.normalized.txt: it is not UTF-8" in found[1].problem[1]


def test_recordings_of_other_names_or_places_are_kept_without_labels(tmp_path):
    corpus = made(tmp_path)
    write(tmp_path, f"dev-clean/{CHAPTER}/84_121124_000007_000001.wav")
    write(tmp_path, "dev-clean/85/121123/84_121123_000001_000000.wav")
    found, passed_over = read(corpus)
    assert [one.speaker for one in found] == ["84", "84", None, None]
    assert passed_over["unfit_names"]["count"] == 2


def test_a_table_is_read_once_for_a_chapter(tmp_path, monkeypatch):
    reads = []
    whole = libritts._Chapters._read_table
    monkeypatch.setattr(libritts._Chapters, "_read_table", lambda self: reads.append(self._folder) or whole(self))
    made(tmp_path, "test-clean")
    read(made(tmp_path))
    assert reads == [f"dev-clean/{CHAPTER}", f"test-clean/{CHAPTER}"]


def test_librispeech_is_another_layout(tmp_path):
    write(tmp_path, "dev-clean/84/121123/84-121123-0000.flac")
    with pytest.raises(ManifestError, match="layout libritts; use the layout folder"):
        read(tmp_path)


def test_lhotse_reads_the_same_texts(tmp_path):
    recipes = pytest.importorskip("lhotse.recipes")
    made(tmp_path)
    for name in IDS:
        soundfile.write(tmp_path / f"dev-clean/{CHAPTER}/{name}.wav", [0.0] * 2400, 24000)
    theirs = recipes.prepare_libritts(tmp_path, "dev-clean")["dev-clean"]["supervisions"]
    found, _ = read(tmp_path)
    assert {(one.utterance_id, one.text, one.speaker) for one in found} == {
        (one.id, one.text, one.speaker) for one in theirs
    }
