"""Segment lists in every form say the same, and a bad row costs that row alone."""

import json

import pytest

from pipeline.audio.segment_lists import read_segments
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

LISTS = {
    "a.csv": 'recording,start,end,id,speaker,text\ncall,0.5,2.25,u1,ann,"yes, no"\ncall,3,4.5,u2,bob,well\n',
    "a.tsv": "uri\toffset\tduration\tid\tspeaker\ttext\n"
    "call\t0.5\t1.75\tu1\tann\tyes, no\ncall\t3\t1.5\tu2\tbob\twell\n",
    "a.jsonl": '{"recording": "call", "start": 0.5, "end": 2.25, "id": "u1", "speaker": "ann", "text": "yes, no"}\n\n'
    '{"recording": "call", "offset": 3, "duration": 1.5, "id": "u2", "speaker": "bob", "text": "well"}\n',
    "segments": "u1 call 0.5 2.25\nu2 call 3 4.5\n",
}
RTTM = (
    ";; a comment\nSPKR-INFO call 1 <NA> <NA> <NA> adult ann <NA> <NA>\n"
    "SPEAKER call 1 0.5 1.75 <NA> <NA> ann <NA> <NA>\nSPEAKER call 1 3 1.5 <NA> <NA> bob <NA>\n"
)


def read(path, form="auto"):
    return list(read_segments(str(path), form, passed_over=PassedOver()))


def plain(segment):
    return (segment.recording, segment.start_seconds, segment.end_seconds, segment.speaker)


@pytest.mark.parametrize("name", LISTS)
def test_every_table_says_the_same(tmp_path, name):
    (tmp_path / name).write_text(LISTS[name])
    (tmp_path / "utt2spk").write_text("u1 ann\nu2 bob\n")
    (tmp_path / "text").write_text("u1 yes, no\nu2 well\n")
    first, second = read(tmp_path / name)
    assert plain(first) == ("call", 0.5, 2.25, "ann")
    assert plain(second) == ("call", 3.0, 4.5, "bob")
    assert [(s.utterance_id, s.text) for s in (first, second)] == [("u1", "yes, no"), ("u2", "well")]


def test_rttm_keeps_the_speaker_and_passes_over_other_lines(tmp_path):
    (tmp_path / "a.rttm").write_text(RTTM)
    assert [plain(s) for s in read(tmp_path / "a.rttm")] == [("call", 0.5, 2.25, "ann"), ("call", 3.0, 4.5, "bob")]


@pytest.mark.parametrize(("text", "count"), [(LISTS["a.jsonl"], 2), (RTTM, 2), (LISTS["segments"], 2)])
def test_a_list_without_an_ending_is_known_by_its_first_line(tmp_path, text, count):
    (tmp_path / "list.txt").write_text(text)
    assert [s.problem for s in read(tmp_path / "list.txt")] == [None] * count


def test_the_form_can_be_given(tmp_path):
    (tmp_path / "list.txt").write_text(LISTS["a.csv"])
    with pytest.raises(ManifestError, match="segments_format"):
        read(tmp_path / "list.txt")
    assert len(read(tmp_path / "list.txt", "csv")) == 2


def test_kaldi_needs_no_tables_beside_it_and_minus_one_is_the_end(tmp_path):
    (tmp_path / "segments").write_text("u1 call 0.5 -1\n")
    (segment,) = read(tmp_path / "segments")
    assert (segment.start_seconds, segment.end_seconds, segment.speaker, segment.text) == (0.5, None, None, None)


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ({"recording": "a", "start": 2, "end": 2}, "bad_segment", "starts at 2 s and ends at 2 s"),
        ({"recording": "a", "start": 3, "duration": -1}, "bad_segment", "ends at 2 s"),
        ({"recording": "a", "start": -1, "end": 2}, "bad_segment", "starts at -1"),
        ({"recording": "a", "start": "soon", "end": 2}, "bad_segment", "'soon'"),
        ({"recording": "a", "start": "nan", "end": 2}, "bad_segment", "'nan'"),
        ({"recording": "a", "start": "inf", "end": "inf"}, "bad_segment", "inf"),
        ({"recording": "a", "start": True, "end": 2}, "bad_segment", "True"),
        ({"recording": "a", "end": 2}, "bad_segment", "no start"),
        ({"recording": "a", "start": 2}, "bad_segment", "neither an end nor a duration"),
        ({"start": 1, "end": 2}, "bad_row", "names no recording"),
        ({"recording": "a\nb", "start": 1, "end": 2}, "bad_row", "recording"),
        ({"recording": ["a"], "start": 1, "end": 2}, "bad_row", "recording"),
        ([1, 2], "bad_row", "not a JSON object"),
    ],
)
def test_a_row_that_cannot_be_used_keeps_its_place_with_a_reason(tmp_path, row, reason, said):
    rows = [{"recording": "a", "start": 0, "end": 1}, row, {"recording": "a", "start": 1, "end": 2}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    before, bad, after = read(tmp_path / "a.jsonl")
    assert before.problem is after.problem is None
    assert bad.problem[0] == reason
    assert "row 2" in bad.problem[1]
    assert said in bad.problem[1]


def test_rows_with_too_few_fields_are_refused_alone(tmp_path):
    (tmp_path / "a.csv").write_text("recording,start,end\na,0,1\na,1\n")
    (tmp_path / "a.rttm").write_text("SPEAKER a 1 0 1 <NA> <NA> s <NA>\nSPEAKER a 1 0\n")
    (tmp_path / "segments").write_text("u a 0 1\nu a 0\n")
    for name in ("a.csv", "a.rttm", "segments"):
        good, bad = read(tmp_path / name)
        assert good.problem is None
        assert bad.problem[0] == "bad_row"
        assert "fields" in bad.problem[1]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "recording,start,end\n", "recording,begin,end\na,1,2\n", "start,end\n1,2\n"]
)
def test_a_list_without_segments_or_columns_is_an_error(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ManifestError, match=r"a\.csv"):
        read(tmp_path / "a.csv")


def test_an_absent_list_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="there is no segment list"):
        read(tmp_path / "none.csv")


def test_a_speaker_of_kaldi_that_a_program_wrote_as_a_float_is_a_whole_number_and_nan_is_none(tmp_path):
    (tmp_path / "segments").write_text("u1 call 0 1\nu2 call 1 2\n")
    (tmp_path / "utt2spk").write_text("u1 1089.0\nu2 nan\n")
    passed_over = PassedOver()
    found = list(read_segments(str(tmp_path / "segments"), passed_over=passed_over))
    assert [one.speaker for one in found] == ["1089", None]
    assert passed_over["spelt_missing"] == 1


@pytest.mark.parametrize("times", ["0,1e300", "1e308,1.1e308", "2000000000,2000000001"])
def test_a_time_of_more_than_30_years_is_refused_alone(tmp_path, times):
    (tmp_path / "a.csv").write_text(f"recording,start,end\ncall,{times}\ncall,0,1\n")
    bad, good = read(tmp_path / "a.csv")
    assert (bad.problem[0], good.problem) == ("bad_segment", None)
    assert "is no time in a recording" in bad.problem[1]
