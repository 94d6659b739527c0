import json
import logging
import re
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.passed_over import ASKED_FOR, MEANINGS, MOST_NAMES, Kind, PassedOver, UnreadColumns

DOCUMENT = Path(__file__).parents[1] / "docs" / "passed_over.md"


def counted():
    found = PassedOver()
    found.add(Kind.OTHER_ENDINGS, example="b/two.m4a", name=".m4a")
    found.add(Kind.OTHER_ENDINGS, 3, example="a/one.sph", name=".sph")
    found.add(Kind.KNOWN, 7, example="u1")
    return found


def test_the_document_has_each_kind_with_its_meaning():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert {kind: meaning for kind, meaning, _ in rows} == {str(kind): MEANINGS[kind] for kind in Kind}
    assert len(rows) == len(Kind) == len(MEANINGS)


def test_counts_survive_json_and_keep_the_first_example():
    found = counted().to_json()
    assert found == {
        "known": {"count": 7, "example": "u1"},
        "other_endings": {"count": 4, "example": "b/two.m4a", "names": {".m4a": 1, ".sph": 3}},
    }
    assert PassedOver.of(json.loads(json.dumps(found))).to_json() == found


def test_sums_do_not_depend_on_how_the_work_was_parted():
    whole, one, two = PassedOver(), counted(), PassedOver()
    two.add(Kind.OTHER_ENDINGS, 2, example="c/three.sph", name=".sph")
    for part in (one, two):
        whole.merge(part)
    assert whole[Kind.OTHER_ENDINGS] == 6
    assert whole.to_json()["other_endings"] == {
        "count": 6,
        "example": "b/two.m4a",
        "names": {".m4a": 1, ".sph": 5},
    }
    # What was merged stays its own.
    assert one[Kind.OTHER_ENDINGS] == 4


def test_nothing_passed_over_leaves_no_trace(caplog):
    nothing = PassedOver()
    nothing.add(Kind.OTHER_ENDINGS, 0, example="x")
    nothing.refuse("corpus")
    nothing.log(logging.getLogger(), "corpus")
    assert not nothing
    assert nothing.to_json() == nothing.note() == {}
    assert nothing.lines() == []
    assert caplog.text == ""


def test_names_without_end_take_bounded_memory_and_are_counted_all_the_same():
    found = PassedOver()
    for number in range(10 * MOST_NAMES):
        found.add(Kind.OTHER_ENDINGS, example="x", name=f".{number}")
    assert found[Kind.OTHER_ENDINGS] == 10 * MOST_NAMES
    assert len(found.to_json()["other_endings"]["names"]) == MOST_NAMES
    assert "others 992" in dict(found.lines())["passed over: other_endings"]


def test_an_example_is_one_printable_line():
    found = PassedOver()
    found.add(Kind.OTHER_ENDINGS, example="a\n\x1b[31m\udcff" + 300 * "b")
    example = found.to_json()["other_endings"]["example"]
    assert example.isprintable()
    assert example.startswith(r"a\n\x1b[31m\udcffbbb")
    assert len(example) == 160


def test_a_report_has_a_line_for_each_kind_with_names_and_an_example():
    assert counted().lines() == [
        ("passed over: known", "7, as u1"),
        ("passed over: other_endings", "4 (.sph 3, .m4a 1), as b/two.m4a"),
    ]


def test_the_log_says_each_kind_once_and_warns_of_what_nobody_asked_for(caplog):
    with caplog.at_level(logging.INFO):
        counted().log(logging.getLogger("reader"), "corpus")
    assert [(record.levelname, record.getMessage().split(";")[0]) for record in caplog.records] == [
        ("INFO", f"corpus: passed over known: {MEANINGS[Kind.KNOWN]}"),
        ("WARNING", f"corpus: passed over other_endings: {MEANINGS[Kind.OTHER_ENDINGS]}"),
    ]


def test_strict_names_kinds_counts_and_examples_and_lets_pass_what_was_asked_for():
    with pytest.raises(ManifestError) as refused:
        counted().refuse("corpus")
    assert "other_endings: 4 (.sph 3, .m4a 1), as b/two.m4a" in str(refused.value)
    assert "known" not in str(refused.value)
    asked = PassedOver()
    for kind in ASKED_FOR:
        asked.add(kind, example="u1")
    asked.refuse("corpus")


def test_a_column_is_counted_once_for_each_table():
    found = PassedOver()
    for table in ("a.csv", "b.csv"):
        columns = UnreadColumns({"text": ("text", "sentence")})
        columns.see({"text": "a", "age": 1})
        columns.see({"age": 2, "": 3})
        columns.count(found, table)
    assert found.to_json()["unread_columns"] == {
        "count": 4,
        "example": "a.csv",
        "names": {"(without a name)": 2, "age": 2},
    }


def test_of_two_columns_that_mean_the_same_the_second_is_counted_where_both_have_values():
    found, columns = PassedOver(), UnreadColumns({"text": ("text", "sentence")})
    columns.see({"text": None, "sentence": "a"})
    columns.count(found, "a.csv")
    assert not found
    columns.see({"text": "a", "sentence": "A!"})
    columns.count(found, "a.csv")
    assert found.to_json()["unread_columns"]["names"] == {"sentence": 1}


def test_rows_that_each_have_names_of_their_own_take_bounded_memory():
    found, columns = PassedOver(), UnreadColumns({})
    for number in range(10 * MOST_NAMES):
        columns.see({f"name{number}": 1})
    columns.count(found, "a.jsonl")
    assert len(columns._rivals) == found[Kind.UNREAD_COLUMNS] == MOST_NAMES
