"""VoxPopuli gives the ids of its own scripts, whether the recordings are cut already or are cut by its tables."""

import csv
import gzip
import io

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

COLUMNS = [
    *("id_", "paragraph_id", "session_id", "speaker_id", "original_text", "normed_text", "decoded"),
    *("start_time", "end_time", "cer", "wer", "vad", "split", "gender"),
]
CUT = ("id", "raw_text", "normalized_text", "speaker_id", "split", "gender", "is_gold_transcript", "accent")
SESSION = "20180206-0900-PLENARY-15"
ORIGINAL = f"raw_audios/original/2018/{SESSION}_original.ogg"


def published(number, text='he said "yes"', split="train", session=SESSION, lang="en", **others):
    times = {"start_time": "1.25", "end_time": "3.5", "vad": "[(1.3, 2.0), (2.4, 3.4)]"}
    names = {"id_": f"{lang}_20180206-16:10:06_{number}", "session_id": session, "speaker_id": "125106"}
    return {**names, "original_text": f'He said: "{text}"!', "normed_text": text, "split": split, **times, **others}


def table(path, rows, *, columns=COLUMNS, delimiter="|", plain=False):
    text = io.StringIO()
    if plain:
        text.write("".join("\t".join(line) + "\n" for line in [columns, *rows]))
    else:
        writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n", restval="x")
        writer.writeheader()
        writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def windows(path, *rows):
    columns = ["event_id", "segment_no", "start", "end"]
    table(path, [dict(zip(columns, row, strict=True)) for row in rows], columns=columns, delimiter="\t")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "voxpopuli", passed_over=passed_over)), passed_over.to_json()


def labels(found):
    return [(one.utterance_id, one.text, one.speaker, one.language, one.split) for one in found]


def test_published_transcripts_cut_whole_sessions(tmp_path):
    touch(tmp_path, ORIGINAL)
    rows = [
        published(1),
        published(2, split="dev", speaker_id="None"),
        published(3, split="invalid"),
        published(4, "a|b"),
    ]
    table(tmp_path / "asr_en.tsv.gz", rows)
    found, passed_over = read(tmp_path)
    name = f"{SESSION}-en_20180206-16.x3a10.x3a06"
    assert labels(found) == [
        (f"{name}_1", 'he said "yes"', "125106", "en", "train"),
        (f"{name}_2", 'he said "yes"', None, "en", "dev"),
        (f"{name}_4", "a|b", "125106", "en", "train"),
    ]
    assert {(one.uri, one.offset_seconds, one.duration_seconds) for one in found} == {
        (f"{tmp_path}/{ORIGINAL}", 1.25, 2.25)
    }
    assert passed_over["unread_lines"] == {
        "count": 1,
        "example": "line 4 of asr_en.tsv.gz",
        "names": {"split invalid": 1},
    }
    assert passed_over["spelt_missing"]["names"] == {"None": 1}
    assert {"original_text", "vad", "gender"} <= set(passed_over["unread_columns"]["names"])
    assert set(passed_over) == {"unread_lines", "spelt_missing", "unread_columns"}


def test_lhotse_cuts_the_same_places_with_the_same_labels(tmp_path):
    from lhotse.recipes.voxpopuli import prepare_voxpopuli

    place = tmp_path / f"raw_audios/en/2018/{SESSION}_en.ogg"
    place.parent.mkdir(parents=True)
    sf.write(place, np.zeros(64000, dtype=np.float32), 16000)
    rows = [published(1), published(2, "two", split="dev"), published(3, split="test"), published(4, split="invalid")]
    table(tmp_path / "asr_en.tsv.gz", rows)
    parts = prepare_voxpopuli(tmp_path, tmp_path, lang="en")
    theirs = [
        (one.start, one.duration, one.text, one.speaker, one.language, split)
        for split in ("train", "dev", "test")
        for one in parts[split]["supervisions"]
    ]
    found, _ = read(tmp_path)
    assert theirs == [
        (one.offset_seconds, one.duration_seconds, one.text, one.speaker, one.language, one.split) for one in found
    ]
    assert {one.uri for one in found} == {str(place)}


def test_what_the_script_has_cut_goes_before_the_published_transcripts(tmp_path):
    names = [f"{SESSION}-en_20180206-16:10:06_{number}" for number in (1, 2, 3)]
    raw = 'He said: "yes'
    rows = [(name, raw, '"yes" he said', "125106", "train", "male", "False", "None") for name in names[:2]]
    table(tmp_path / "transcribed_data/en/asr_train.tsv", rows, columns=CUT, plain=True)
    table(
        tmp_path / "transcribed_data/en/asr_test.tsv",
        [(names[2], raw, "", "None", "test", "", "", "")],
        columns=CUT,
        plain=True,
    )
    table(tmp_path / "transcribed_data/en/asr_en.tsv.gz", [published(number) for number in (1, 2, 3)])
    touch(tmp_path, ORIGINAL, *(f"transcribed_data/en/2018/{name}.ogg" for name in names))
    found, passed_over = read(tmp_path)
    # Without quoting, a quote that is left open is no more than a character.
    assert labels(found) == [
        (f"{SESSION}-en_20180206-16.x3a10.x3a06_3", None, None, "en", "test"),
        (f"{SESSION}-en_20180206-16.x3a10.x3a06_1", '"yes" he said', "125106", "en", "train"),
        (f"{SESSION}-en_20180206-16.x3a10.x3a06_2", '"yes" he said', "125106", "en", "train"),
    ]
    assert found[0].uri == f"{tmp_path}/transcribed_data/en/2018/{names[2]}.ogg"
    assert {one.offset_seconds for one in found} == {None}
    assert passed_over["unlisted_files"] == {"count": 1, "example": ORIGINAL}
    assert read(tmp_path / "transcribed_data/en")[0] == found


