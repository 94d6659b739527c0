"""Candidates: what a corpus says about an utterance, before any byte of its audio was read.

Also the rules for the paths and URIs that corpora hold: local or S3, without credentials, storable as UTF-8.
"""

import os
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote

from pipeline.errors import AudioDecodeError
from pipeline.redaction import holds_secret, redact_uri
from pipeline.schema import Reason

EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3"),
    *(".sph", ".aiff", ".aif", ".aifc", ".au", ".snd", ".w64", ".rf64", ".caf"),
    *(".m4a", ".mp4", ".aac", ".amr", ".awb", ".wma", ".webm", ".mka", ".mkv", ".3gp"),
)
"""What counts as a recording when a folder is searched, in any case."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_UNSTORABLE = re.compile("[\x00\n\r\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One utterance that a corpus announces.

    Attributes:
        utterance_id: An encoded id; it may still be a duplicate.
        uri: An absolute local path or an ``s3://`` URI, normalised, without credentials; for a candidate with a
            problem whatever can be shown of it.
        offset_seconds: Start of the utterance in the recording, seconds; None is the start.
        duration_seconds: Length of the utterance, seconds; None is to the end.
        channel: The channel to read, from 0; None leaves it to the stage.
        channels: Several channels, from 0, that are meant where ``channel`` is None, or those that a segment list
            names; of a recording with just these they are all, and left to the stage.
        channel_hint: A channel, from 0, that counts where the recording has several: that of RTTM.
        text: What is said.
        speaker: Who says it.
        emotion: In which emotion, one English word.
        language: In which language, an ISO 639 code.
        split: The part of the corpus: ``train``, ``test`` ...
        clean_uri: The same utterance without noise.
        member: With the next four where the recording lies inside its file; see ``schema.PART``.
        byte_offset: First byte of a tar's member.
        num_bytes: Length of a tar's member.
        row_group: Row group of a Parquet cell.
        row: Row of the cell in its group.
        problem: A ``schema.Reason`` and a sentence, where this cannot become a row of the manifest.
    """

    utterance_id: str
    uri: str
    offset_seconds: float | None = None
    duration_seconds: float | None = None
    channel: int | None = None
    channels: tuple[int, ...] = ()
    channel_hint: int | None = None
    text: str | None = None
    speaker: str | None = None
    emotion: str | None = None
    language: str | None = None
    split: str | None = None
    clean_uri: str | None = None
    member: str | None = None
    byte_offset: int | None = None
    num_bytes: int | None = None
    row_group: int | None = None
    row: int | None = None
    problem: tuple[str, str] | None = None


def stem(path: str) -> str:
    """Drop the extension of a recording; any other ending is part of the name."""
    base, extension = posixpath.splitext(path)
    return base if extension.lower() in EXTENSIONS else path


def storable(text: str) -> bool:
    """Say whether a text fits a UTF-8 column of paths: no NUL, no line break, no undecodable byte."""
    # What is printable has none of these, and is told much faster.
    return text.isprintable() or _UNSTORABLE.search(text) is None


def printable(text: str) -> str:
    """Escape with a backslash what ``storable`` refuses, so that a person can read the rest."""
    return _UNSTORABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shown(value: object) -> str:
    """Give what a message shows of a value that a table holds: without secrets, on one line, 80 characters of it."""
    if isinstance(value, str | int | float):
        return repr(printable(redact_uri(str(value)))[:80])
    # What an object holds may be anything, a password too.
    kinds: dict[type, str] = {dict: "an object", list: "a list", bytes: "bytes"}
    return kinds.get(type(value), type(value).__name__)


def refuse_secret_name(name: str, field: str) -> None:
    """Refuse a name that holds credentials, as a signed URL does: names become parts of every dataset.

    Raises:
        AudioDecodeError: BAD_ROW; its detail shows no secret.
    """
    # Without one of these it is no URI: speakers and takes are joined by colons and at signs too.
    if any(mark in name for mark in "/?=") and holds_secret(name):
        raise AudioDecodeError(
            Reason.BAD_ROW, f"the {field} {shown(name)} carries credentials or a signature; give a name without them"
        )


def locate(written: str, base: str) -> str:
    """Turn the path or URI that a listing holds into the one to read.

    Args:
        written: A relative or absolute path, ``file://`` or ``s3://`` URI.
        base: Folder of the listing: an absolute path or ``s3://bucket/prefix``.

    Returns:
        A normalised absolute path or S3 URI. Whether it lies under a declared root is for its reader to decide.

    Raises:
        AudioDecodeError: BAD_ROW for what cannot be read; its detail shows no secret.
    """
    scheme = _SCHEME.match(written)
    name = scheme[1].lower() if scheme else None
    if name not in (None, "file", "s3"):
        raise AudioDecodeError(Reason.BAD_ROW, f"audio is read from local paths and s3://, not {redact_uri(written)!r}")
    _refuse_secrets(written, base)
    if scheme and name == "file":
        host, slash, path = written[scheme.end() :].partition("/")
        if host not in ("", "localhost"):
            raise AudioDecodeError(Reason.BAD_ROW, f"a file:// URI names the host {redact_uri(host)!r}; give a path")
        written = unquote(slash + path)
    if not storable(written):
        raise AudioDecodeError(Reason.BAD_ROW, f"the path {printable(redact_uri(written))!r} is not one line of UTF-8")
    if scheme and name == "s3":
        return _s3(written[scheme.end() :])
    if base.startswith("s3://") and not written.startswith("/"):
        return _s3(f"{base.removeprefix('s3://')}/{written}")
    return os.path.normpath(os.path.join(base, written))


def _refuse_secrets(written: str, base: str) -> None:
    """Refuse a URI with credentials or a signature, also one that lacks its scheme or a slash, unless it is a file."""
    if not holds_secret(written):
        return
    # A file may be called anything: pages that were fetched with their query have such names.
    if _SCHEME.match(written) is None and not base.startswith("s3://") and os.path.lexists(os.path.join(base, written)):
        return
    raise AudioDecodeError(
        Reason.BAD_ROW,
        f"a URI must not carry credentials or a signed query: {printable(redact_uri(written))!r}; give credentials to "
        "the environment (AWS_PROFILE, instance role)",
    )


def _s3(rest: str) -> str:
    bucket, _, key = rest.partition("/")
    if "?" in key:
        raise AudioDecodeError(Reason.BAD_ROW, f"an S3 URI must not carry a query: {redact_uri('s3://' + rest)!r}")
    key = posixpath.normpath(key)
    if not bucket or key.split("/")[0] in (".", ".."):
        raise AudioDecodeError(Reason.BAD_ROW, f"{redact_uri('s3://' + rest)!r} names no object of a bucket")
    return f"s3://{bucket}/{key.lstrip('/')}"
