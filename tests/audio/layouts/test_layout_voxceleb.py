"""VoxCeleb gives speakers and splits by folders, and its lists of trials find its utterances."""

import pytest

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.evaluation.trials import find_trials, read_trials
from pipeline.passed_over import PassedOver

VOX1 = ("id10270/x6uYqmx31kE/00001", "id10270/8jEAjG6SegY/00008", "id10001/-_zcIwhmde4/00003")
VOX1_META = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
    "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
    "id10309\tZulay_Henao\tf\tUSA\ttest\n"
)
VOX2_META = "VoxCeleb2 ID ,VGGFace2 ID ,Gender,Set\r\nid00012 ,n000001 ,m ,dev \r\nid00017 ,n000002 ,m ,test \r\n"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "voxceleb", passed_over=passed_over)), passed_over.to_json()


def told(found):
    return [(one.utterance_id, one.speaker, one.split) for one in found]


def test_speakers_and_splits_are_those_of_the_folders(tmp_path):
    names = [f"{'dev' if 'id10001' in name else 'test'}/wav/{name}.wav" for name in VOX1]
    found, passed_over = read(touch(tmp_path, *names))
    expected = [
        ("id10001._-_zcIwhmde4._00003", "id10001", "dev"),
        ("id10270._8jEAjG6SegY._00008", "id10270", "test"),
        ("id10270._x6uYqmx31kE._00001", "id10270", "test"),
    ]
    assert told(found) == expected
    assert {(one.language, one.text, one.problem) for one in found} == {(None, None, None)}
    assert passed_over == {}
    # As the archives unpack, and each part by itself.
    archives = [name.replace("/wav/", "_wav/wav/") for name in names]
    assert told(read(touch(tmp_path / "zips", *(f"vox1_{name}" for name in archives)))[0]) == expected
    assert told(read(tmp_path / "test")[0]) == expected[1:]


@pytest.mark.parametrize("folder", ["dev/wav", "dev/speech", "dev/wav/id10270"])
def test_folders_above_that_of_the_corpus_give_no_split(tmp_path, folder):
    below = "x6uYqmx31kE/00001.wav" if folder.endswith("id10270") else "id10270/x6uYqmx31kE/00001.wav"
    touch(tmp_path / folder, below)
    (found,), passed_over = read(tmp_path / folder)
    assert (found.utterance_id, found.speaker, found.split) == ("id10270._x6uYqmx31kE._00001", "id10270", None)
    assert passed_over == {"without_label": {"count": 1, "example": below, "names": {"split": 1}}}


@pytest.mark.parametrize("ending", [".wav", ".m4a"])
def test_the_second_corpus_is_read_as_it_is_and_converted(tmp_path, ending):
    names = ("dev/aac/id00012/21Uxsk56VDQ/00001", "dev/aac/id00012/21Uxsk56VDQ/00011", "test/id00017/01dfn2spqyE/00001")
    found, _ = read(touch(tmp_path, *(f"{name}{ending}" for name in names)))
    assert told(found) == [
        ("id00012._21Uxsk56VDQ._00001", "id00012", "dev"),
        ("id00012._21Uxsk56VDQ._00011", "id00012", "dev"),
        ("id00017._01dfn2spqyE._00001", "id00017", "test"),
    ]


def test_the_tables_of_speakers_give_the_split_where_no_folder_does(tmp_path):
    touch(tmp_path, *(f"wav/{name}.wav" for name in VOX1), "wav/id00017/01dfn2spqyE/00001.wav", "veri_test.txt")
    touch(tmp_path, "wav/id00099/01dfn2spqyE/00001.wav", "dev/wav/id10270/x6uYqmx31kE/00009.wav")
    (tmp_path / "vox1_meta.csv").write_text(VOX1_META)
    (tmp_path / "vox2_meta.csv").write_bytes(b"\xef\xbb\xbf" + VOX2_META.encode() + b"id00018,m\r\n")
    found, passed_over = read(tmp_path)
    assert [(one.speaker, one.split) for one in found] == [
        ("id10270", "dev"),
        ("id00017", "test"),
        ("id00099", None),
        ("id10001", "dev"),
        ("id10270", "test"),
        ("id10270", "test"),
    ]
    assert passed_over == {
        "other_endings": {"count": 1, "example": "veri_test.txt", "names": {".txt": 1}},
        "unmatched_ids": {
            "count": 2,
            "example": "id10309 of vox1_meta.csv",
            "names": {"vox1_meta.csv": 1, "vox2_meta.csv": 1},
        },
        "unread_columns": {
            "count": 5,
            "example": f"{tmp_path}/vox1_meta.csv",
            "names": {"Gender": 2, "Nationality": 1, "VGGFace1 ID": 1, "VGGFace2 ID": 1},
        },
        "unread_lines": {
            "count": 1,
            "example": "line 4 of vox2_meta.csv: 2 fields, but the header has 4",
            "names": {"vox2_meta.csv": 1},
        },
        "without_label": {"count": 1, "example": "wav/id00099/01dfn2spqyE/00001.wav", "names": {"split": 1}},
    }


