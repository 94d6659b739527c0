"""IEMOCAP gives four emotions, speakers by who speaks, and a split for each session."""

import pytest

from pipeline.audio.corpora import read_corpus
from pipeline.audio.lines import MAX_LINE
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

HEAD = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
SPOKEN = {
    "Ses01F_impro01_F000": ("neu", "Excuse me."),
    "Ses01F_impro01_M000": ("fru", "Do you have your forms?"),
    "Ses01F_impro01_F001": ("xxx", "Yeah."),
    "Ses01M_script01_1b_M003": ("exc", "I'm [LAUGHTER] getting married: really."),
    "Ses05M_script02_2_F014": ("hap", "Look!"),
    "Ses05M_script02_2_M014": ("ang", "No."),
    "Ses05M_script02_2_MXX0": ("sad", "Oh."),
}


def made(folder):
    """Write a corpus as its release is: answers of annotators below each line, throw-ins between the texts."""
    labels, texts = {}, {}
    for name, (code, text) in SPOKEN.items():
        dialog = name.rpartition("_")[0]
        session = folder / f"Session{name[4]}"
        answers = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        line = f"[6.2901 - 8.2357]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]\n"
        labels.setdefault((session, dialog), []).append(line + answers)
        texts.setdefault((session, dialog), []).append(f"{name} [006.2901-008.2357]: {text}\n")
        for wav in (session / f"sentences/wav/{dialog}/{name}.wav", session / f"dialog/wav/{dialog}.wav"):
            wav.parent.mkdir(parents=True, exist_ok=True)
            wav.touch()
    for (session, dialog), lines in labels.items():
        for kind, content in (
            ("EmoEvaluation", HEAD + "".join(lines)),
            ("transcriptions", "".join(texts[session, dialog])),
        ):
            (session / "dialog" / kind).mkdir(exist_ok=True)
            (session / "dialog" / kind / f"{dialog}.txt").write_text(content)
    return folder


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "iemocap", passed_over=passed_over)), passed_over.to_json()


def told(found):
    return [(one.utterance_id, one.speaker, one.emotion, one.text, one.split) for one in found]


def test_labels_are_those_of_the_corpus_in_the_four_classes_of_the_field(tmp_path):
    found, passed_over = read(made(tmp_path))
    assert told(found) == [
        ("Ses01F_impro01_F000", "Ses01F", "neutral", "Excuse me.", "Session1"),
        ("Ses01F_impro01_F001", "Ses01F", None, "Yeah.", "Session1"),
        ("Ses01F_impro01_M000", "Ses01M", None, "Do you have your forms?", "Session1"),
        ("Ses01M_script01_1b_M003", "Ses01M", "happiness", SPOKEN["Ses01M_script01_1b_M003"][1], "Session1"),
        ("Ses05M_script02_2_F014", "Ses05F", "happiness", "Look!", "Session5"),
        ("Ses05M_script02_2_M014", "Ses05M", "anger", "No.", "Session5"),
        ("Ses05M_script02_2_MXX0", "Ses05M", "sadness", "Oh.", "Session5"),
    ]
    assert {(one.language, one.problem) for one in found} == {("en", None)}
    assert passed_over == {
        "unlisted_files": {"count": 3, "example": "Session1/dialog/wav/Ses01F_impro01.wav"},
        "unread_lines": {
            "count": 21,
            "example": "line 4 of Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
            "names": {"A-": 7, "C-": 14},
        },
        "without_label": {
            "count": 2,
            "example": "Ses01F_impro01_F001",
            "names": {"emotion fru": 1, "emotion xxx": 1},
        },
    }


def test_the_folder_above_and_that_of_a_session_give_the_same(tmp_path):
    whole = told(read(made(tmp_path / "IEMOCAP_full_release"))[0])
    assert told(read(tmp_path)[0]) == whole
    assert told(read(tmp_path / "IEMOCAP_full_release/Session5")[0]) == whole[4:]


def test_hidden_files_of_the_original_archive_are_neither_labels_nor_recordings(tmp_path):
    made(tmp_path)
    for name in (
        "sentences/wav/Ses01F_impro01/._Ses01F_impro01_F000.wav",
        "dialog/EmoEvaluation/._Ses01F_impro01.txt",
        "dialog/transcriptions/._Ses01F_impro01.txt",
        "dialog/wav/._Ses01F_impro01.wav",
    ):
        (tmp_path / "Session1" / name).write_bytes(b"\x00\x05\x16\x07\xff")
    found, passed_over = read(tmp_path)
    assert len(found) == len(SPOKEN)
    assert passed_over["hidden_files"]["count"] == 4