def test_accented_english_is_english(tmp_path):
    touch(tmp_path, ORIGINAL)
    table(
        tmp_path / "asr_en_accented.tsv",
        [published(1, split="test", lang="en_nl")],
        columns=[*COLUMNS, "accent"],
    )
    assert [(one.language, one.split) for one in read(tmp_path)[0]] == [("en", "test")]


def test_unlabelled_recordings_are_cut_by_their_windows_and_archives_not_fetched_are_counted(tmp_path):
    plenary, other = f"{SESSION}_hr", "20180207-0900-SPECIAL_hr"
    touch(tmp_path, f"raw_audios/hr/2018/{plenary}.ogg")
    windows(
        tmp_path / "unlabelled_data/unlabelled_v2.tsv.gz",
        *((plenary, "0", "0.0", "30.0"), (plenary, "1", "30.0", "44.5"), (other, "0", "0", "30")),
        *((plenary.replace("hr", "de"), "0", "0", "30"), ("20190101-PLENARY_hr", "0", "0", "30")),
        *((plenary, "2", "9", "9"), ("20180208", "0", "0", "1")),
    )
    found, passed_over = read(tmp_path)
    usable = [one for one in found if one.problem is None]
    assert [(one.utterance_id, one.offset_seconds, one.duration_seconds) for one in usable] == [
        (f"{plenary}_0", 0.0, 30.0),
        (f"{plenary}_1", 30.0, 14.5),
    ]
    assert {(one.language, one.text, one.split) for one in usable} == {("hr", None, None)}
    assert [one.problem[0] for one in found if one.problem] == ["bad_segment", "bad_row"]
    assert passed_over["unmatched_ids"]["count"] == 3
    # Once the other archive of the year is there, its recordings are too.
    touch(tmp_path, f"raw_audios/hr/2018/{other}.ogg")
    assert read(tmp_path)[1]["unmatched_ids"]["count"] == 2


def test_unlabelled_recordings_that_are_cut_need_no_table(tmp_path):
    event = f"{SESSION}_hr"
    touch(tmp_path, f"raw_audios/hr/2018/{event}.ogg", *(f"unlabelled_data/hr/2018/{event}_{n}.ogg" for n in (0, 1)))
    touch(tmp_path, "unlabelled_data/hr/2018/odd.ogg")
    windows(tmp_path / "unlabelled_data/unlabelled_v2.tsv.gz", (event, "0", "0.0", "30.0"))
    found, passed_over = read(tmp_path)
    assert [(one.utterance_id, one.language, one.offset_seconds) for one in found] == [
        (f"{event}_0", "hr", None),
        (f"{event}_1", "hr", None),
    ]
    assert passed_over["unlisted_files"] == {"count": 2, "example": f"raw_audios/hr/2018/{event}.ogg"}
    assert [one.uri for one in read(tmp_path / "unlabelled_data")[0]] == [one.uri for one in found]


def test_a_row_that_cannot_be_used_is_a_problem_that_says_where(tmp_path):
    touch(tmp_path, ORIGINAL)
    bad = [
        published(1, start_time="3.5"),
        published(2, end_time="nan"),
        published(3, id_=""),
        published(4, session_id="../a"),
        published(6, end_time="1e306"),
    ]
    table(tmp_path / "asr_en.tsv", [*bad, published(5)])
    whole = (tmp_path / "asr_en.tsv").read_bytes()
    (tmp_path / "asr_en.tsv").write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n") + b"a|b\r\n")
    found, _ = read(tmp_path)
    assert [one.problem and one.problem[0] for one in found] == [
        *("bad_segment", "bad_row", "bad_row", "bad_row", "bad_segment", None, "bad_row")
    ]
    assert [one.problem[1].partition(":")[0] for one in found if one.problem] == [
        f"line {number} of asr_en.tsv" for number in (2, 3, 4, 5, 6, 8)
    ]


def test_a_corpus_without_tables_or_with_others_is_one_clear_error(tmp_path):
    touch(tmp_path, ORIGINAL)
    with pytest.raises(ManifestError, match=r"no asr_<language>\.tsv\.gz.*use the layout folder"):
        read(tmp_path)
    (tmp_path / "asr_en.tsv").write_text("path\tsentence\na.mp3\tb\n")
    with pytest.raises(ManifestError, match=r"asr_en\.tsv lacks the columns session_id, id_.*none of VoxPopuli"):
        read(tmp_path)
    table(tmp_path / "asr_en.tsv", [published(1, session_id="20090101-PLENARY")])
    with pytest.raises(ManifestError, match="no recordings that its tables name"):
        read(tmp_path)
