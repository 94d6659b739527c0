"""What readers pass over: counted by kind in one place, told once in the log and in the report, refused by --strict.

A reader that leaves anything of its input unread or unused is given a ``PassedOver`` and adds to it. What becomes a
row of ``_rejects`` is no such loss: it has a place and a reason already. Memory: a count and an example for each kind,
and for at most ``MOST_NAMES`` names of a kind (endings, columns) a count each.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pipeline.errors import ManifestError
from pipeline.redaction import redact

NOTE = "passed_over"
"""The note of a commit that holds what its unit passed over, where that is anything."""

MOST_NAMES = 100
"""Names of a kind that are counted each; the count of the kind itself has no limit."""

_NAMES_SHOWN = 8
_EXAMPLE_LENGTH = 160


class Kind(StrEnum):
    """What can be passed over. ``MEANINGS`` says of each what it is, docs/passed_over.md what to do about it."""

    OTHER_ENDINGS = "other_endings"
    HIDDEN_FILES = "hidden_files"
    LINKED_FOLDERS = "linked_folders"
    UNFIT_NAMES = "unfit_names"
    UNLISTED_FILES = "unlisted_files"
    UNREAD_MEMBERS = "unread_members"
    UNREAD_LABELS = "unread_labels"
    UNREAD_COLUMNS = "unread_columns"
    UNREAD_LINES = "unread_lines"
    UNMATCHED_SEGMENTS = "unmatched_segments"
    UNMATCHED_IDS = "unmatched_ids"
    OUTSIDE_UTTERANCE = "outside_utterance"
    RECORDING_LABELS = "recording_labels"
    UNREAD_END = "unread_end"
    SHORT_HEADERS = "short_headers"
    OTHER_STREAMS = "other_streams"
    LATE_AUDIO = "late_audio"
    NO_END_MARK = "no_end_mark"
    SPELT_MISSING = "spelt_missing"
    UNUSED_CHANNELS = "unused_channels"
    CHANNELS_CANCEL = "channels_cancel"
    WITHOUT_WORDS = "without_words"
    UNMATCHED_PATTERN = "unmatched_pattern"
    WITHOUT_LABEL = "without_label"
    KNOWN = "known"
    OTHER_SPLITS = "other_splits"
    TOO_FEW_TO_JOIN = "too_few_to_join"
    FILTERED = "filtered"
    NOT_SAMPLED = "not_sampled"
    JOINED_LABELS = "joined_labels"


MEANINGS: Mapping[Kind, str] = {
    Kind.OTHER_ENDINGS: "files whose ending is not one of those that the layout reads, by ending",
    Kind.HIDDEN_FILES: "files whose name begins with a dot, or in a folder of tars or tables with an underscore",
    Kind.LINKED_FOLDERS: "links to folders, which are not followed",
    Kind.UNFIT_NAMES: "recordings that are not named as in the layout: they are kept, without its labels",
    Kind.UNLISTED_FILES: "recordings of the folder that no table of the layout names",
    Kind.UNREAD_MEMBERS: "members of tars that are neither audio nor .txt nor .json, by ending",
    Kind.UNREAD_LABELS: "labels of tars that meet no audio",
    Kind.UNREAD_COLUMNS: "columns of tables, or fields of their rows, that are not read, by name; once for each table",
    Kind.UNREAD_LINES: "lines of a list that are of another kind than those that are read, or that repeat another",
    Kind.UNMATCHED_SEGMENTS: "segments of a list that name no recording of the corpus; they are rejects too",
    Kind.UNMATCHED_IDS: "entries of a table of labels whose id nothing of the corpus has",
    Kind.OUTSIDE_UTTERANCE: "times that pass the edges of their utterance, and are cut there, or lie in none",
    Kind.RECORDING_LABELS: "recordings whose text or clean_uri is that of the whole, and so of none of its segments",
    Kind.UNREAD_END: "files with bytes behind the end of what they say they hold",
    Kind.SHORT_HEADERS: "recordings whose header says less than the file holds: all of it is read",
    Kind.OTHER_STREAMS: "video, and audio behind the first stream, of recordings that hold several streams",
    Kind.LATE_AUDIO: "recordings whose audio begins later than the file: its first sample is taken for second 0",
    Kind.NO_END_MARK: "tars without an end mark, which may have been cut between two members",
    Kind.SPELT_MISSING: "names in CSV or TSV that are spelt nan, None, null or <NA>: they are taken for none",
    Kind.UNUSED_CHANNELS: "RTTM lines whose channel is not used, because it does not fit the recording or other lines",
    Kind.CHANNELS_CANCEL: "utterances whose channels cancel each other when they are averaged",
    Kind.WITHOUT_WORDS: "utterances that the word times do not name: they stay speech alone",
    Kind.UNMATCHED_PATTERN: "utterances in whose id the document pattern finds nothing: each is a document of its own",
    Kind.WITHOUT_LABEL: "utterances without a label that a setting reads, by column",
    Kind.KNOWN: "utterances that earlier manifests hold",
    Kind.OTHER_SPLITS: "utterances of other splits than those that were asked for",
    Kind.TOO_FEW_TO_JOIN: "utterances that are left over because too few of their labels are there, by these labels",
    Kind.FILTERED: "utterances of which a condition is not true, or is unknown because a label is missing",
    Kind.NOT_SAMPLED: "utterances that are not in the sample that was asked for",
    Kind.JOINED_LABELS: "utterances of several turns: their texts are joined, and labels on which they differ left out",
}
"""What each kind is, as a report says it."""

ASKED_FOR = frozenset({Kind.KNOWN, Kind.OTHER_SPLITS, Kind.FILTERED, Kind.NOT_SAMPLED})
"""Kinds that a setting asks for: they are counted and shown, and --strict does not refuse them."""


@dataclass
class _Count:
    count: int = 0
    example: str = ""
    names: Counter[str] = field(default_factory=Counter)

    def add(self, count: int, example: str, names: Mapping[str, int]) -> None:
        self.count += count
        self.example = self.example or example
        for name, number in names.items():
            if name in self.names or len(self.names) < MOST_NAMES:
                self.names[name] += number

    def __str__(self) -> str:
        """Give the count, the most frequent names, and the example."""
        names = sorted(self.names.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{name} {number:,}" for name, number in names[:_NAMES_SHOWN])
        more = self.count - sum(number for _, number in names[:_NAMES_SHOWN])
        shown += f", others {more:,}" if names and more > 0 else ""
        return f"{self.count:,}" + (f" ({shown})" if shown else "") + (f", as {self.example}" if self.example else "")


class PassedOver:
    """Counts of what was passed over, by kind, with one example each: the first that was met."""

    def __init__(self) -> None:
        self._counts: dict[Kind, _Count] = {}

    def add(self, kind: Kind, count: int = 1, *, example: str = "", name: str = "") -> None:
        """Count something that is passed over.

        Args:
            kind: What it is.
            count: How many; 0 changes nothing.
            example: One of them, as a path or an id, by which a person finds it. It holds no credentials.
            name: What it is counted by within its kind, where there is such a thing, as its ending.
        """
        if count:
            held = self._counts.setdefault(kind, _Count())
            # Spelling costs more than counting, and millions of files may be counted.
            shown = name if name in held.names else _shown(name)
            held.add(count, "" if held.example else _shown(example), {shown: count} if shown else {})

    def merge(self, other: "PassedOver", *, example: str = "") -> None:
        """Add what another has counted; its examples stand behind those that are here.

        Args:
            other: The other.
            example: What is an example of all that it counted, where it has none itself.
        """
        for kind, found in other._counts.items():
            self._counts.setdefault(kind, _Count()).add(found.count, found.example or _shown(example), found.names)

    def clear(self) -> None:
        """Begin anew, as where something is read a second time."""
        self._counts.clear()

    @classmethod
    def sum(cls, parts: Iterable["PassedOver"]) -> Self:
        """Add up what several have counted."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __getitem__(self, kind: Kind) -> int:
        """Give the count of a kind."""
        return self._counts[kind].count if kind in self._counts else 0

    def to_json(self) -> dict[str, Any]:
        """Give the counts as JSON values: by kind ``count``, ``example`` and, where there are any, ``names``."""
        return {
            str(kind): {"count": found.count, "example": found.example}
            | ({"names": dict(sorted(found.names.items()))} if found.names else {})
            for kind, found in sorted(self._counts.items())
        }

    @classmethod
    def of(cls, json: Mapping[str, Any]) -> Self:
        """Read what ``to_json`` gave."""
        passed_over = cls()
        for kind, found in json.items():
            count = _Count(count=found["count"], example=found["example"], names=Counter(found.get("names", {})))
            passed_over._counts[Kind(kind)] = count
        return passed_over

    def note(self) -> dict[str, Any]:
        """Give the note of a commit: empty where nothing was passed over, so that such commits are as ever."""
        return {NOTE: self.to_json()} if self else {}

    def lines(self) -> list[tuple[str, str]]:
        """Give a line for each kind, as label and value, for a report."""
        return [(f"passed over: {kind}", str(found)) for kind, found in sorted(self._counts.items())]

    def log(self, logger: logging.Logger, where: str) -> None:
        """Say each kind once: as a warning, or for one that was asked for as information."""
        for kind, found in sorted(self._counts.items()):
            level = logging.INFO if kind in ASKED_FOR else logging.WARNING
            logger.log(level, "%s: passed over %s: %s; %s", where, kind, MEANINGS[kind], found)

    def refuse(self, where: str) -> None:
        """Refuse whatever was passed over without having been asked for: what ``--strict`` means.

        Raises:
            ManifestError: There is any; each kind is named with its count and an example.
        """
        kinds = [(kind, found) for kind, found in sorted(self._counts.items()) if kind not in ASKED_FOR]
        if kinds:
            told = "".join(f"\n  {kind}: {found} - {MEANINGS[kind]}" for kind, found in kinds)
            raise ManifestError(
                f"{where} would be read in part, which --strict refuses; docs/passed_over.md says what to do about "
                f"each kind, or leave --strict away:{told}"
            )


