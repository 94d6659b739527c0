"""The closed language of conditions: what each row gets, what is refused, and that no file is read for it."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.audio import conditions
from pipeline.audio.conditions import COLUMNS, FUNCTIONS, KEYWORDS, Condition
from pipeline.audio.filter_settings import FilterSettings
from pipeline.errors import SettingsError

RATE = 16_000
BLANK = dict.fromkeys(schema.MANIFEST.names)
USUAL = {"uri": "/x.wav", "offset_samples": 0, "num_samples": 2 * RATE, "sample_rate": RATE, "shard": 0}
GIVEN = (
    {"num_samples": RATE // 2, "language": "en", "text": "It's"},
    {"language": "en", "text": "", "channel": 1},
    {"language": "de", "text": "hallo"},
    {"num_samples": 40 * RATE, "language": "en"},
    {},
)
ROWS = pa.Table.from_pylist(
    [{**BLANK, **USUAL, "utterance_id": f"u{number}", **row} for number, row in enumerate(GIVEN)],
    schema=schema.MANIFEST,
)


@pytest.mark.parametrize(
    ("where", "true", "unknown"),
    [
        ("duration between 1 and 30 and language == 'en'", [1], [4]),
        ("duration BETWEEN 1 AND 30", [1, 2, 4], []),
        ("duration >= .5 and duration < 1e0", [0], []),
        ("language = 'en' or language is null", [0, 1, 3, 4], []),
        ("language in ('en', 'de') and not duration > 30", [0, 1, 2], [4]),
        ("language != 'en'", [2], [4]),
        ("text = 'It''s'", [0], [3, 4]),
        ("text ilike 'it%' or text ~ '^h.l+o$'", [0, 2], [3, 4]),
        ("length(text) / duration > 2", [0, 2], [3, 4]),
        ("coalesce(text, '') <> ''", [0, 2], []),
        ("channel = 1", [1], [0, 2, 3, 4]),
        ('"duration" > 30', [3], []),
        ("case when language = 'en' then duration > 1 else false end", [1, 3], []),
        ("utterance_id in ('u1', 'u3')", [1, 3], []),
        ("sample_rate % 8000 = 0 and speaker is null", [0, 1, 2, 3, 4], []),
        ("text like '%--%' or text like '%/*%' or text = 'select \"x'", [], [3, 4]),
    ],
)
def test_a_condition_is_true_false_or_unknown_for_each_row(where, true, unknown):
    found = Condition(where).verdicts(ROWS)
    assert [np.flatnonzero(one).tolist() for one in found] == [true, unknown]


def test_a_verdict_hangs_on_no_other_row(monkeypatch):
    monkeypatch.setattr(conditions, "_BATCH", 2)
    true, unknown = Condition("language = 'en' and duration > 1").verdicts(ROWS)
    assert (true.tolist(), unknown.tolist()) == ([False, True, False, True, False], [False] * 4 + [True])


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("langauge = 'en'", "no column, word or function 'langauge'"),
        ('"uri" = 1', "no column, word or function 'uri'"),
        ("duration >", "unable to parse"),
        ("duration", "it gives Float64, and must be true or false"),
        ("lower(text)", "it gives String"),
        ("duration = 'a'", "cannot compare string"),
        ("text ~ '('", "regex"),
        ("language + 1 > 2", "arithmetic"),
        ("length > 1 and duration > 1", "length"),
        ("true", "it names no column"),
        ("", "it names no column"),
        ("duration > avg(duration)", "'avg'"),
        ("row_number() over (order by duration) < 2", "'row_number'"),
        ("sample_rate >= 16_000", "cannot be read from '_000'"),
        ("text = E'a'", "no column, word or function 'E'"),
        ("text = $$a$$", r"cannot be read from '\$\$a\$\$'"),
        ("duration > 1 -- all", "cannot be read from '-- all'"),
        ("duration > 1 /* all */", "cannot be read from '/\\* all"),
        ("duration > 1; duration", "cannot be read from '; duration'"),
        ("text = 'a", 'cannot be read from "\'a"'),
        ("speaker.x = 1", "cannot be read from '.x = 1'"),
        ("duration > 1 as x", "'as'"),
        (" and ".join(["duration > 1"] * 200), "where has 599 words"),
        ("duration > 1" + " " * 100_000, "characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_there_is(where, says):
    with pytest.raises(SettingsError, match=says) as told:
        Condition(where)
    if "characters" not in says and "words" not in says:
        assert ", ".join(COLUMNS) in str(told.value)


def test_a_long_list_of_ids_can_be_asked_for():
    listed = ", ".join(f"'u{number}'" for number in range(3, 9_000))
    assert Condition(f"utterance_id in ({listed})").verdicts(ROWS)[0].tolist() == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    "where",
    [
        "duration in (select x from read_csv('{}'))",
        "duration > (select max(x) from read_csv('{}'))",
        "exists (from read_csv('{}'))",
        "duration in (table '{}')",
        "text = E'\\'' and exists(select 1 from read_csv('{}')) and text = E'\\''",
        "text = $$ ' $$ and duration in (select x from read_csv('{}')) and text = $$ ' $$",
    ],
)
def test_no_file_is_read_for_a_condition(tmp_path, where, monkeypatch):
    # Polars' own parser would read it, and say what it lacks.
    where = where.format(tmp_path / "there-is-none.csv")
    parsed = []
    import polars

    monkeypatch.setattr(polars, "sql_expr", parsed.append)
    with pytest.raises(SettingsError):
        Condition(where)
    assert parsed == []


def test_the_words_of_the_language_name_nothing_that_reads_or_counts_over_rows():
    known = {*COLUMNS, *KEYWORDS, *FUNCTIONS}
    assert not known & {"select", "from", "table", "values", "with", "over", "count", "sum", "min", "max", "as", "cast"}
    assert not [word for word in known if word.startswith("read")]


def test_every_function_is_one_that_polars_has():
    for call in ("lower(text)", "upper(text)", "coalesce(text, language)", "nullif(text, '')"):
        Condition(f"{call} = 'a'")
    for call in ("abs(duration)", "round(duration)", "floor(duration)", "ceil(duration)", "length(text)"):
        Condition(f"{call} > 1")
    for call in ("starts_with", "ends_with"):
        Condition(f"{call}(text, 'a')")


def test_without_polars_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(SettingsError, match=r'pip install "strata-tokens\[filters\]"'):
        Condition("duration > 1")
    # Words are looked at without it.
    assert FilterSettings.of(where="duration > 1").where == "duration > 1"
    FilterSettings.of(sample_hours=1.0).content()
