"""Matroska and WebM: whether all blocks are there, and the duration that it says. FFmpeg reads it (``media.py``).

FFmpeg steps over damage, and ends where a block is cut, without an error: so the file is walked from block to block,
0.3 s for an hour, and all its bytes. Browsers write segments and clusters of unknown size, as they record.

Source:
    RFC 8794 (EBML): numbers of variable length, elements of unknown size. RFC 9559 (Matroska): the identifiers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared, joined
from pipeline.audio.containers.tags import only_tags

_EBML, _SEGMENT, _CLUSTER, _INFO = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x1549A966
_BLOCKS = {0xA3, 0xA0}
_SCALE, _DURATION = 0x2AD7B1, 0x4489
_DEFAULT_SCALE = 1_000_000
_WINDOW = 1 << 16
# An info of more bytes holds no more than a duration and names.
_MOST_INFO = 1 << 16


@dataclass(frozen=True, kw_only=True)
class _Element:
    """An element: its identifier, its content, and whether its size is unknown."""

    ident: int
    begin: int
    end: int
    open: bool


class _Window:
    """Reads short ranges that follow each other, a large one at a time."""

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self._start, self._data = 0, b""

    def at(self, place: int, count: int) -> bytes:
        if not self._start <= place <= place + count <= self._start + len(self._data):
            self._start, self._data = place, self._file.at(place, max(count, _WINDOW))
        return self._data[place - self._start :][:count]


def check_matroska(file: Bytes) -> Declared:
    """Find out whether the segment is whole.

    Args:
        file: The file, from its EBML head on.

    Raises:
        BadRecording: It ends behind the file, is damaged, or is followed by another.
    """
    head = _element(_Window(file), 0, file.size)
    segment = _element(_Window(file), head.end, file.size) if head is not None else None
    if segment is None or segment.ident != _SEGMENT:
        raise BadRecording("truncated", "it has no Matroska segment")
    if segment.end > file.size:
        raise BadRecording("truncated", f"its segment ends at byte {segment.end} of {file.size}")
    if file.at(segment.end, 4) == _EBML.to_bytes(4, "big"):
        raise joined("Matroska")
    rest = 0 if only_tags(file, segment.end, file.size) else file.size - segment.end
    seconds = _seconds(file, segment)
    return Declared(counted=False, packets=_blocks(file, segment), seconds=seconds, trailing_bytes=rest)


def _element(window: _Window, place: int, end: int) -> _Element | None:
    """Read the head of an element; None where there is none."""
    head = window.at(place, min(12, end - place))
    if not head or not head[0] >> 4:
        return None
    length = 9 - head[0].bit_length()
    ident, head = int.from_bytes(head[:length], "big"), head[length:]
    if not head or not head[0]:
        return None
    width = 9 - head[0].bit_length()
    size = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
    begin = place + length + width
    if len(head) < width:
        return None
    unknown = size == (1 << 7 * width) - 1
    return _Element(ident=ident, begin=begin, end=end if unknown else begin + size, open=unknown)


def _children(window: _Window, begin: int, end: int) -> Iterator[_Element]:
    """Give the elements of a range; those of an open one are given as if they stood beside it.

    Raises:
        BadRecording: They do not fill it.
    """
    place = begin
    while place < end:
        found = _element(window, place, end)
        if found is None or found.end > end:
            raise BadRecording("truncated", f"its element at byte {place} does not end before byte {end}")
        yield found
        place = found.begin if found.open else found.end


def _blocks(file: Bytes, segment: _Element) -> int:
    """Go through the clusters; gives the number of their blocks."""
    window = _Window(file)
    count = 0
    for found in _children(window, segment.begin, segment.end):
        if found.ident == _EBML:
            raise joined("Matroska")
        if found.ident == _CLUSTER and not found.open:
            count += sum(inner.ident in _BLOCKS for inner in _children(window, found.begin, found.end))
        count += found.ident in _BLOCKS
    return count


def _seconds(file: Bytes, segment: _Element) -> float | None:
    """Read the duration in the head of a segment; None where it says none."""
    window = _Window(file)
    for found in _children(window, segment.begin, segment.end):
        if found.ident == _CLUSTER:
            return None
        if found.ident == _INFO and found.end - found.begin <= _MOST_INFO:
            return _duration(window, found)
    return None


def _duration(window: _Window, info: _Element) -> float | None:
    scale, duration = _DEFAULT_SCALE, None
    for found in _children(window, info.begin, info.end):
        data = window.at(found.begin, min(8, found.end - found.begin))
        if found.ident == _SCALE:
            scale = int.from_bytes(data, "big")
        elif found.ident == _DURATION and len(data) in (4, 8):
            (duration,) = struct.unpack(">f" if len(data) == 4 else ">d", data)
    return None if duration is None else duration * scale / 1e9
