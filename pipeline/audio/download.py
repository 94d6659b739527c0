"""Brings a recording from S3 to a local file, because libsndfile reads local files only."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason

_COPY_BYTES = 8 << 20


class Download:
    """One S3 object in a temporary file without a name, which the kernel frees even after SIGKILL.

    Args:
        uri: ``s3://bucket/key``.
        max_file_bytes: Largest object that is downloaded.

    Attributes:
        path: Where processes of the same user can open the file, while this object is open.

    Raises:
        AudioDecodeError: The object is missing, unreadable, empty or too large.
        StorageError: S3 failed; the recording may be fine.
    """

    def __init__(self, uri: str, max_file_bytes: int) -> None:
        self.uri = uri
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self.path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        try:
            self._copy(max_file_bytes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _copy(self, max_file_bytes: int) -> None:
        import s3fs

        with _store_errors(self.uri):
            store = s3fs.S3FileSystem(use_listings_cache=False)
            info = store.info(self.uri)
        if info["type"] != "file":
            raise AudioDecodeError(Reason.NOT_A_FILE, f"{self.uri} is a prefix, not an object")
        check_size(info["size"], self.uri, max_file_bytes)
        with _store_errors(self.uri):
            with store.open(self.uri, "rb", block_size=_COPY_BYTES, cache_type="readahead") as source:
                shutil.copyfileobj(source, self._file, _COPY_BYTES)
            self._file.flush()


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Tell the faults of a recording from those of the store."""
    try:
        yield
    except FileNotFoundError as error:
        raise AudioDecodeError(Reason.MISSING, f"{uri} does not exist") from error
    except PermissionError as error:
        raise AudioDecodeError(Reason.UNREADABLE, f"{uri} may not be read with these credentials") from error
    except Exception as error:
        raise StorageError(f"{uri} could not be downloaded: {error}; run again when the store answers") from error


def check_size(num_bytes: int, uri: str, max_file_bytes: int) -> None:
    """Refuse a recording by its size alone.

    Raises:
        AudioDecodeError: It has no bytes, or more than the limit.
    """
    if num_bytes == 0:
        raise AudioDecodeError(Reason.EMPTY, f"{uri} has 0 bytes")
    if num_bytes > max_file_bytes:
        raise AudioDecodeError(Reason.TOO_LONG, f"{uri} has {num_bytes} bytes; at most {max_file_bytes} are read")
