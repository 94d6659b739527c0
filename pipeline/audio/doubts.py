"""Tells a recording that is not there from a store that is away, and a refusal from credentials that have expired.

=============================  =======================================================================================
what a read gives              what it means
=============================  =======================================================================================
no such file, 404              missing, if something else of its roots is there, and asked after that it is so again
permission denied, 403         unreadable, if something else of its roots can be read, and asked after that it is so
expired or wrong credentials   the store's fault
anything else of a system      the store's fault: too many open files, no memory, a stale handle, a time-out, ...
=============================  =======================================================================================

The store's faults are tried again for some seconds, then they stop the run: what is committed stays.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason

Found = TypeVar("Found")

_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between asking and asking again."""

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)


class _Kind(Enum):
    MISSING = "it is not there"
    DENIED = "it may not be read"
    STORE = "the store failed"
    RECORDING = "its bytes cannot be"


class Doubts:
    """Calls what reads, and judges what that raises; remembers what could be read last.

    Args:
        roots: Local folders and ``s3://bucket/prefix`` under which recordings lie; none means anywhere.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = [root.rstrip("/") or "/" for root in roots]
        self._seen: dict[bool, str] = {}

    def read(self, uri: str, name: str, call: Callable[[], Found]) -> Found:
        """Give what a call gives, called again where it fails.

        Args:
            uri: The file or object that it reads.
            name: The recording, for messages.
            call: Reads; may be called several times.

        Raises:
            AudioDecodeError: The recording is missing, may not be read or is damaged, as far as can be found out.
            StorageError: The store failed; the recording may be fine.
        """
        remote = uri.startswith("s3://")
        kinds, there = [], False
        while True:
            try:
                found = call()
            except (AudioDecodeError, StorageError):
                raise
            except Exception as error:
                kind, text = _judged(error, remote)
                kinds.append(kind)
                if kind is _Kind.RECORDING:
                    raise AudioDecodeError(Reason.UNREADABLE, f"{name} cannot be read: {text}") from error
                # What was away may have come back since this read: only a read after something else was seen counts.
                before, always = there, kind is not _Kind.STORE and set(kinds) == {kind}
                # A bucket says so as often as it is asked, and is looked at before the last time.
                there = always and len(kinds) >= (len(_WAITS) if remote else 1) and self._another_is_there(uri)
                if before and there:
                    raise _reject(kind, name, text, remote) from error
                if len(kinds) > len(_WAITS) and not there:
                    raise StorageError(self._sentence(kind, name, text, remote)) from error
                if remote or not there:
                    time.sleep(_WAITS[min(len(kinds), len(_WAITS)) - 1])
            else:
                self._seen[remote] = uri
                return found

    def away(self, path: str) -> str | None:
        """Name the declared folder that holds a path by its name and is not there now; None where all are."""
        roots = [root for root in self._roots if not root.startswith("s3://")]
        holding = (root for root in roots if path.startswith(f"{root.rstrip('/')}/"))
        return next((root for root in holding if not os.path.isdir(root)), None)

    def _sentence(self, kind: _Kind, name: str, text: str, remote: bool) -> str:
        what = f"{name} cannot be read ({text})"
        if kind is not _Kind.STORE:
            what += ", and nothing else of " + (", ".join(self._roots) or "its folder") + " can"
        do = "look at the credentials and the bucket" if remote else "mount it or free what is lacking"
        return (
            f"{what}; this says nothing of the recording, and what is committed stays: {do}, and run the same command "
            "again"
        )

    def _another_is_there(self, uri: str) -> bool:
        """Whether something else of the roots can be seen at this moment."""
        seen = self._seen.get(uri.startswith("s3://"))
        if uri.startswith("s3://"):
            return _bucket_answers(uri, self._roots, seen)
        if seen is not None and seen != uri:
            try:
                os.close(os.open(seen, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
            except OSError:
                return False
        return _holds_something(_root_of(uri, self._roots))


def _judged(error: Exception, remote: bool) -> tuple[_Kind, str]:
    """Say what an exception of a read means, and what it was."""
    import pyarrow as pa

    code = _s3_code(error)
    text = f"{type(error).__name__}: {error}" if code is None else f"{code}: {error}"
    if code in ("AccessDenied", "403", "Forbidden"):
        return _Kind.DENIED, text
    if code == "NoSuchBucket" or (code is not None and isinstance(error, PermissionError)):
        return _Kind.STORE, text
    if isinstance(error, FileNotFoundError):
        return _Kind.MISSING, text
    if isinstance(error, pa.ArrowException) and not isinstance(error, MemoryError):
        return _Kind.RECORDING, text
    if type(error) is OSError and error.errno is None and error.__cause__ is None:
        # Arrow's words for damaged bytes; of a system a number would come with it.
        return _Kind.RECORDING, text
    if isinstance(error, OSError) and not remote:
        if error.errno in _ABSENT:
            return _Kind.MISSING, text
        if error.errno in _DENIED:
            return _Kind.DENIED, text
    elif isinstance(error, PermissionError):
        return _Kind.DENIED, text
    if not remote and not isinstance(error, OSError | MemoryError):
        return _Kind.RECORDING, text
    return _Kind.STORE, text


def _s3_code(error: BaseException | None) -> str | None:
    """Give the code of S3's answer, from the exception or from what it was made of."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code"))
        error = error.__cause__
    return None


def _reject(kind: _Kind, name: str, text: str, remote: bool) -> AudioDecodeError:
    if kind is _Kind.MISSING:
        return AudioDecodeError(Reason.MISSING, f"{name} does not exist")
    return AudioDecodeError(
        Reason.UNREADABLE, f"{name} may not be read " + ("with these credentials" if remote else "by this user")
    )


def _root_of(path: str, roots: Sequence[str]) -> str:
    """Name the folder that holds a file: the innermost declared one, else the nearest that holds anything."""
    local = [os.path.realpath(root) for root in roots if not root.startswith("s3://")]
    holding = [root for root in local if path.startswith(f"{root.rstrip('/')}/")]
    if holding:
        return max(holding, key=len)
    folder = os.path.dirname(path)
    while folder != "/" and not _holds_something(folder):
        folder = os.path.dirname(folder)
    return folder


def _holds_something(folder: str) -> bool:
    """Whether a folder is there with something in it: where nothing is mounted, an empty one is left."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _bucket_answers(uri: str, roots: Sequence[str], seen: str | None) -> bool:
    """Whether another object can be seen: that which was read last, else the first that a root lists."""
    import s3fs

    store: Any = s3fs.S3FileSystem(use_listings_cache=False)
    for _ in range(len(_WAITS)):
        try:
            if seen is not None and seen != uri:
                bucket, _, key = seen.removeprefix("s3://").partition("/")
                store.call_s3("head_object", Bucket=bucket, Key=key)
                return True
            holding = [root for root in roots if uri.startswith(f"{root}/")]
            bucket, _, prefix = (
                max(holding, key=len, default="/".join(uri.split("/")[:3])).removeprefix("s3://").partition("/")
            )
            listed = store.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", MaxKeys=2)
            own = uri.removeprefix(f"s3://{bucket}/")
            other = next((entry["Key"] for entry in listed.get("Contents", ()) if entry["Key"] != own), None)
            if other is None:
                return False
            store.call_s3("head_object", Bucket=bucket, Key=other)
            return True
        except Exception:
            time.sleep(_WAITS[0])
    return False
