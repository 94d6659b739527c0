"""Which labels of a tar belong to which of its recordings, wherever they lie in it.

A recording ``d/rec.001.flac`` takes its text, and likewise its fields, from the first of these that there is:

    d/rec.001.txt, d/rec.001.flac.txt, d/rec.txt     among the members beside it, which share ``d/rec``
    the same names                                   anywhere else in the tar; of equal names the last one counts

So names that differ in their ending alone belong together, dots or not, and a label of ``d/rec`` is that of all
recordings beside it that have none of their own. Memory: names and labels of a tar, at most
``tar_shards.MAX_HELD_BYTES``.
"""

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.audio.candidate import stem
from pipeline.audio.fields import is_missing, parse_json
from pipeline.audio.walking import ending_of
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason

KINDS = ("txt", "json")
"""The endings of labels: a text, and an object of fields."""


@dataclass(kw_only=True, eq=False)
class Label:
    """A member that holds labels, its name with that of its tar: its content, or why it cannot be read."""

    name: str
    content: bytes = b""
    problem: AudioDecodeError | None = None
    used: bool = False


@dataclass(kw_only=True, eq=False)
class Sample:
    """Neighbouring members whose names are the same up to the first dot, ``key``: recordings, and labels by place."""

    key: str
    audio: list[tarfile.TarInfo] = field(default_factory=list)
    labels: dict[tuple[str, str], Label] = field(default_factory=dict)


@dataclass(kw_only=True)
class Members:
    """What is held of a tar until its labels are given to its recordings."""

    samples: list[Sample] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def joined(self) -> Iterator[tuple[tarfile.TarInfo, dict[str, Label]]]:
        """Give every recording in order, with its labels by kind."""
        everywhere = {place: label for sample in self.samples for place, label in sample.labels.items()}
        for sample in self.samples:
            for member in sample.audio:
                names = (stem(member.name), member.name, sample.key)
                found = {}
                for kind in KINDS:
                    places = [(held, (name, kind)) for held in (sample.labels, everywhere) for name in names]
                    label = next((held[place] for held, place in places if place in held), None)
                    if label is not None:
                        label.used = True
                        found[kind] = label
                yield member, found

    def count_unread(self, passed_over: PassedOver) -> None:
        """Count the labels that no recording has taken."""
        for label in self.labels:
            if not label.used:
                passed_over.add(Kind.UNREAD_LABELS, example=label.name, name=ending_of(label.name))


def label_place(name: str) -> tuple[str, str] | None:
    """Give the name of a member without its ending, and the kind of label that it is; None for another member."""
    before, dot, ending = name.rpartition(".")
    return (before, ending.lower()) if dot and ending.lower() in KINDS else None


def fields_of(labels: Mapping[str, Label], passed_over: PassedOver) -> dict[str, Any]:
    """Join the labels of a recording: the fields of its JSON, and its text, which goes before one in the JSON.

    Args:
        labels: By kind.
        passed_over: Counts texts in JSON that differ from the text.

    Raises:
        AudioDecodeError: BAD_ROW for a label that cannot be read.
    """
    for label in labels.values():
        if label.problem is not None:
            raise label.problem
    row: Any = {}
    try:
        if "json" in labels:
            row = parse_json(labels["json"].content.decode("utf-8-sig"))
        if not isinstance(row, dict):
            raise AudioDecodeError(Reason.BAD_ROW, "the .json of the sample is not an object")
        if "txt" in labels:
            text = labels["txt"].content.decode("utf-8-sig").strip()
            if row.get("text") != text and not is_missing(row.get("text")):
                passed_over.add(Kind.UNREAD_LABELS, example=labels["json"].name, name="text of .json")
            row["text"] = text
    except (ValueError, RecursionError) as error:
        raise AudioDecodeError(Reason.BAD_ROW, f"the labels of the sample cannot be read: {error}") from error
    return row
