"""Files as the decode child reads them: a part of a file, or one whose bytes come only when they are asked for.

Cost: a Python call a read of libsndfile,
8 KiB each; a plain local file is read without any of this.
"""

import io
import os
from collections.abc import Callable
from typing import Any, ClassVar

from pipeline.audio.containers.declared import Overlay

Fetch = Callable[[int, int], tuple[int, int]]
"""Makes a range of bytes present, and gives the whole range then present around it."""


class View(io.RawIOBase):
    """A range of a file, read as if it were a file of its own.

    Args:
        path: The file.
        start: First byte of the range.
        num_bytes: Length of the range.
        fetch: Brings bytes of the range that are not there yet, counted from its start; None: all are there.

    Attributes:
        size: Length of the range.
        last_read: Where the last read ended.
        failure: The last read of any view that failed: libsndfile, which reads through a view, does not tell.
    """

    failure: ClassVar[OSError | None] = None

    def __init__(self, path: str, start: int, num_bytes: int, fetch: Fetch | None = None) -> None:
        self._file = io.FileIO(path)
        self._start = start
        self.size = num_bytes
        self._fetch = fetch
        self._held = (0, 0)
        self._place = 0
        self.last_read = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        """Allow reading."""
        return True

    def seekable(self) -> bool:
        """Allow seeking."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the range."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise OSError(f"byte {place} lies before the file")
        self._place = place
        return place

    def tell(self) -> int:
        """Say where the next read begins."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read on, fetching first what is missing."""
        view = memoryview(buffer).cast("B")
        stop = min(self._place + len(view), self.size)
        if stop <= self._place:
            return 0
        self._bring(self._place, stop)
        try:
            count = os.preadv(self._file.fileno(), [view[: stop - self._place]], self._start + self._place)
        except OSError as error:
            View.failure = error
            raise
        self._place += count
        self.last_read = self._place
        return count

    def at(self, place: int, count: int) -> bytes:
        """Read a range of the range, wherever the next read begins; fewer bytes where it ends before."""
        stop = min(place + count, self.size)
        if place < 0 or stop <= place:
            return b""
        self._bring(place, stop)
        return os.pread(self._file.fileno(), stop - place, self._start + place)

    def changed(self) -> int:
        """Say when the file was last written, ns."""
        return os.fstat(self._file.fileno()).st_mtime_ns

    def identity(self) -> tuple[int, int]:
        """Tell the file from another of the same name, while both are open."""
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino

    def _bring(self, begin: int, end: int) -> None:
        """Fetch what is missing."""
        if self._fetch is not None and not (self._held[0] <= begin and end <= self._held[1]):
            self._held = self._fetch(begin, end)


class Overlaid(io.RawIOBase):
    """A view that is read with another beginning or end.

    A reader that guesses how long a file is, and reads no further, is told a multiple of its length: it then ends
    where no more bytes come. Only the last 128 bytes of that length are there, as zeros, for readers of ID3v1.
    """

    def __init__(self, view: View, overlay: Overlay) -> None:
        self._view = view
        self._overlay = overlay
        stop = view.seek(0, os.SEEK_END) if overlay.stop is None else overlay.stop
        self._held = len(overlay.prefix) + max(0, stop - overlay.start)
        self._size = (self._held + overlay.padding) * overlay.claimed
        self._zeros = self._size - (overlay.padding if overlay.claimed == 1 else 128)
        self._place = 0

    def readable(self) -> bool:
        """Allow reading."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the corrected file."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        """Say where in the corrected file the next read begins."""
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Read from the prefix, then from the view."""
        view = memoryview(buffer).cast("B")
        if self._place >= self._held:
            count = max(0, min(len(view), self._size - self._place)) if self._place >= self._zeros else 0
            view[:count] = bytes(count)
            self._place += count
            return count
        view = view[: self._held - self._place]
        from_prefix = self._overlay.prefix[self._place : self._place + len(view)]
        view[: len(from_prefix)] = from_prefix
        count = len(from_prefix)
        if count < len(view):
            self._view.seek(self._place + count - len(self._overlay.prefix) + self._overlay.start)
            count += self._view.readinto(view[count:])
        self._place += count
        return count
