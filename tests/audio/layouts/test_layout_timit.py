"""TIMIT is read with its texts, speakers and parts from any of its editions, under the same ids."""

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

SPOKEN = {
    "TRAIN/DR1/FCJF0/SA1": "She had your dark suit in greasy wash water all year.",
    "TRAIN/DR1/FCJF0/SI1027": "Even then, if she took one step forward he could catch her.",
    "TRAIN/DR1/MDAC0/SA1": "She had your dark suit in greasy wash water all year.",
    "TEST/DR1/FELC0/SX36": "Where were you while we were away?",
    "TEST/DR8/MAJC0/SX115": "The emperor had a mean temper.",
}


def made(folder, *, lower=False, audio=".WAV"):
    """Write a corpus by the rules of its documentation; empty files stand for recordings."""
    for name, text in SPOKEN.items():
        for ending, content in {
            audio: "",
            ".TXT": f"0 46797 {text} \n",
            ".WRD": "3050 5723 she\n",
            ".PHN": "0 3050 h#\n",
        }.items():
            path = folder / (f"{name}{ending}".lower() if lower else f"{name}{ending}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return folder


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "timit", passed_over=passed_over)), passed_over.to_json()


def told(found):
    return [(one.utterance_id, one.text, one.speaker, one.language, one.split) for one in found]


def test_texts_speakers_and_parts_are_those_of_the_corpus(tmp_path):
    found, passed_over = read(made(tmp_path / "data"))
    assert told(found) == [
        ("DR1._FELC0._SX36", "Where were you while we were away?", "FELC0", "en", "test"),
        ("DR8._MAJC0._SX115", "The emperor had a mean temper.", "MAJC0", "en", "test"),
        ("DR1._FCJF0._SA1", SPOKEN["TRAIN/DR1/FCJF0/SA1"], "FCJF0", "en", "train"),
        ("DR1._FCJF0._SI1027", SPOKEN["TRAIN/DR1/FCJF0/SI1027"], "FCJF0", "en", "train"),
        ("DR1._MDAC0._SA1", SPOKEN["TRAIN/DR1/MDAC0/SA1"], "MDAC0", "en", "train"),
    ]
    assert passed_over == {}


def test_all_editions_and_parts_of_the_corpus_give_the_same_labels(tmp_path):
    upper = told(read(made(tmp_path / "kaggle/data"))[0])
    assert told(read(tmp_path / "kaggle")[0]) == upper
    assert told(read(made(tmp_path / "ldc/timit", lower=True))[0]) == upper
    assert told(read(tmp_path / "ldc")[0]) == upper
    assert told(read(tmp_path / "ldc/timit/train")[0]) == upper[2:]
    assert told(read(tmp_path / "kaggle/data/TRAIN/DR1/FCJF0")[0]) == upper[2:4]
    assert told(read(made(tmp_path / "copies", audio=".WAV.wav"))[0]) == upper


def test_copies_are_counted_where_the_original_is_there(tmp_path):
    made(tmp_path)
    made(tmp_path, audio=".WAV.wav")
    (tmp_path / "TRAIN/DR1/FCJF0/SI1027.WAV").unlink()
    found, passed_over = read(tmp_path)
    files = [one.uri.rpartition("/")[2] for one in found]
    assert files == ["SX36.WAV", "SX115.WAV", "SA1.WAV", "SI1027.WAV.wav", "SA1.WAV"]
    assert [one.text for one in found] == [text for _, text in sorted(SPOKEN.items())]
    assert passed_over == {
        "other_endings": {"count": 4, "example": "TEST/DR1/FELC0/SX36.WAV.wav", "names": {".wav.wav": 4}}
    }


