"""FLAC: whether the recording ends where its STREAMINFO says, and whether a second one is joined to it.

libsndfile reads as many samples as STREAMINFO counts, and no further. Cost: the
last 64 KiB of a file; all of it where a second recording is searched for.

Source:
    RFC 9639 (sections 8.1, 8.2, 9.1, 9.3): metadata blocks, STREAMINFO, frame header, frame footer.
"""

import re
from dataclasses import dataclass

from pipeline.audio.containers.declared import Bytes, Declared, Overlay, find, joined
from pipeline.audio.containers.tags import TAIL_BYTES, end_of_audio

# A frame's first four bytes, as far as they are fixed.
_SYNC = re.compile(rb"\xff[\xf8\xf9][\x10-\xff][\x00-\xaf]", re.DOTALL)
_SECOND = b"fLaC\0\0\0\x22"
_MOST_BLOCKS = 10_000
_SIZES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608, **{code: 256 << code - 8 for code in range(8, 16)}}
_STREAMINFO_BYTES = 34


def _table(polynomial: int, bits: int) -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> bits - 1 else 0)
        entries.append(value & (1 << bits) - 1)
    return tuple(entries)


_CRC8, _CRC16 = _table(0x107, 8), _table(0x18005, 16)


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """A frame: its place in the bytes searched, and its first and last sample + 1."""

    place: int
    first: int
    stop: int


def check_flac(file: Bytes, *, thorough: bool, wanted: int = 0) -> Declared:
    """Compare the last frame with the number of samples that STREAMINFO says.

    Args:
        file: The file.
        thorough: Whether to search all of it for a second recording.
        wanted: Samples that are to be read: a header that says as many is believed. 0: it is not.

    Raises:
        BadRecording: A second recording is joined to the first.
    """
    info = file.at(0, 8 + _STREAMINFO_BYTES)
    if len(info) < 8 + _STREAMINFO_BYTES or info[4] & 0x7F:
        return Declared()
    total = int.from_bytes(info[18:26], "big") & (1 << 36) - 1
    if 0 < wanted <= total:
        return Declared()
    begin = _behind_metadata(file)
    end = file.size
    if thorough and next(find(file, _SECOND, begin, end), None) is not None:
        raise joined("FLAC")
    if total == 0:
        return Declared(counted=False)
    block, longest = int.from_bytes(info[10:12], "big"), int.from_bytes(info[15:18], "big")
    if longest and _ends_rightly(file, begin, end, total, block=block, longest=longest):
        return Declared()
    end = end_of_audio(file, begin)
    count = min(end - begin, max(TAIL_BYTES, 2 * longest))
    tail = file.at(end - count, count)
    last = _last_frame(tail, block, total)
    if last is None:
        return Declared(trailing_bytes=len(tail))
    if last.stop <= total:
        # What is longer than the longest frame that STREAMINFO knows of is more than the last one.
        return Declared(trailing_bytes=max(0, len(tail) - last.place - longest) if longest else 0)
    prefix = info[:18] + (int.from_bytes(info[18:26], "big") >> 36 << 36).to_bytes(8, "big") + info[26:]
    return Declared(overlay=Overlay(prefix=prefix, start=len(prefix), stop=end), counted=False, undeclared=True)


def _ends_rightly(file: Bytes, begin: int, end: int, total: int, *, block: int, longest: int) -> bool:
    """Say whether the last frame in the bytes that it may take is the last of those that STREAMINFO counts."""
    count = min(end - begin, longest)
    tail = file.at(end - count, count)
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        if _SYNC.match(tail, place) and (frame := _frame(tail, place, block)) is not None:
            return frame.stop == total
    return False


def _behind_metadata(file: Bytes) -> int:
    """Give the place of the first frame."""
    place = 4
    for _ in range(_MOST_BLOCKS):
        head = file.at(place, 4)
        place += 4 + int.from_bytes(head[1:], "big")
        if len(head) < 4 or head[0] & 0x80:
            break
    return place


def _last_frame(tail: bytes, block: int, total: int) -> _Frame | None:
    """Find the last frame of which more is sure than its checksum of 8 bits.

    Args:
        tail: The end of the file, without tags.
        block: Samples per frame, where that is fixed.
        total: Samples that STREAMINFO says; a frame that ends there needs no other witness.
    """
    frames = [frame for match in _SYNC.finditer(tail) if (frame := _frame(tail, match.start(), block))]
    for number in range(len(frames) - 1, -1, -1):
        frame = frames[number]
        follows = any(before.stop == frame.first for before in frames[:number])
        if frame.stop == total or follows or _crc(_CRC16, 16, tail[frame.place :]) == 0:
            return frame
    return None


def _frame(data: bytes, place: int, block: int) -> _Frame | None:
    """Read the head of a frame; None where there is none."""
    head = data[place : place + 16]
    if len(head) < 6 or head[3] & 1 or head[2] & 15 == 15 or head[3] >> 1 & 7 == 3:
        return None
    more = next((bits for bits in range(8) if not head[4] << bits & 0x80), 8)
    length = max(1, more)
    if more in (1, 8) or any(byte >> 6 != 2 for byte in head[5 : 4 + length]):
        return None
    number = head[4] & (0x7F >> more)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    code, foot = head[2] >> 4, 4 + length
    size = _SIZES.get(code)
    if size is None:
        size = int.from_bytes(head[foot : foot + code - 5], "big") + 1
        foot += code - 5
    foot += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if foot >= len(head) or _crc(_CRC8, 8, head[:foot]) != head[foot]:
        return None
    first = number if head[1] & 1 else number * block
    return _Frame(place=place, first=first, stop=first + size)


def _crc(table: tuple[int, ...], bits: int, data: bytes) -> int:
    value, mask = 0, (1 << bits) - 1
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> bits - 8 ^ byte]
    return value