def test_a_row_that_cannot_be_used_is_counted_and_the_others_are_read(tmp_path):
    touch(tmp_path, *(f"wav/{name}.wav" for name in VOX1), "wav/id10309/01dfn2spqyE/00001.wav")
    table = (
        VOX1_META.encode().replace(b"Ireland\tdev", b"Ireland\tde\xff").replace(b"id10309", b" ")
        + b"id10309\ta\tf\tUSA\tnan\n"
    )
    (tmp_path / "vox1_meta.csv").write_bytes(table)
    found, passed_over = read(tmp_path)
    assert [(one.speaker, one.split) for one in found] == [
        *(("id10001", None), ("id10270", "test"), ("id10270", "test"), ("id10309", None))
    ]
    assert passed_over["unread_lines"]["count"] == 2
    assert passed_over["unread_lines"]["example"].startswith("line 2 of vox1_meta.csv: split is not UTF-8 text")
    assert passed_over["spelt_missing"]["names"] == {"nan": 1}
    assert passed_over["without_label"]["names"] == {"split": 2}


def test_of_rows_of_one_speaker_and_columns_of_one_name_the_first_is_read(tmp_path):
    touch(tmp_path, f"wav/{VOX1[0]}.wav", f"wav/{VOX1[2]}.wav")
    (tmp_path / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tSet\tSet\nid10001\tdev\ttest\nid10270\ttest\tdev\nid10270\tdev\ttest\n"
    )
    (tmp_path / "vox2_meta.csv").write_text("VoxCeleb2 ID ,Set\nid10001 ,test\n")
    found, passed_over = read(tmp_path)
    assert [(one.speaker, one.split) for one in found] == [("id10001", "dev"), ("id10270", "test")]
    columns = {"count": 1, "example": f"{tmp_path}/vox1_meta.csv", "names": {"Set (column 3)": 1}}
    twice = {"count": 2, "example": "line 4 of vox1_meta.csv", "names": {"id twice": 2}}
    assert passed_over == {"unread_columns": columns, "unread_lines": twice}


def test_a_table_that_is_none_of_its_speakers_is_one_clear_error(tmp_path):
    touch(tmp_path, f"wav/{VOX1[0]}.wav")
    (tmp_path / "vox1_meta.csv").write_text("<!DOCTYPE html>\n")
    with pytest.raises(ManifestError, match=r"vox1_meta\.csv is no table of VoxCeleb's speakers"):
        read(tmp_path)


def test_frames_hidden_files_and_other_names_are_counted(tmp_path):
    touch(tmp_path, f"dev/wav/{VOX1[0]}.wav", f"dev/txt/{VOX1[0]}.txt", "dev/wav/id10270/x6uYqmx31kE/._00001.wav")
    touch(tmp_path, "dev/wav/Eartha_Kitt/x6uYqmx31kE/00001.wav")
    found, passed_over = read(tmp_path)
    assert [one.speaker for one in found] == [None, "id10270"]
    assert {kind: counted["count"] for kind, counted in passed_over.items()} == {
        "hidden_files": 1,
        "other_endings": 1,
        "unfit_names": 1,
    }


def test_recordings_of_another_layout_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="layout voxceleb; use the layout folder"):
        read(touch(tmp_path, "Eartha_Kitt/x6uYqmx31kE/00001.wav"))


def test_lists_of_trials_find_the_utterances_of_the_corpus(tmp_path):
    found, _ = read(touch(tmp_path, *(f"wav/{name}.wav" for name in VOX1)))
    (tmp_path / "veri_test.txt").write_text(
        f"1 {VOX1[0]}.wav {VOX1[1]}.wav\n0 {VOX1[0]}.wav {VOX1[2]}.wav\n0 {VOX1[1]} id10309/absent/00001.wav\n"
    )
    ids = [one.utterance_id for one in found]
    trials = find_trials(read_trials(str(tmp_path / "veri_test.txt")), ids)
    named = [(ids[one], ids[other]) for one, other in zip(trials.first, trials.second, strict=True)]
    assert named == [
        ("id10270._x6uYqmx31kE._00001", "id10270._8jEAjG6SegY._00008"),
        ("id10270._x6uYqmx31kE._00001", "id10001._-_zcIwhmde4._00003"),
    ]
    assert (trials.same.tolist(), trials.left_out, trials.absent) == ([True, False], 1, ("id10309/absent/00001.wav",))