class UnreadColumns:
    """The columns of one table, or fields of its objects, that nothing reads."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        """Say what is read.

        Args:
            fields: For each field the names that its column may have, of which the first that has a value is read.
        """
        self._fields = fields
        self._rivals: dict[tuple[str, ...], list[list[str]]] = {}
        self._names: dict[str, None] = {}

    def see(self, row: Mapping[str, Any]) -> None:
        """Meet a row: names that are not known, and values beside others that mean the same."""
        names = tuple(row)
        rivals = self._rivals.get(names)
        if rivals is None:
            rivals = self._meet(names)
        for rival in rivals:
            # NaN, which is missing too, is no value that equals itself.
            given = [name for name in rival if row[name] not in (None, "") and row[name] == row[name]]
            self._names.update(dict.fromkeys(given[1:]))

    def _meet(self, names: tuple[str, ...]) -> list[list[str]]:
        known = {name for options in self._fields.values() for name in options}
        # Objects may have names of their own each; what is counted by name is bounded anyway.
        left = MOST_NAMES - len(self._names)
        self._names.update(dict.fromkeys([name for name in names if name not in known][: max(0, left)]))
        there = [[name for name in options if name in names] for options in self._fields.values()]
        rivals = [options for options in there if len(options) > 1]
        if len(self._rivals) < MOST_NAMES:
            self._rivals[names] = rivals
        return rivals

    def count(self, passed_over: PassedOver, table: str) -> None:
        """Count each name once for this table."""
        for name in self._names:
            passed_over.add(Kind.UNREAD_COLUMNS, example=table, name=name or "(without a name)")


def _shown(text: str) -> str:
    """Spell a name or path in one line of at most 160 characters."""
    shown = redact(text)
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return line if len(line) <= _EXAMPLE_LENGTH else f"{line[: _EXAMPLE_LENGTH - 3]}..."
