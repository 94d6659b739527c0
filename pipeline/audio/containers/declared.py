"""What the bytes of a container say of its audio, beside what libsndfile makes of them.

Imports of other projects numpy alone, because the decode child starts with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
        packets: The same in packets of the one stream; None where they were not counted.
        seconds: The same as a header says it, roughly; None where it says nothing.
        last_page: Of Ogg, samples that the last page adds; None for a file of one page.
        trailing_bytes: Bytes behind the audio that are neither a part of the container nor a tag; they are passed over.
        undeclared: Whether audio lies beyond the length that the header says; it is read.
    """

    overlay: Overlay | None = None
    num_samples: int | None = None
    counted: bool = True
    lead: int = 0
    fewest: int = 0
    packets: int | None = None
    seconds: float | None = None
    last_page: int | None = None
    trailing_bytes: int = 0
    undeclared: bool = False


def joined(what: str) -> BadRecording:
    """Refuse a file of several recordings, of which libsndfile would read the first alone.

    Args:
        what: The container, for the message.
    """
    return BadRecording("truncated", f"several {what} recordings are joined and only the first can be read; split them")


class Bytes(Protocol):
    """The bytes of a recording, read from any place."""

    size: int
    """How many there are."""

    def at(self, place: int, count: int) -> bytes:
        """Read a range; fewer bytes where the recording ends before."""


def find(file: Bytes, needle: bytes, begin: int, end: int) -> Iterator[int]:
    """Search a part of a file for at least four bytes; gives where they begin.

    All pairs of bytes are compared at once with the first or the second pair of the needle: a quarter of what
    ``bytes.find`` takes.
    """
    while begin < end:
        data = file.at(begin, min(SCANNED_BYTES + len(needle) - 1, end - begin))
        pairs = np.frombuffer(data, "<u2", count=len(data) // 2)
        places: list[int] = []
        for shift in (0, 1):
            equal = pairs == int.from_bytes(needle[shift : shift + 2], "little")
            if equal.any():
                places += (2 * np.flatnonzero(equal) - shift).tolist()
        yield from (begin + place for place in sorted(places) if place >= 0 and data.startswith(needle, place))
        if not data:
            return
        begin += SCANNED_BYTES
