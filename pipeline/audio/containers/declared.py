"""What the bytes of a container say of its audio, beside what libsndfile makes of them.

Imports only the standard library, because the decode child starts with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SCANNED_BYTES = 1 << 20
"""How much of a file is searched at once."""


class BadRecording(Exception):
    """One recording that cannot be used; the parent raises it as AudioDecodeError.

    Args:
        reason: The value of a ``schema.Reason``, a module that imports too much for this process.
        detail: One sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A corrected file: it is to be read as ``prefix`` and then its bytes from ``start`` to ``stop``.

    Attributes:
        prefix: The bytes that it begins with.
        start: First byte of the rest.
        stop: Byte after the last; None reads to the end.
        padding: Zeros behind the rest.
        claimed: Times its length that the file is said to have, for a reader that stops where it guesses the end.
    """

    prefix: bytes
    start: int
    stop: int | None = None
    padding: int = 0
    claimed: int = 1


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a container declares.

    Attributes:
        overlay: The corrected file to read instead; None where it can be read as it is.
        num_samples: Samples of a channel, where the bytes say it better than libsndfile does; None: its count.
        counted: Whether a header says the length; if not, it is found by decoding.
        lead: Samples to leave out at the beginning: an encoder's delay that libsndfile is not told of.
        fewest: Samples that decoding must give at least, where they are counted that way.
        last_page: Of Ogg, samples that the last page adds; None for a file of one page.
        trailing_bytes: Bytes behind the audio that are neither a part of the container nor a tag; they are passed over.
        undeclared: Whether audio lies beyond the length that the header says; it is read.
    """

    overlay: Overlay | None = None
    num_samples: int | None = None
    counted: bool = True
    lead: int = 0
    fewest: int = 0
    last_page: int | None = None
    trailing_bytes: int = 0
    undeclared: bool = False


def joined(what: str) -> BadRecording:
    """Refuse a file of several recordings, of which libsndfile would read the first alone.

    Args:
        what: The container, for the message.
    """
    return BadRecording("truncated", f"several {what} recordings are joined and only the first can be read; split them")


def size_of(file: BinaryIO) -> int:
    """Give the length of a file, bytes."""
    return file.seek(0, 2)


def read_at(file: BinaryIO, place: int, count: int) -> bytes:
    """Read a range of a file; fewer bytes where it ends before."""
    file.seek(place)
    return file.read(count)


def find(file: BinaryIO, needle: bytes, begin: int, end: int) -> Iterator[int]:
    """Search a part of a file for bytes; gives where they begin."""
    while begin < end:
        data = read_at(file, begin, min(SCANNED_BYTES + len(needle) - 1, end - begin))
        place = data.find(needle)
        while place >= 0:
            yield begin + place
            place = data.find(needle, place + 1)
        if not data:
            return
        begin += SCANNED_BYTES
