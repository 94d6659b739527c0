"""A store in a bucket of S3, or of a server that speaks its protocol."""

import contextlib
import errno
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from shutil import copyfileobj
from typing import Any

from pipeline.errors import StorageError

Bytes = bytes | bytearray | memoryview

PART_BYTES = 64 << 20
"""Larger data is sent and fetched in parts of this size, one in memory at a time."""

_CONFLICT_RETRIES = 8
_RETRIES = {"mode": "standard", "max_attempts": 8}


class S3Store:
    """A prefix of an S3 bucket. Credentials and endpoint come from the environment, as boto3 finds them."""

    def __init__(self, uri: str) -> None:
        import s3fs

        self.uri = uri.rstrip("/")
        self._prefix = self.uri.removeprefix("s3://")
        self._fs = s3fs.S3FileSystem(use_listings_cache=False, config_kwargs={"retries": _RETRIES})

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if name else self._prefix

    def _guard(self, error: Exception, what: str) -> StorageError:
        return StorageError(f"S3 failed to {what}: {error}")

    def read(self, name: str) -> bytes:
        """Give the whole content of an object."""
        try:
            return bytes(self._fs.cat_file(self._key(name)))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._guard(error, f"read {self.uri}/{name}") from error

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Give the contents of several objects, read 32 at a time."""
        with ThreadPoolExecutor(32) as pool:
            return list(pool.map(self.read, names))

    def write(self, name: str, data: Bytes) -> None:
        """Put an object in one request, or a large one in parts; S3 shows it when it is complete."""
        try:
            if len(data) <= PART_BYTES:
                self._fs.pipe_file(self._key(name), bytes(data), chunksize=2**31)
                return
            self._write_parts(name, data)
        except Exception as error:
            raise self._guard(error, f"write {self.uri}/{name}") from error

    def _write_parts(self, name: str, data: Bytes) -> None:
        file = self._fs.open(self._key(name), "wb", block_size=PART_BYTES)
        try:
            for start in range(0, len(data), PART_BYTES):
                file.write(memoryview(data)[start : start + PART_BYTES])
            file.close()
        except BaseException:
            # Else closing it would show what was sent as if it were whole, and the parts would be kept and paid for.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()
            raise

    def create(self, name: str, data: Bytes) -> bool:
        """Put an object with If-None-Match.

        A retry after a lost answer also reports "taken": the caller reads back and compares.
        """
        for attempt in range(_CONFLICT_RETRIES):
            try:
                self._fs.pipe_file(self._key(name), bytes(data), mode="create", chunksize=2**31)
            except Exception as error:
                if _says_taken(error):
                    return False
                if not _says_conflict(error):
                    raise self._guard(error, f"create {self.uri}/{name}") from error
                time.sleep(0.1 * 2**attempt)
            else:
                return True
        raise StorageError(f"S3 kept answering 'conflict' to creating {self.uri}/{name}; try again later")

    def copy(self, source: str, target: str) -> None:
        """Copy an object inside S3."""
        try:
            self._fs.cp_file(self._key(source), self._key(target))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._guard(error, f"copy {self.uri}/{source} to {target}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects, up to 1,000 a request."""
        keys = [self._key(name) for name in names]
        if not keys:
            return
        try:
            self._fs.rm(keys)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._guard(error, f"delete under {self.uri}") from error

    def delete_tree(self, folder: str) -> None:
        """Remove all objects below a prefix."""
        self.delete(self.tree(folder))

    def names(self, folder: str = "") -> list[str]:
        """Name the objects directly under a prefix."""
        key = self._key(folder)
        try:
            entries = self._fs.ls(key, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._guard(error, f"list {self.uri}/{folder}") from error
        names = (entry["name"].removeprefix(key).lstrip("/") for entry in entries if entry["type"] == "file")
        return sorted(name for name in names if name)

    def tree(self, folder: str) -> list[str]:
        """Name all objects below a prefix."""
        try:
            found = self._fs.find(self._key(folder), refresh=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self._guard(error, f"list {self.uri}/{folder}") from error
        return sorted(name.removeprefix(self._prefix + "/") for name in found)

    def exists(self, name: str) -> bool:
        """Say whether an object exists."""
        try:
            return bool(self._fs.isfile(self._key(name)))
        except Exception as error:
            raise self._guard(error, f"look for {self.uri}/{name}") from error

    def open(self, name: str) -> Any:
        """Open an object for ranged reads."""
        return self._fs.open(self._key(name), "rb", cache_type="readahead")

    def open_whole(self, name: str) -> Any:
        """Fetch an object into a file without a name on the local disk, which goes when it is closed."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            # Without a cache each read is one request of the size that is asked for.
            with self._fs.open(self._key(name), "rb", cache_type="none") as source:
                copyfileobj(source, file, PART_BYTES)
        except FileNotFoundError:
            file.close()
            raise
        except Exception as error:
            file.close()
            raise self._guard(error, f"read {self.uri}/{name}") from error
        file.seek(0)
        return file


def _says_taken(error: BaseException | None) -> bool:
    """Recognise the answers of S3 servers to a failed If-None-Match: 412, EEXIST, and EINVAL of s3fs."""
    while error is not None:
        text = str(error)
        if isinstance(error, FileExistsError) or "PreconditionFailed" in text or "412" in text:
            return True
        if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.EINVAL):
            return "condition" in text.lower()
        error = error.__cause__
    return False


def _says_conflict(error: BaseException | None) -> bool:
    while error is not None:
        if "ConditionalRequestConflict" in str(error) or "409" in str(error):
            return True
        error = error.__cause__
    return False
