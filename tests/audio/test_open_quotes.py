"""A quote that is left open makes one row of many lines: what is lost by it is named and counted, in any table."""

import gzip
import io

import pytest

from pipeline.audio.corpora import read_corpus
from pipeline.audio.lines import MAX_LINE, Lines
from pipeline.audio.rows import MAX_FURTHER, read_header, table_reader, table_rows
from pipeline.audio.segment_lists import read_segments
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

HEADER = "uri,utterance_id,text\n"


def read(folder, text, name="l.csv"):
    (folder / name).write_text(text)
    passed_over = PassedOver()
    return list(read_corpus(str(folder / name), "listing", passed_over=passed_over)), passed_over.to_json()


def rows(*numbers):
    return "".join(f"{number}.wav,u{number:05d},text {number}\n" for number in numbers)


def test_rows_behind_an_open_quote_are_named_and_counted_and_those_behind_them_are_read(tmp_path):
    count = 20_000
    text = HEADER + rows(*range(10)) + '10.wav,u00010,"an open quote\n' + rows(*range(11, count))
    found, passed_over = read(tmp_path, text)
    (bad,) = [one for one in found if one.problem]
    lost = count - len(found)
    last = 12 + lost
    assert f"lines 12 to {last} are lost: a quote opened in line 12; not CSV: the row has more than" in bad.problem[1]
    assert passed_over["unread_lines"] == {
        "count": lost,
        "example": f"lines 12 to {last} of {tmp_path}/l.csv",
        "names": {"open quote": lost},
    }
    assert [one.utterance_id for one in found] == [
        *(f"u{number:05d}" for number in range(10)),
        bad.utterance_id,
        *(f"u{number:05d}" for number in range(11 + lost, count)),
    ]
    # No more is lost than fits beside one row.
    assert 1_000 < lost < MAX_FURTHER / len("11.wav,u00011,text 11") + 1


@pytest.mark.parametrize(
    ("behind", "last", "told"),
    [
        ("", 4, "unexpected end of data"),
        ('9.wav,u9,"quoted"\n9.wav,u9,end\n', 5, "',' expected after '\"'"),
        ('9.wav,u9,end","more"\n9.wav,u9,end\n', 5, "4 fields, but the header has 3"),
        ("x" * MAX_LINE + "\n9.wav,u9,end\n", 5, "the line has more than 4,194,304 characters"),
    ],
)
def test_however_the_row_of_an_open_quote_ends_its_lines_are_named(tmp_path, behind, last, told):
    found, passed_over = read(tmp_path, f'{HEADER}1.wav,u1,"open\n{rows(2, 3)}{behind}')
    assert f"lines 2 to {last} are lost: a quote opened in line 2; " in found[0].problem[1]
    assert told in found[0].problem[1]
    assert passed_over["unread_lines"]["names"] == {"open quote": last - 2}
    assert [one.utterance_id for one in found[1:]] == ["u9"] * (last == 5)


def test_rows_that_have_become_part_of_a_text_are_counted(tmp_path):
    found, passed_over = read(tmp_path, f'{HEADER}5.wav,u5,"open\n{rows(6, 7, 8)}9.wav,u9,closed"\n{rows(10)}')
    assert [one.utterance_id for one in found] == ["u5", "u00010"]
    assert passed_over["unread_lines"] == {
        "count": 4,
        "example": f"lines 2 to 6 of {tmp_path}/l.csv",
        "names": {"inside quotes": 4},
    }


def test_line_breaks_in_a_quoted_text_are_part_of_it(tmp_path):
    found, passed_over = read(tmp_path, f'{HEADER}1.wav,u1,"first, second\nthird\n\nlast"\n{rows(2)}')
    assert [(one.text, one.problem) for one in found] == [
        ("first, second\nthird\n\nlast", None),
        ("text 2", None),
    ]
    assert passed_over == {}


def test_a_segment_list_counts_them_too(tmp_path):
    (tmp_path / "s.csv").write_text('recording,start,end,text\na,0,1,"open\na,1,2,b\n')
    passed_over = PassedOver()
    assert len(list(read_segments(str(tmp_path / "s.csv"), passed_over=passed_over))) == 1
    assert passed_over.to_json()["unread_lines"]["names"] == {"open quote": 1}


def test_a_table_without_line_breaks_in_cells_loses_the_lines_that_a_quote_holds(tmp_path):
    columns = "session_id|id_|start_time|end_time|speaker_id|normed_text|split"
    texts = ["a", '"open', "b", 'closed"', "c"]
    lines = [columns, *(f"2018-A|{n}|0|1|s|{text}|train" for n, text in enumerate(texts))]
    (tmp_path / "asr_en.tsv.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    (tmp_path / "raw_audios/original/2018").mkdir(parents=True)
    (tmp_path / "raw_audios/original/2018/2018-A_original.ogg").touch()
    passed_over = PassedOver()
    found = list(read_corpus(str(tmp_path), "voxpopuli", passed_over=passed_over))
    assert [one.utterance_id for one in found if not one.problem] == ["2018-A-0", "2018-A-4"]
    assert "lines 3 to 5 are lost: a quote opened in line 3; a cell holds a line break" in found[1].problem[1]
    assert passed_over.to_json()["unread_lines"]["names"] == {"open quote": 2}


def test_an_empty_table_of_voxpopuli_is_called_so(tmp_path):
    (tmp_path / "asr_en.tsv").touch()
    with pytest.raises(ManifestError, match=r"asr_en\.tsv is empty"):
        list(read_corpus(str(tmp_path), "voxpopuli", passed_over=PassedOver()))


@pytest.mark.parametrize("tabs", [False, True])
def test_a_cell_is_as_long_as_a_line_may_be(tabs):
    separator = "\t" if tabs else ","
    text = "x" * (MAX_LINE - 20)
    lines = Lines(io.BytesIO(f"uri{separator}text\na.wav{separator}{text}\n".encode()))
    reader = table_reader(lines, tabs=tabs)
    ((number, row),) = table_rows(reader, lines, read_header(reader, "t"))
    assert (number, row) == (2, {"uri": "a.wav", "text": text})
