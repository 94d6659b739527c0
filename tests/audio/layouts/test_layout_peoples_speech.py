"""A line of The People's Speech is many clips; each is found in the folder of its subset."""

import json

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.corpora import read_corpus
from pipeline.audio.lines import MAX_LINE
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

SOURCE = "07282016HFUUforum_SLASH_07-28-2016_HFUUforum_DOT_mp3"


def line(*clips, identifier="07282016HFUUforum", **others):
    """Write a line as the corpus has it, of pairs of name and label."""
    data = {
        "duration_ms": [100] * len(clips),
        "label": [label for _, label in clips],
        "name": [name for name, _ in clips],
    }
    documents = {"audio_document_id": "07-28-2016_HFUUforum.mp3", "text_document_id": "07-28-2016.asr.srt"}
    return json.dumps({"identifier": identifier, **documents, "training_data": data, **others})


def corpus(folder, tables, present):
    for name, lines in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{each}\n" for each in lines))
    for name in present:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / name, np.zeros(1600, dtype=np.float32), 16000)
    return folder


def read(folder):
    passed_over = PassedOver()
    return list(read_corpus(str(folder), "peoples-speech", passed_over=passed_over)), passed_over.to_json()


def test_each_clip_of_a_line_is_an_utterance_with_its_own_text(tmp_path):
    names = [f"{SOURCE}_{number:05d}.flac" for number in range(3)]
    tables = {
        "train/clean.json": [line((names[0], "my name is"), (names[1], "null")), line((f"./a/b/{names[2]}", ""))],
        "train/dirty_sa.json": [line((names[0], "another"))],
        "test/test.json": [line((names[0], "tested"))],
        "validation/validation.json": [line((names[0], "valid"))],
    }
    present = [f"train/clean/{names[0]}", f"train/clean/{names[1]}", f"train/clean/a/b/{names[2]}"]
    present += [f"{folder}/{names[0]}" for folder in ("train/dirty_sa", "test/test", "validation/validation")]
    found, passed_over = read(corpus(tmp_path, tables, present))
    # By path components: test, train, validation.
    assert [(one.uri.removeprefix(f"{tmp_path}/"), one.text, one.split) for one in found] == [
        (f"test/test/{names[0]}", "tested", "test"),
        (f"train/clean/{names[0]}", "my name is", "train"),
        (f"train/clean/{names[1]}", "null", "train"),
        (f"train/clean/a/b/{names[2]}", None, "train"),
        (f"train/dirty_sa/{names[0]}", "another", "train"),
        (f"validation/validation/{names[0]}", "valid", "validation"),
    ]
    # One source has clips in several subsets, numbered anew in each.
    assert len({one.utterance_id for one in found}) == len(found)
    assert found[1].utterance_id == f"clean._{SOURCE}_00000"
    assert {(one.language, one.speaker, one.offset_seconds, one.problem) for one in found} == {("en", None, None, None)}
    assert set(passed_over) == {"unread_columns"}
    assert set(passed_over["unread_columns"]["names"]) == {"identifier", "audio_document_id", "text_document_id"}
    below, _ = read(tmp_path / "train")
    assert below == found[1:5]


def test_lhotse_reads_the_same_files_and_texts(tmp_path):
    from lhotse.recipes.peoples_speech import _prepare_subset

    tables = {"train/clean.json": [line(("a.flac", "one"), ("b.flac", "two")), line(("c.flac", "three"))]}
    corpus(tmp_path, tables, [f"train/clean/{name}.flac" for name in "abc"])
    recordings, supervisions = _prepare_subset("train/clean", tmp_path)
    theirs = [(recordings[one.recording_id].sources[0].source, one.text) for one in supervisions]
    assert [(one.uri, one.text) for one in read(tmp_path)[0]] == theirs


def test_subsets_that_were_not_fetched_are_counted_and_what_no_table_names_too(tmp_path):
    tables = {
        "train/clean.json": [line(("a.flac", "one"), ("gone.flac", "two"))],
        "train/dirty.json": [line(("a.flac", "x"), ("b.flac", "y"))],
        "train/other.json": ["[]"],
    }
    found, passed_over = read(corpus(tmp_path, tables, ["train/clean/a.flac", "train/clean/extra.flac"]))
    assert [one.utterance_id for one in found] == ["clean._a", "clean._gone"]
    assert passed_over["unmatched_ids"] == {
        "count": 2,
        "example": "train/dirty/a.flac",
        "names": {"train/dirty.json": 2},
    }
    assert passed_over["unlisted_files"] == {"count": 1, "example": "train/clean/extra.flac"}
    assert passed_over["other_endings"] == {"count": 1, "example": "train/other.json", "names": {".json": 1}}


def test_a_line_or_clip_that_cannot_be_used_is_a_problem_that_says_where(tmp_path):
    short = json.loads(line(("a.flac", "one"), ("b.flac", "two")))
    short["training_data"]["label"].pop()
    signed = "https://host/a.flac?X-Amz-Signature=0123456789"
    lines = [
        *("no json", "[1]", json.dumps({"identifier": "x"}), json.dumps(short)),
        line((None, "x"), ("a.flac", "one"), (signed, "y"), ("b.flac", ["z"])),
    ]
    found, _ = read(corpus(tmp_path, {"train/clean.json": lines}, ["train/clean/a.flac", "train/clean/b.flac"]))
    assert [one.text for one in found if one.problem is None] == ["one"]
    problems = [one.problem for one in found if one.problem]
    assert {reason for reason, _ in problems} == {"bad_row"}
    assert [detail.partition(":")[0] for _, detail in problems] == [
        *(f"line {number} of train/clean.json" for number in (1, 2, 3, 4)),
        *(f"clip {clip} of line 5 of train/clean.json" for clip in (1, 3, 4)),
    ]
    assert len({one.utterance_id for one in found}) == len(found)
    assert "0123456789" not in str(found)


def test_audio_behind_a_linked_folder_is_named(tmp_path):
    folder = corpus(tmp_path / "c", {"train/clean.json": [line(("a.flac", "one"))]}, [])
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.flac").touch()
    (folder / "train/clean").symlink_to(tmp_path / "real")
    with pytest.raises(ManifestError, match="links to folders are not followed: 1, as train/clean"):
        read(folder)


def test_a_line_may_be_longer_than_those_of_lists(tmp_path):
    lines = [line(("a.flac", "one"), ("b.flac", "x" * MAX_LINE)), line(("c.flac", "y" * (33 << 20)))]
    found, _ = read(corpus(tmp_path, {"train/clean.json": lines}, ["train/clean/a.flac"]))
    assert [(one.utterance_id, one.text) for one in found][0] == ("clean._a", "one")
    assert [one.problem and one.problem[1].partition(": ")[2] for one in found[2:]] == [
        "the line has more than 33,554,432 characters"
    ]


def test_tables_without_audio_and_audio_without_tables_are_one_clear_error(tmp_path):
    corpus(tmp_path, {"train/clean.json": [line(("a.flac", "one"))]}, [])
    with pytest.raises(ManifestError, match=r"no recordings that its 1 tables name; unpack the tars"):
        read(tmp_path)
    corpus(tmp_path, {"train/clean.json": ['{"audio_filepath": "a.flac"}']}, ["train/clean/a.flac"])
    with pytest.raises(ManifestError, match="first entry cannot be used: line 1 of .*no object training_data"):
        read(tmp_path)
    (tmp_path / "train/clean.json").unlink()
    with pytest.raises(ManifestError, match=r"no train/clean\.json.*use the layout folder"):
        read(tmp_path)
