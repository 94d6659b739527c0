"""What is a secret in a text, and how a text is shown without it: the one place that messages and records use.

Secrets are: what stands before the ``@`` of a URI (``user:password@``), also where the URI lacks a slash or its scheme;
the query of a URI; values of parameters and keys that carry credentials (``X-Amz-Signature=``, ``sig=``,
``password:``); and tokens that are known by their form. Innocent are paths with ``@`` or ``:``, e-mail addresses and
times. Labels and transcripts are data: they are stored as they are, and redacted where a message shows them.

All patterns take time linear in the text.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "..."
"""What is shown in place of a secret."""

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,20}"
_KNOWN = r"(?:s3[an]?|gs|gcs|https?|ftps?|sftp|ssh|hdfs|abfss?|wasbs?|azure|az|file|ray|redis|hf|minio)"
_BEGIN = rf"(?:{_SCHEME}://+|{_KNOWN}:[/\\]*|{_KNOWN}//)"
"""How a URI begins, also one that misses a slash or the colon, or has a slash too many."""

# A URI within a text ends at a blank or at what quotes it.
_URI = re.compile(rf"(?<![\w+.-])({_BEGIN})([^\s\"'`<>]+)", re.IGNORECASE)
_WHOLE_URI = re.compile(rf"({_BEGIN})(.+)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]*\]|[^:@]*)(?::\d{0,5})?")

_BARE = re.compile(
    rf"(?<![^\s\"'`<>(\[{{=,;])(?!(?:{_SCHEME}:[/\\]|mailto:))(?://)?"
    r"([^\s\"'`<>/:@]{1,128}:[^\s\"'`<>@]{1,512})@(?=[\w.\[-])"
)
"""Userinfo without a scheme where a word begins: ``user:password@host``."""
_TIME = re.compile(r"[\dTZ:.,;+-]*")

_QUERY = (
    "sig|signature|token|auth|authorization|key|code|secret|password|passwd|pwd|credentials?|sas|key-pair-id|policy"
)
_NAMES = (
    "x-(?:amz|goog|ms|oss|cos)-[a-z-]+|(?:aws_?)?secret_?access_?key|aws_?session_?token|aws_?access_?key_?id|"
    "googleaccessid|account_?key|shared_?access_?(?:key|signature)|access_?token|auth_?token|refresh_?token|"
    "api_?key|client_?secret|secret_?key|private_?key|secret|password|passwd|passphrase|pwd|authorization"
)
_VALUE = r"[^\s\"'`<>&;,)\]}]+"
_PARAMETER = re.compile(rf"((?:[?&;]|%3f|%26)(?:{_QUERY})(?:=|%3d)){_VALUE}", re.IGNORECASE)
_KEY = re.compile(
    rf"((?<![a-z0-9])(?:{_NAMES})[\"']?(?:=|%3d|:\s?)\s?[\"']?(?:bearer\s|basic\s)?){_VALUE}", re.IGNORECASE
)
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s)[A-Za-z0-9._~+/=-]{12,}")
_TOKEN = re.compile(
    r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|"
    r"\bhf_[A-Za-z0-9]{20,}|\bxox[abprs]-[\w-]{10,}|\bsk-(?:proj-|ant-)?[A-Za-z0-9]{32,}|\bAIza[\w-]{30,}|"
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[A-Za-z0-9+/=\s]*"
)

_SUSPECT = re.compile(
    ":|=|@|%|Bearer|Basic|AKIA|ASIA|AROA|AIDA|ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|glpat-|hf_|xox|sk-|AIza|eyJ|-----BEGIN"
)
"""What every text has that holds a secret by one of the patterns above, except the query of a URI alone."""


def redact(text: str) -> str:
    """Hide every secret in a text, as a message or a line of a log; twice changes no more than once."""
    text = _URI.sub(lambda uri: uri[1] + _uri(uri[1], uri[2], queries=True), text)
    text = _BARE.sub(lambda bare: bare[0] if _TIME.fullmatch(bare[1]) else f"{HIDDEN}@", text)
    text = _KEY.sub(_kept, _PARAMETER.sub(_kept, text))
    return _TOKEN.sub(HIDDEN, _BEARER.sub(_kept, text))


def redact_uri(text: str) -> str:
    """Hide the secrets of what is one URI or path as a whole: a password may hold blanks and quotes."""
    uri = _WHOLE_URI.fullmatch(text)
    return redact(text if uri is None else uri[1] + _uri(uri[1], uri[2], queries=True))


def holds_secret(text: str) -> bool:
    """Say whether what is one URI, path or setting carries credentials, a signature or a token."""
    # Millions of names and paths of a corpus are asked about, and few hold what every secret has.
    return _SUSPECT.search(text) is not None and _found_secret(text)


def _found_secret(text: str) -> bool:
    bare = _BARE.match(text)
    if bare is not None and not _TIME.fullmatch(bare[1]):
        return True
    whole = _WHOLE_URI.fullmatch(text)
    uris = [*_URI.finditer(text), *([whole] if whole else [])]
    if any(_uri(uri[1], uri[2], queries=False) != uri[2] for uri in uris):
        return True
    return any(pattern.search(text) for pattern in (_PARAMETER, _KEY, _BEARER, _TOKEN))


def redact_json(value: Any) -> Any:
    """Hide the secrets in all texts of a JSON value."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_json(item) for key, item in value.items()}
    return [redact_json(item) for item in value] if isinstance(value, list | tuple) else value


class RedactingFormatter(logging.Formatter):
    """Hides secrets in every line of a log, tracebacks included, whoever wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line that is shown."""
        return redact(super().format(record))


def _uri(begin: str, rest: str, *, queries: bool) -> str:
    """Hide userinfo, and the query where asked for, of a URI without its beginning."""
    scheme = begin.rstrip(":/\\").lower()
    if scheme == "file" and begin.endswith("///"):
        return rest
    in_s3 = scheme.startswith("s3")
    place, mark, query = rest.partition("?")
    authority = place.partition("/")[0]
    # An AWS secret may hold slashes, so only the last "@" is sure to end it; and a bucket has no port.
    torn = ":" in authority and (in_s3 or "@" in query or _HOST.fullmatch(authority) is None)
    if "@" in authority and not in_s3:
        rest = HIDDEN + rest[authority.rfind("@") :]
    elif torn or "@" in authority:
        end = place.rfind("@") if "@" in place else rest.rfind("@")
        rest = HIDDEN + rest[end:] if end >= 0 else HIDDEN
    place, mark, query = rest.partition("?")
    # In the path of a local file a question mark is a letter like others.
    return f"{place}?{HIDDEN}" if query and queries and scheme != "file" else place + mark + query


def _kept(match: re.Match[str]) -> str:
    return match[1] + HIDDEN
