"""CAF, Apple's Core Audio Format; also the form in which big-endian audio of any length is handed to libsndfile.

Cost: the heads of all chunks.
"""

import re
import struct
from dataclasses import dataclass

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared, Overlay
from pipeline.audio.containers.extent import Data, check_held, extent

_MAGIC = re.compile(rb"caff\0\x01\0\0desc", re.DOTALL)
_NAME = re.compile(rb"[ -~]{4}")
_DESC_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Samples:
    """How samples lie in a file, uncompressed.

    Attributes:
        coding: ``lpcm``, ``ulaw`` or ``alaw``.
        is_float: Whether they are floating-point numbers.
        little: Whether the lowest byte comes first.
        num_bytes: Bytes of one.
        bits: Bits that count.
        channels: Channels, interleaved.
        rate: Samples per second of a channel, Hz.
    """

    coding: str
    is_float: bool
    little: bool
    num_bytes: int
    bits: int
    channels: int
    rate: float

    def overlay(self, start: int, size: int) -> Overlay:
        """Give them a header of CAF that says their true size.

        Args:
            start: First byte of the audio.
            size: Bytes of audio.
        """
        flags = self.is_float | self.little << 1
        block = self.num_bytes * self.channels
        desc = struct.pack(">d4s5I", self.rate, self.coding.encode(), flags, block, 1, self.channels, self.bits)
        prefix = b"caff\0\x01\0\0desc" + struct.pack(">q", _DESC_BYTES) + desc
        return Overlay(prefix=prefix + b"data" + struct.pack(">qI", size + 4, 0), start=start, stop=start + size)


def check_caf(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how much audio a CAF holds.

    Raises:
        BadRecording: It holds less than it declares, or several recordings are joined.
    """
    end = file.size
    samples, coding, place = None, "", 8
    while len(head := file.at(place, 12)) == 12:
        name, size = struct.unpack(">4sq", head)
        place += 12
        if name == b"data":
            break
        content = file.at(place, min(max(size, 0), _DESC_BYTES))
        if name == b"desc" and len(content) == _DESC_BYTES:
            rate, code, flags, block, _, channels, bits = struct.unpack(">d4s5I", content)
            coding = code.decode("latin-1")
            if coding in ("lpcm", "ulaw", "alaw") and channels and block and block % channels == 0:
                samples = Samples(
                    coding=coding,
                    is_float=bool(flags & 1),
                    little=bool(flags & 2),
                    num_bytes=block // channels,
                    bits=bits,
                    channels=channels,
                    rate=rate,
                )
        if size < 0:
            return Declared()
        place += size
    else:
        return Declared()
    place += 4
    block = samples.num_bytes * samples.channels if samples else 1
    # -1 is the container's own word for a last chunk without a size.
    data = Data(
        container="CAF",
        begin=place,
        size=None if size < 4 and end > place else max(0, size - 4),
        block=block,
        chunks=_are_chunks,
        magics=(b"caff\0\x01\0\0desc",),
        magic=_MAGIC,
    )
    check_held(data, end - place)
    held = extent(file, data, thorough=thorough)
    if samples is None:
        if held.undeclared:
            raise BadRecording(
                "header_lies", f"more {coding} audio follows the {data.size} bytes that the CAF declares"
            )
        return Declared(trailing_bytes=held.trailing_bytes)
    return Declared(
        overlay=None if held.size == data.size else samples.overlay(place, held.size),
        num_samples=held.size // block,
        trailing_bytes=held.trailing_bytes,
        undeclared=held.undeclared,
    )


def _are_chunks(file: Bytes, begin: int, end: int) -> bool:
    """Say whether chunks of CAF, and nothing else, lie in a part of a file."""
    while begin + 12 <= end:
        name, size = struct.unpack(">4sq", file.at(begin, 12))
        if not _NAME.fullmatch(name) or size < 0:
            return False
        begin += 12 + size
    return begin == end
