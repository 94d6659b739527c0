"""Entries of tables, lists and JSON: what a layout says of one utterance becomes a candidate, or one with a problem."""

from collections.abc import Mapping
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, locate, printable
from pipeline.audio.listings import read_labels
from pipeline.audio.manifest import encode_id
from pipeline.errors import AudioDecodeError
from pipeline.redaction import redact_uri


def entry(
    name: str,
    written: str,
    folder: str,
    where: str,
    *,
    labels: Mapping[str, Any],
    offset_seconds: float | None = None,
    duration_seconds: float | None = None,
    **place: Any,
) -> Candidate:
    """Make a candidate of an entry.

    Args:
        name: The utterance's name; it becomes its encoded id.
        written: Path or URI of the recording, as written.
        folder: Where relative paths begin.
        where: What names the entry for a person, as ``line 3 of train.tsv``.
        labels: Values by the names of ``schema.LABELS``; null, empty and NaN are none.
        offset_seconds: Start in the recording, seconds.
        duration_seconds: Length, seconds.
        **place: Further fields of the candidate.

    Returns:
        It; with a problem where the path or a label cannot be used.
    """
    try:
        name = fields.label({"utterance_id": name}, ("utterance_id",), "utterance_id") or ""
        return Candidate(
            utterance_id=encode_id(name),
            uri=locate(written, folder),
            offset_seconds=offset_seconds,
            duration_seconds=duration_seconds,
            **read_labels(labels, folder),
            **place,
        )
    except AudioDecodeError as error:
        return refused(printable(redact_uri(name)), written, where, error)


def refused(name: str, written: str, where: str, error: AudioDecodeError) -> Candidate:
    """Make a candidate of an entry that cannot be used.

    Args:
        name: What it is to be called, as ``@row7`` where it has no name of its own.
        written: The recording as written, or nothing.
        where: What names the entry for a person.
        error: Why.
    """
    uri = printable(redact_uri(written))
    return Candidate(utterance_id=encode_id(name), uri=uri, problem=(str(error.reason), f"{where}: {error.detail}"))
