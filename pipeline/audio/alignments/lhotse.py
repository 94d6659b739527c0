"""Alignments of lhotse: supervisions or cuts as JSON lines, packed with gzip or not.

A supervision has ``alignment: {word: [[symbol, start, duration, score], ...], phone: [...]}``. Its times are those of
the recording, in a cut too, though the start of a supervision counts from that of its cut there (lhotse 1.33:
``SupervisionSegment.with_offset`` moves the supervision alone). Before lhotse 1.8 an item was an object of these
values in this order.

Source: lhotse's ``supervision.py`` and ``cut/mono.py``. Memory: one line.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.audio.alignments.timed import Called, Interval, Timed, interval, number
from pipeline.audio.candidate import shown
from pipeline.audio.fields import spelt
from pipeline.audio.layouts.files import opened
from pipeline.audio.lines import Lines
from pipeline.audio.rows import json_row
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

_CUTS = ("MonoCut", "MultiCut", "Cut")
_ITEM = 3


def read_lhotse(uri: str, tier: str, passed_over: PassedOver) -> Iterator[Timed]:
    """Read supervisions, or those of cuts.

    Args:
        uri: The file.
        tier: Key of the alignment; ``words`` is ``word`` too.
        passed_over: Counts supervisions without such an alignment, and cuts that are mixed of others.

    Raises:
        ManifestError: It is absent, or a line cannot be read.
    """
    with opened(uri) as file:
        for line_number, line in Lines(file).numbered():
            where = f"line {line_number} of {uri}"
            row = json_row(line)
            if isinstance(row, str):
                raise ManifestError(f"{where}: {row}; supervisions and cuts of lhotse are JSON lines")
            yield from _row(row, tier, where, passed_over)


def _row(row: Mapping[str, Any], tier: str, where: str, passed_over: PassedOver) -> Iterator[Timed]:
    if row.get("type") in _CUTS:
        begin = number(row.get("start"), where)
        recording = row.get("recording")
        cut = Called(_name(row, "id", where), begin)
        whole = recording.get("id") if isinstance(recording, Mapping) else None
        for supervision in _list(row.get("supervisions"), where):
            yield from _supervision(supervision, tier, where, passed_over, begin=begin, cut=cut, whole=whole)
    elif "type" in row:
        passed_over.add(Kind.UNREAD_LINES, example=where, name=str(row["type"]))
    else:
        yield from _supervision(row, tier, where, passed_over)


def _supervision(
    row: Any,
    tier: str,
    where: str,
    passed_over: PassedOver,
    *,
    begin: float = 0.0,
    cut: Called | None = None,
    whole: str | None = None,
) -> Iterator[Timed]:
    """Read a supervision that begins ``start`` seconds behind ``begin`` on the clock of its recording."""
    if not isinstance(row, Mapping):
        raise ManifestError(f"{where}: a supervision must stand here, got {shown(row)}")
    name = _name(row, "id", where)
    recording = whole or _name(row, "recording_id", where)
    aligned = row.get("alignment")
    items = None
    if isinstance(aligned, Mapping):
        items = aligned.get(tier, aligned.get(tier.removesuffix("s")))
    if items is None:
        passed_over.add(Kind.WITHOUT_LABEL, example=f"{name}, {where}", name=f"alignment {tier}")
        return
    called = [Called(name, begin + number(row.get("start"), where)), *([cut] if cut is not None else [])]
    channel = row.get("channel")
    yield Timed(
        # One that is called as its recording would hide it.
        called=(*(each for each in called if each.name != recording), Called(recording, recording=True)),
        intervals=[_item(item, where) for item in _list(items, where)],
        channel=channel if isinstance(channel, int) and not isinstance(channel, bool) else None,
    )


def _item(item: Any, where: str) -> Interval:
    values = list(item.values()) if isinstance(item, Mapping) else item
    label = spelt(values[0]) if isinstance(values, list) and len(values) >= _ITEM else None
    if label is None:
        raise ManifestError(f"{where}: an item of an alignment is [symbol, start, duration, score], got {shown(item)}")
    start = number(values[1], where)
    return interval(start, start + number(values[2], where), label, where)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | None):
        raise ManifestError(f"{where}: a list must stand here, got {shown(value)}")
    return value or []


def _name(row: Mapping[str, Any], field: str, where: str) -> str:
    name = spelt(row.get(field))
    if not name:
        raise ManifestError(f"{where}: {field} must be a name, got {shown(row.get(field))}; is it of lhotse?")
    return name
