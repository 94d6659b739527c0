"""The members of plain tars: headers alone are read, in order, and none costs more memory than it should.

A header that is damaged, or declares what no header may, ends the tar with an AudioDecodeError: what follows is lost.
Cost on S3: a request of 16 KiB a member, 16 tars at once. Memory: a header (S3: also what is read of 64 tars).
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, TypeVar

from pipeline.audio.candidate import printable, storable
from pipeline.audio.remote import open_ranged
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason

MAX_MEMBERS = 10_000_000
"""Most members of a tar that are read."""

MAX_NAME_BYTES = 1 << 20
"""Largest header of a long name."""

_AHEAD_BYTES = 16 << 10
_TARS_AT_ONCE = 16
_TARS_HELD = 64
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}
_NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

_Unit = TypeVar("_Unit")
_Read = TypeVar("_Read")


class _Header(tarfile.TarInfo):
    """A header that is refused before ``tarfile`` reads a long name of any length into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or header.type in _NAMES and header.size > MAX_NAME_BYTES:
            raise tarfile.HeaderError(f"a header declares {header.size} bytes")
        return header


class TarMembers:
    """One open tar.

    Args:
        uri: Where it lies, for messages.
        file: It, seekable.
        passed_over: Counts a missing end mark, and bytes behind the end.
    """

    def __init__(self, uri: str, file: IO[bytes], passed_over: PassedOver) -> None:
        self._uri = uri
        self._file = file
        self._passed_over = passed_over
        self._size = file.seek(0, 2)
        file.seek(0)

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Give the headers in order, folders too.

        Raises:
            AudioDecodeError: The rest cannot be read.
            ManifestError: The tar is compressed.
        """
        if self._size == 0:
            raise AudioDecodeError(Reason.EMPTY, "the tar has 0 bytes")
        magic = self._file.read(6)
        for begin, name in _COMPRESSIONS.items():
            if magic.startswith(begin):
                raise ManifestError(
                    f"{printable(self._uri)} is compressed with {name}; no member of a compressed tar can be read "
                    "alone: unpack it to a plain .tar"
                )
        self._file.seek(0)
        number = 0
        try:
            tar = tarfile.TarFile(fileobj=self._file, tarinfo=_Header, encoding="utf-8", errors="surrogateescape")
            while (member := tar.next() or self._behind(tar)) is not None:
                # It keeps every header it has read, for lookups that nobody makes here.
                tar.members = []  # type: ignore[attr-defined]
                number += 1
                if number > MAX_MEMBERS:
                    raise AudioDecodeError(Reason.TOO_LONG, f"members after the first {MAX_MEMBERS} are not read")
                yield member
                # The size of a sparse member is that of its file, holes too; the next header follows what is stored.
                if (tar.offset if member.issparse() else member.offset_data + member.size) > self._size:
                    raise tarfile.ReadError(f"{printable(member.name)} ends behind it")
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise AudioDecodeError(
                Reason.TRUNCATED, f"after {number} members the tar is cut or damaged, what follows is lost: {error}"
            ) from error

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Give the content of a member that has no problem."""
        self._file.seek(member.offset_data)
        return self._file.read(member.size)

    def problem(self, member: tarfile.TarInfo) -> AudioDecodeError | None:
        """Say why a member is not read."""
        name = printable(member.name)
        if not member.isreg() or member.issparse():
            what = "a link" if member.issym() or member.islnk() else "a device, a FIFO or sparse"
            return AudioDecodeError(Reason.NOT_A_FILE, f"the member {name} is {what}, not a plain file")
        if member.name.startswith("/") or ".." in member.name.split("/"):
            return AudioDecodeError(Reason.BAD_ROW, f"the member {name} points out of its tar")
        if not storable(member.name):
            return AudioDecodeError(Reason.BAD_ROW, f"the name of the member {name} is not one line of UTF-8")
        if member.offset_data + member.size > self._size:
            return AudioDecodeError(
                Reason.TRUNCATED,
                f"the member {name} ends at byte {member.offset_data + member.size}, the tar at {self._size}",
            )
        return None

    def _behind(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Look at what stopped ``tarfile``: it takes a damaged header for the end, and reads nothing behind the end.

        Returns:
            The first member of a tar that was joined to this one, None where there is none.
        """
        self._file.seek(tar.offset)
        block = self._file.read(tarfile.BLOCKSIZE)
        if any(block):
            raise tarfile.ReadError(f"byte {tar.offset} is no header")
        if not block:
            self._passed_over.add(Kind.NO_END_MARK, example=self._uri)
        while block and not any(block):
            block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            return None
        place = self._file.tell() - len(block)
        try:
            _Header.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            self._passed_over.add(Kind.UNREAD_END, example=f"{self._uri}, from byte {place} on")
            return None
        tar.offset = place
        return tar.next()


@contextmanager
def open_tar(uri: str, passed_over: PassedOver) -> Iterator[TarMembers]:
    """Open a tar at a local path or S3 URI.

    Raises:
        ManifestError: It is absent or unreadable.
    """
    try:
        with open_ranged(uri, _AHEAD_BYTES) as file:
            yield TarMembers(uri, file, passed_over)
    except OSError as error:
        raise ManifestError(f"the tar {printable(uri)} cannot be read: {error}") from error


def read_in_order(
    units: Sequence[_Unit],
    read: Callable[[_Unit, PassedOver], Iterator[_Read]],
    passed_over: PassedOver,
    *,
    remote: bool,
) -> Iterator[_Read]:
    """Read tars one after the other; those on S3 16 at once, because each header is a request.

    Args:
        units: What is read, with a tar each.
        read: Reads one, and counts what it passes over.
        passed_over: Gets the counts in order.
        remote: Whether they lie on S3.
    """
    if not remote:
        for unit in units:
            yield from read(unit, passed_over)
        return
    for begin in range(0, len(units), _TARS_HELD):
        some = units[begin : begin + _TARS_HELD]
        counts = [PassedOver() for _ in some]
        with ThreadPoolExecutor(_TARS_AT_ONCE) as pool:
            found = pool.map(lambda unit, count: list(read(unit, count)), some, counts)
            for items, count in zip(found, counts, strict=True):
                passed_over.merge(count)
                yield from items
