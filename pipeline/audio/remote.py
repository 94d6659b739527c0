"""Brings the bytes of an S3 object that a reader asks for into a local file, because libsndfile reads files only.

A probe of a WAV or FLAC takes its head, and 64 KiB where libsndfile looks behind the samples; a decoder that reads
straight on gets twice as much with each request, up to 8 MiB. Every byte is fetched once. The object must stay the
same meanwhile (If-Match). Disk: what was fetched.
"""

import os
import tempfile
from typing import Any

from pipeline.audio.doubts import Doubts
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason

HEAD_BYTES = 64 << 10
"""First bytes of a recording that is only probed, or decoded from its middle."""

WHOLE_HEAD_BYTES = 1 << 20
"""First bytes of a recording that is decoded from its beginning."""

_MOST_BYTES = 8 << 20


class RemoteObject:
    """One S3 object that is read by ranges.

    Args:
        uri: ``s3://bucket/key``.
        doubts: Judges what S3 answers.

    Attributes:
        num_bytes: Its size.

    Raises:
        AudioDecodeError: The object is missing or unreadable.
        StorageError: S3 failed; the recording may be fine.
    """

    def __init__(self, uri: str, doubts: Doubts) -> None:
        self.uri = uri
        self._doubts = doubts
        self.num_bytes, self._file = doubts.read(uri, uri, self._opened)

    def _opened(self) -> tuple[int, Any]:
        import s3fs

        store = s3fs.S3FileSystem(use_listings_cache=False)
        info = store.info(self.uri)
        if info["type"] != "file":
            raise AudioDecodeError(Reason.NOT_A_FILE, f"{self.uri} is a prefix, not an object")
        # Without a cache a read is one GET of just these bytes.
        return info["size"], store.open(self.uri, "rb", cache_type="none") if info["size"] else None

    def read(self, start: int, stop: int) -> bytes:
        """Read a range in one request.

        Raises:
            AudioDecodeError: The object is gone.
            StorageError: S3 failed, or the object was replaced.
        """

        def get() -> bytes:
            self._file.seek(start)
            data: bytes = self._file.read(stop - start)
            return data

        data = self._doubts.read(self.uri, self.uri, get)
        if len(data) != stop - start:
            raise StorageError(f"S3 gave {len(data)} of {stop - start} bytes of {self.uri}; run again")
        return data

    def close(self) -> None:
        """Forget the object."""
        if self._file is not None:
            self._file.close()


class Download:
    """A part of an S3 object in a temporary file without a name, which the kernel frees even after SIGKILL.

    The file has the part's size from the start; what was not fetched is a hole.

    Args:
        source: The object.
        start: First byte of the part.
        num_bytes: Length of the part, at least 1.
        head: How many bytes to fetch at once.

    Attributes:
        path: Where processes of the same user can open the file, while this object is open.
    """

    def __init__(self, source: RemoteObject, start: int, num_bytes: int, head: int) -> None:
        self._source = source
        self._start = start
        self._size = num_bytes
        self._held: list[tuple[int, int]] = []
        self._last = (0, head // 2)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self.path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        try:
            self._file.truncate(num_bytes)
            self.fetch(0, 1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def fetch(self, start: int, stop: int) -> tuple[int, int]:
        """Make a range present.

        Args:
            start: First byte, counted from the start of the part.
            stop: The byte after the last.

        Returns:
            The range that is present around it.
        """
        stop = min(stop, self._size)
        while True:
            around = next((held for held in self._held if held[0] <= start < held[1]), (start, start))
            if around[1] >= stop:
                return around
            self._get(around[1], stop)

    def _get(self, begin: int, stop: int) -> None:
        """Get a missing range, and more where the reader goes straight on."""
        end, length = self._last
        length = min(2 * length, _MOST_BYTES) if begin == end else HEAD_BYTES
        next_held = min((held[0] for held in self._held if held[0] > begin), default=self._size)
        end = min(max(stop, begin + length), next_held)
        data = self._source.read(self._start + begin, self._start + end)
        os.pwrite(self._file.fileno(), data, begin)
        self._last = (end, length)
        joined = [held for held in self._held if held[1] == begin or held[0] == end]
        self._held = [held for held in self._held if held not in joined]
        self._held.append((min([begin, *(held[0] for held in joined)]), max([end, *(held[1] for held in joined)])))


def open_ranged(uri: str, ahead: int) -> Any:
    """Open a file for reading of its parts.

    Args:
        uri: A local path or S3 URI.
        ahead: How many bytes an S3 request takes beyond those asked for.

    Returns:
        A seekable binary file.

    Raises:
        OSError: The file is missing, or S3 failed.
    """
    if not uri.startswith("s3://"):
        return open(uri, "rb")
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False).open(uri, "rb", block_size=ahead, cache_type="readahead")


def check_size(num_bytes: int, uri: str, max_file_bytes: int) -> None:
    """Refuse a recording by its size alone.

    Raises:
        AudioDecodeError: It has no bytes, or more than the limit.
    """
    if num_bytes == 0:
        raise AudioDecodeError(Reason.EMPTY, f"{uri} has 0 bytes")
    if num_bytes > max_file_bytes:
        raise AudioDecodeError(Reason.TOO_LONG, f"{uri} has {num_bytes} bytes; at most {max_file_bytes} are read")
