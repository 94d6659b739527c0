"""Finds the bytes of a recording and makes them readable for the decode child, without a copy where there need be none.

============================  ===================================================================
recording                     what the child reads
============================  ===================================================================
local file                    the file
member of a local tar         its range of the tar
S3 object, member of one      a file in which ranges appear as they are asked for (``remote.py``)
cell of a Parquet table       a file in memory that holds the one recording (``cells.py``)
============================  ===================================================================

All lie under the roots: of a tar or a table, the file itself. Memory: one cell, and what ``cells.py`` reads ahead.
"""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.audio.cells import CellReader
from pipeline.audio.doubts import Doubts
from pipeline.audio.places import Place
from pipeline.audio.remote import HEAD_BYTES, WHOLE_HEAD_BYTES, Download, RemoteObject, check_size
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason


@dataclass(frozen=True, kw_only=True)
class OpenRecording:
    """A recording that the decode child can read.

    Attributes:
        name: The recording, for messages.
        place: What the child is told of it; see ``decode_child.probe``.
        fetch: Makes a range of a remote recording present.
    """

    name: str
    place: dict[str, Any]
    fetch: Callable[[int, int], tuple[int, int]] | None = None


class Sources:
    """Opens one recording after the other; what segments of one recording or neighbours share stays open.

    Args:
        roots: Local folders and ``s3://bucket/prefix`` under which files must lie, links resolved; none means
            anywhere.
        max_file_bytes: Largest recording, bytes.
    """

    def __init__(self, roots: Sequence[str], max_file_bytes: int) -> None:
        self._doubts = Doubts(roots)
        self._local_roots = [root for root in roots if not root.startswith("s3://")]
        self._s3_roots = [root.rstrip("/") for root in roots if root.startswith("s3://")]
        self._bounded = bool(roots)
        self._max_file_bytes = max_file_bytes
        self._object: RemoteObject | None = None
        self._download: tuple[tuple[str, Place | None], Download] | None = None
        self._cells: CellReader | None = None
        self._cell: int | None = None

    def open(self, uri: str, part: Place | None, *, from_start: bool) -> OpenRecording:
        """Find a recording.

        Args:
            uri: Absolute local path, or ``s3://bucket/key``.
            part: Where in the file it lies; None when it is the file.
            from_start: Whether it is to be decoded from its first sample on, not only probed.

        Raises:
            AudioDecodeError: It is missing, unreadable, outside the roots, empty or too large.
            StorageError: The store failed or is away; the recording may be fine.
        """
        name = uri if part is None else f"{uri}: {part}"
        path = self._s3_uri(uri) if uri.startswith("s3://") else self._resolve(uri)
        if part is not None and part.row is not None:
            return self._from_cell(path, part, name)
        if uri.startswith("s3://"):
            return self._from_s3(uri, part, name, WHOLE_HEAD_BYTES if from_start else HEAD_BYTES)
        return self._from_file(path, part, name)

    def close(self) -> None:
        """Let go of files, objects and what was fetched of them."""
        self._drop_download()
        if self._object is not None:
            self._object.close()
            self._object = None
        if self._cells is not None:
            self._cells.close()
            self._cells = None
        if self._cell is not None:
            os.close(self._cell)
            self._cell = None

    def _resolve(self, uri: str) -> str:
        """Give the real path of a local file, if it is under the roots."""
        if not uri.startswith("/") or "\0" in uri:
            raise AudioDecodeError(Reason.BAD_ROW, f"a uri is an absolute path or s3://bucket/key, got {uri!r}")
        path = os.path.realpath(uri)
        # Resolved each time: a root that is a link may lead elsewhere than when this process began.
        roots = [os.path.realpath(root) for root in self._local_roots]
        if self._bounded and not any(os.path.commonpath([root, path]) == root for root in roots):
            if (away := self._doubts.away(uri)) is not None:
                raise StorageError(
                    f"{away} is not there now, so that {uri} cannot be looked for; what is committed stays: mount it "
                    "and run the same command again"
                )
            raise AudioDecodeError(
                Reason.OUTSIDE_ROOT, f"{uri} leads to {path}, which is under no declared root; add --roots"
            )
        return path

    def _s3_uri(self, uri: str) -> str:
        if "@" in uri.split("/")[2] or uri.count("/") < 3 or uri.endswith("/"):
            raise AudioDecodeError(Reason.BAD_ROW, "an S3 uri is s3://bucket/key, without credentials")
        if self._bounded and not any(uri.startswith(f"{root}/") for root in self._s3_roots):
            raise AudioDecodeError(Reason.OUTSIDE_ROOT, f"{uri} is under no declared root; add --roots")
        return uri

    def _from_file(self, path: str, part: Place | None, name: str) -> OpenRecording:
        start, num_bytes = self._doubts.read(path, name, lambda: self._look(path, part, name))
        check_size(num_bytes, name, self._max_file_bytes)
        return _source(name, path, start, num_bytes, whole=part is None)

    def _look(self, path: str, part: Place | None, name: str) -> tuple[int, int]:
        """Give where in a file a recording begins, and how long it is."""
        file = _open_plain(path, name)
        try:
            held = os.fstat(file).st_size
            start, num_bytes = (0, held) if part is None else self._range(part, held, name)
            return start, num_bytes
        finally:
            os.close(file)

    def _from_s3(self, uri: str, part: Place | None, name: str, head: int) -> OpenRecording:
        if self._object is None or self._object.uri != uri:
            self.close()
            self._object = RemoteObject(uri, self._doubts)
        held = self._object.num_bytes
        start, num_bytes = (0, held) if part is None else self._range(part, held, name)
        check_size(num_bytes, name, self._max_file_bytes)
        if self._download is None or self._download[0] != (uri, part):
            self._drop_download()
            self._download = ((uri, part), Download(self._object, start, num_bytes, head))
        download = self._download[1]
        return _source(name, download.path, 0, num_bytes, fetch=download.fetch)

    def _from_cell(self, path: str, part: Place, name: str) -> OpenRecording:
        if self._cells is None or self._cells.uri != path:
            self.close()
            self._cells = CellReader(path, self._doubts)
        data = self._cells.read(part)
        check_size(len(data), name, self._max_file_bytes)
        if self._cell is not None:
            os.close(self._cell)
        self._cell = os.memfd_create("recording")
        with open(self._cell, "wb", closefd=False) as file:
            file.write(data)
        return _source(name, f"/proc/{os.getpid()}/fd/{self._cell}", 0, len(data))

    def _range(self, part: Place, held: int, name: str) -> tuple[int, int]:
        start, num_bytes = part.byte_offset, part.num_bytes
        if start is None or num_bytes is None or start < 0 or num_bytes < 0:
            raise AudioDecodeError(Reason.BAD_ROW, f"{name} has no range of bytes in the manifest")
        if start + num_bytes > held:
            raise AudioDecodeError(
                Reason.TRUNCATED, f"{name} ends at byte {start + num_bytes}, the tar has {held} bytes"
            )
        return start, num_bytes

    def _drop_download(self) -> None:
        if self._download is not None:
            self._download[1].close()
            self._download = None


def _source(
    name: str,
    path: str,
    start: int,
    num_bytes: int,
    *,
    whole: bool = True,
    fetch: Callable[[int, int], tuple[int, int]] | None = None,
) -> OpenRecording:
    place = {"name": name, "path": path, "start": start, "num_bytes": num_bytes, "whole": whole}
    return OpenRecording(name=name, place={**place, "remote": fetch is not None}, fetch=fetch)


def _open_plain(path: str, name: str) -> int:
    """Open a plain file; never blocks on a FIFO or a device."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise AudioDecodeError(Reason.NOT_A_FILE, f"{name} is {_kind(mode)}, not a plain file")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")