def test_what_no_label_or_no_sentence_meets_is_counted(tmp_path):
    made(tmp_path)
    sentences, dialog = tmp_path / "Session1/sentences/wav/Ses01F_impro01", tmp_path / "Session1/dialog"
    (sentences / "Ses01F_impro01_F001.wav").unlink()
    (sentences / "Ses01F_impro01_F099.wav").touch()
    (sentences / "odd.wav").touch()
    (sentences.parent / "Ses01F_impro09").mkdir()
    (sentences.parent / "Ses01F_impro09/Ses01F_impro01_F000.wav").touch()
    (dialog / "EmoEvaluation/Ses01F_impro07.txt").write_text(HEAD)
    (dialog / "EmoEvaluation/Categorical").mkdir()
    (dialog / "EmoEvaluation/Categorical/Ses01F_impro01_e1_cat.txt").touch()
    with (dialog / "transcriptions/Ses01F_impro01.txt").open("a") as file:
        file.write("M: [BREATHING]\nF: Wait.\n")
    found, passed_over = read(tmp_path)
    odd = [one for one in found if one.speaker is None]
    assert [one.utterance_id.rpartition("._")[2] for one in odd] == ["odd", "Ses01F_impro01_F000"]
    assert [one.text for one in found if one.utterance_id == "Ses01F_impro01_F099"] == [None]
    assert passed_over["unfit_names"]["count"] == 2
    assert passed_over["unmatched_ids"] == {
        "count": 2,
        "example": "Ses01F_impro01_F001 of Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
        "names": {"EmoEvaluation": 1, "transcriptions": 1},
    }
    assert passed_over["without_label"]["names"] == {"emotion": 1, "emotion fru": 1, "text": 1}
    assert passed_over["unread_lines"]["names"] == {"A-": 7, "C-": 14, "F:": 1, "M:": 1}
    # A file of labels whose dialog has no sentences is a file that nothing reads.
    assert passed_over["other_endings"]["names"] == {".txt": 2}


def test_tables_of_any_line_end_and_blanks_are_read(tmp_path):
    made(tmp_path)
    dialog = tmp_path / "Session1/dialog"
    evaluation = "\ufeff[6.2901 - 8.2357] \tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\r\n"
    (dialog / "EmoEvaluation/Ses01F_impro01.txt").write_bytes(evaluation.encode())
    text = b"Ses01F_impro01_F000\t[006.29-008.23]:\tExcuse me. \r\n"
    (dialog / "transcriptions/Ses01F_impro01.txt").write_bytes(text)
    first = read(tmp_path)[0][0]
    assert (first.emotion, first.text) == ("neutral", "Excuse me.")


@pytest.mark.parametrize("kind", ["EmoEvaluation", "transcriptions"])
def test_labels_that_cannot_be_read_are_one_clear_error(tmp_path, kind):
    path = made(tmp_path) / f"Session1/dialog/{kind}/Ses01F_impro01.txt"
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError, match=rf"{kind}/Ses01F_impro01\.txt cannot be read: Is a directory"):
        read(tmp_path)


def test_an_id_that_comes_twice_has_its_first_emotion_and_text(tmp_path):
    dialog = made(tmp_path) / "Session1/dialog"
    before = read(tmp_path)[1]["unread_lines"]["count"]
    with (dialog / "EmoEvaluation/Ses01F_impro01.txt").open("a") as file:
        file.write("[6.2901 - 8.2357]\tSes01F_impro01_F000\tang\t[2.5, 2.5, 2.5]\n")
    with (dialog / "transcriptions/Ses01F_impro01.txt").open("a") as file:
        file.write("Ses01F_impro01_F000 [006.2901-008.2357]: Another.\n")
    found, passed_over = read(tmp_path)
    assert (found[0].emotion, found[0].text) == ("neutral", "Excuse me.")
    assert passed_over["unread_lines"]["count"] == before + 2
    assert passed_over["unread_lines"]["names"]["id twice"] == 2
    assert "unmatched_ids" not in passed_over


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("EmoEvaluation", "[6.2901 - 8.2357]\tSes01F_impro01_F000\tang\t"),
        ("transcriptions", "Ses01F_impro01_F000 [006.2901-008.2357]: "),
    ],
)
def test_a_line_without_end_is_a_problem_of_its_utterance(tmp_path, kind, line):
    path = made(tmp_path) / f"Session1/dialog/{kind}/Ses01F_impro01.txt"
    path.write_text(f"{line}{'x' * MAX_LINE}\n{path.read_text()}")
    found, passed_over = read(tmp_path)
    bad = [one for one in found if one.problem]
    assert [(one.utterance_id, one.problem[0]) for one in bad] == [("Ses01F_impro01_F000", "bad_row")]
    assert f"line 1 of {path}: the line has more than" in bad[0].problem[1]
    assert passed_over["unread_lines"]["names"]["id twice"] == 1
    assert "unmatched_ids" not in passed_over


def test_a_text_that_is_not_utf_8_costs_its_utterance_alone(tmp_path):
    made(tmp_path)
    path = tmp_path / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    path.write_bytes(path.read_bytes().replace(b"Excuse", b"Excus\xe9"))
    bad = [one for one in read(tmp_path)[0] if one.problem]
    assert [one.utterance_id for one in bad] == ["Ses01F_impro01_F000"]
    assert bad[0].problem[0] == "bad_row"
    assert "line 1 of" in bad[0].problem[1]
    assert "transcriptions/Ses01F_impro01.txt: text is not UTF-8" in bad[0].problem[1]


def test_recordings_of_another_layout_are_refused(tmp_path):
    # The part of the release that others pass on: sentences by session and class.
    (tmp_path / "session1/ang").mkdir(parents=True)
    (tmp_path / "session1/ang/Ses01F_impro01_F000.wav").touch()
    with pytest.raises(ManifestError, match="layout iemocap; use the layout folder"):
        read(tmp_path)
