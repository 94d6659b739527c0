"""Conditions on utterances in a closed part of SQL: comparisons of a row's columns, read and evaluated by polars.

Polars' own parser opens files while it reads an expression (``read_csv`` in a subquery), and aggregates and windows
would make a row's verdict hang on other rows. So a text reaches it only when every word of it is known here: a column,
one of a few keywords, or a function of a row's own values.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import SettingsError
from pipeline.schema import LABELS

if TYPE_CHECKING:
    import polars

COLUMNS: Mapping[str, pa.DataType] = {
    "utterance_id": pa.string(),
    "duration": pa.float64(),
    "sample_rate": pa.int64(),
    "channel": pa.int64(),
    **{name: pa.string() for name in LABELS},
}
"""What a condition may name; ``duration`` in seconds."""

KEYWORDS = (
    *("and", "or", "not", "between", "in", "is", "null", "like", "ilike"),
    *("case", "when", "then", "else", "end", "true", "false"),
)
FUNCTIONS = (
    *("lower", "upper", "length", "starts_with", "ends_with"),
    *("abs", "round", "floor", "ceil", "coalesce", "nullif"),
)

_MAX_LENGTH = 100_000
# Polars takes 0.2 s to read 100 comparisons joined by and, 150 s for 1,000.
_MAX_WORDS = 500
_BATCH = 100_000
_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
    | (?P<quoted>"[^"]*")
    | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<comment>--|/\*)
    | (?P<operator>[=<>!]=|<>|[=<>]|!?~\*?|\|\||[-+*/%(),])
    | (?P<blank>[ \t\r\n]+)""",
    re.VERBOSE,
)
_WORDS = ("text", "quoted", "number", "word")


def check_words(where: str) -> None:
    """Refuse a condition that has a word of another kind than those that are known.

    Raises:
        SettingsError: It has; or it is empty, too long, or names no column.
    """
    if len(where) > _MAX_LENGTH:
        raise SettingsError(f"where has {len(where):,} characters; at most {_MAX_LENGTH:,} are read")
    place, before, named, count = 0, "", False, 0
    while place < len(where):
        token = _TOKEN.match(where, place)
        kind = (token and token.lastgroup) or ""
        # A word right behind another is E'...' or 16_000, which SQL reads in ways of its own.
        if token is None or kind == "comment" or (kind in _WORDS and before in _WORDS):
            raise _bad(where, f"it cannot be read from {where[place : place + 20]!r} on")
        word = token[0].strip('"') if kind == "quoted" else token[0]
        known = word in COLUMNS or (kind == "word" and word.lower() in (*KEYWORDS, *FUNCTIONS))
        if kind in ("quoted", "word") and not known:
            raise _bad(where, f"it has no column, word or function {word!r}")
        named = named or (kind in ("quoted", "word") and word in COLUMNS)
        count += kind in ("quoted", "word") or (kind == "operator" and word not in "(),")
        place, before = token.end(), kind
    if not named:
        raise _bad(where, "it names no column")
    if count > _MAX_WORDS:
        raise SettingsError(
            f"where has {count:,} words and operators; at most {_MAX_WORDS} are read, beside the texts and numbers of "
            "in (...)"
        )


class Condition:
    """A condition that each row of a manifest fulfils or not, whatever other rows there are."""

    def __init__(self, where: str) -> None:
        """Read a condition, and try it on two rows made up.

        Raises:
            SettingsError: It cannot be read, is no truth value, or polars is not installed.
        """
        check_words(where)
        try:
            import polars
        except ImportError as error:
            raise SettingsError('where needs polars; install it with: pip install "strata-tokens[filters]"') from error
        self._where, self._polars = where, polars
        # What panics in Rust is no Exception.
        self._errors = (polars.exceptions.PolarsError, polars.exceptions.PanicException)
        try:
            self._expression = polars.sql_expr(where)
        except self._errors as error:
            raise _bad(where, _first_line(error)) from error
        found = self._evaluate(_made_up())
        if found.dtype != polars.Boolean:
            raise _bad(where, f"it gives {found.dtype}, and must be true or false")

    def verdicts(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Say of each row whether it fulfils the condition.

        Args:
            rows: N rows of a manifest.

        Returns:
            Two bool arrays (N,): where it is true, and where it is neither true nor false, because a value is missing.

        Raises:
            SettingsError: It cannot be evaluated.
        """
        true, unknown = [np.zeros(0, bool)], [np.zeros(0, bool)]
        for begin in range(0, rows.num_rows, _BATCH):
            found = self._evaluate(_columns(rows.slice(begin, _BATCH)))
            true.append(found.fill_null(False).to_numpy())
            unknown.append(found.is_null().to_numpy())
        return np.concatenate(true), np.concatenate(unknown)

    def _evaluate(self, columns: pa.Table) -> "polars.Series":
        try:
            frame = self._polars.DataFrame(columns)
            return frame.select(self._expression.alias("verdict"))["verdict"]
        except self._errors as error:
            raise _bad(self._where, _first_line(error)) from error


def _columns(rows: pa.Table) -> pa.Table:
    rate = rows["sample_rate"].cast(pa.int64())
    given = {name: rows[name] for name in COLUMNS if name in rows.column_names}
    given |= {"duration": pc.divide(rows["num_samples"].cast(pa.float64()), rate.cast(pa.float64()))}
    return pa.table({name: given[name].cast(kind) for name, kind in COLUMNS.items()})


def _made_up() -> pa.Table:
    """Give a row of values and one of nulls: faults of types and patterns show where there is something to compare."""
    values = {pa.string(): "a", pa.int64(): 1, pa.float64(): 1.0}
    return pa.table({name: pa.array([values[kind], None], kind) for name, kind in COLUMNS.items()})


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _bad(where: str, why: str) -> SettingsError:
    return SettingsError(
        f"where {where[:300]!r} cannot be used: {why}. Its columns are {', '.join(COLUMNS)}; its words "
        f"{', '.join(KEYWORDS)}; its functions {', '.join(FUNCTIONS)}; texts stand in '...'"
    )