def test_what_has_no_recording_no_text_or_no_place_is_counted(tmp_path):
    made(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SA1.WAV").unlink()
    (tmp_path / "TRAIN/DR1/MDAC0/SA1.TXT").unlink()
    for name in ("README.DOC", "DOC/SPKRINFO.TXT", "TRAIN/DR1/FCJF0/._SA1.WAV", "TRAIN/DR1/FCJF0/._SA1.TXT", "b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, passed_over = read(tmp_path)
    assert [(one.utterance_id, one.text) for one in found[2:]] == [
        ("DR1._FCJF0._SI1027", SPOKEN["TRAIN/DR1/FCJF0/SI1027"]),
        ("DR1._MDAC0._SA1", None),
        ("b", None),
    ]
    assert passed_over == {
        "hidden_files": {"count": 2, "example": "TRAIN/DR1/FCJF0/._SA1.TXT"},
        "other_endings": {"count": 2, "example": "DOC/SPKRINFO.TXT", "names": {".doc": 1, ".txt": 1}},
        "unfit_names": {"count": 1, "example": "b.wav"},
        "unmatched_ids": {
            "count": 3,
            "example": "TRAIN/DR1/FCJF0/SA1.PHN",
            "names": {".phn": 1, ".txt": 1, ".wrd": 1},
        },
        "without_label": {"count": 1, "example": "TRAIN/DR1/MDAC0/SA1.WAV", "names": {"text": 1}},
    }


def test_of_two_texts_of_one_sentence_the_first_is_read_and_the_other_counted(tmp_path):
    made(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SA1.txt").write_text("0 46797 Another.\n")
    found, passed_over = read(tmp_path)
    assert [one.text for one in found] == [text for _, text in sorted(SPOKEN.items())]
    twice = {"count": 1, "example": "TRAIN/DR1/FCJF0/SA1.txt", "names": {"id twice": 1}}
    assert passed_over == {"unread_lines": twice}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not one line"),
        (b"She had your dark suit", "not one line"),
        (b"0 46797", "not one line"),
        (b"0 46797 She had\n0 46797 your suit\n", "not one line"),
        (b"0 46797 caf\xff\n", "not UTF-8"),
    ],
)
def test_a_broken_text_costs_its_utterance_alone(tmp_path, content, words):
    made(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SA1.TXT").write_bytes(content)
    found, _ = read(tmp_path)
    bad = [one for one in found if one.problem]
    assert [one.utterance_id for one in bad] == ["DR1._FCJF0._SA1"]
    assert bad[0].problem[0] == "bad_row"
    assert "TRAIN/DR1/FCJF0/SA1.TXT: " in bad[0].problem[1]
    assert words in bad[0].problem[1]


@pytest.mark.parametrize("content", ["0 46797 She had.\r\n", "\ufeff0\t46797\tShe had.", "  0 46797  She had. \n\n"])
def test_blanks_line_ends_and_a_byte_order_mark_are_no_part_of_a_text(tmp_path, content):
    made(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SA1.TXT").write_bytes(content.encode())
    assert [one.text for one in read(tmp_path)[0] if one.speaker == "FCJF0"][0] == "She had."


def test_recordings_of_another_layout_are_refused(tmp_path):
    (tmp_path / "dr9/fcjf0").mkdir(parents=True)
    (tmp_path / "dr9/fcjf0/sa1.wav").touch()
    with pytest.raises(ManifestError, match="layout timit; use the layout folder"):
        read(tmp_path)


def test_labels_are_those_that_lhotse_reads(tmp_path):
    recipe = pytest.importorskip("lhotse.recipes.timit")
    made(tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.WAV"):
        sf.write(path, np.zeros(1600), 16_000, format="WAV")
    # Its part TEST is the core test set of 24 speakers, its part DEV another 50 of them.
    theirs = recipe.prepare_timit(tmp_path)
    expected = {
        (one.id.replace("-", "._"), one.text, one.speaker) for part in theirs.values() for one in part["supervisions"]
    }
    found, _ = read(tmp_path)
    assert {(one.utterance_id.split("._", 1)[1], one.text, one.speaker) for one in found} == expected
    assert len(expected) == len(SPOKEN)
