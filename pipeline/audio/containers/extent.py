"""How far the audio of a container reaches that says the size of its data: WAV, W64, AIFF, AU, CAF, SPHERE.

A size may be stale (the recorder was stopped), wrapped (past 4 GiB), or the first of several joined recordings. What
lies behind the audio that is declared must be known by its form, or it is audio too.

Cost: the heads of the chunks behind the audio, and the last 64 KiB.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.audio.containers.declared import BadRecording, Bytes, find, joined
from pipeline.audio.containers.magic import MAGIC_BYTES
from pipeline.audio.containers.tags import end_of_audio, only_tags

_WRAP = 1 << 32


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where a container says its audio lies.

    Attributes:
        container: Its name, for messages.
        begin: First byte of the audio.
        size: Bytes of it; None where the header leaves it open, to the end of the file.
        block: Bytes that decode together: a sample of every channel, or a block of a codec.
        chunks: Says whether chunks of the container, and nothing else, lie in a part of the file.
        magics: The first bytes that a recording of the kind may have.
        magic: What such a recording begins with, told from samples that begin alike.
    """

    container: str
    begin: int
    size: int | None
    block: int
    chunks: Callable[[Bytes, int, int], bool]
    magics: tuple[bytes, ...]
    magic: re.Pattern[bytes]


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Where the audio lies in truth.

    Attributes:
        size: Bytes of it.
        undeclared: Whether that is more than the header says.
        trailing_bytes: Bytes behind it that are nothing known, less than a block.
    """

    size: int
    undeclared: bool
    trailing_bytes: int = 0


def extent(file: Bytes, data: Data, *, thorough: bool) -> Extent:
    """Find the end of the audio.

    Args:
        file: The file.
        data: What its header says; its size is not above what the file holds.
        thorough: Whether to search audio without a size for a second recording, which reads all of it.

    Raises:
        BadRecording: Several recordings are joined.
    """
    end = file.size
    if data.size is None:
        if thorough and _second(file, data, data.begin, end):
            raise joined(data.container)
        return Extent(size=_open_end(file, data, end) - data.begin, undeclared=False)
    size = min(data.size, end - data.begin)
    # A size past 4 GiB is written without its upper half.
    while data.begin + size <= end:
        if _is_rest(file, data, data.begin + size, end):
            return Extent(size=size, undeclared=size > data.size)
        size += _WRAP
    stop = _open_end(file, data, end)
    left = stop - data.begin - data.size
    if left < data.block:
        return Extent(size=min(data.size, end - data.begin), undeclared=False, trailing_bytes=max(0, left))
    if thorough and _second(file, data, data.begin + data.size, end):
        raise joined(data.container)
    return Extent(size=stop - data.begin, undeclared=True)


def _is_rest(file: Bytes, data: Data, begin: int, end: int) -> bool:
    """Say whether what begins there is known and no audio; a chunk begins at an even byte, or should."""
    if begin >= end:
        return True
    for place in {begin, begin + begin % 2, begin + (begin - data.begin) % 2}:
        # First, because a whole recording has the form of a chunk, of which it is one.
        if data.magic.match(file.at(place, MAGIC_BYTES)):
            raise joined(data.container)
        if place >= end or data.chunks(file, place, end):
            return True
        stop = end_of_audio(file, place)
        if only_tags(file, place, stop) or stop < end and data.chunks(file, place, stop):
            return True
    return False


def _second(file: Bytes, data: Data, begin: int, end: int) -> bool:
    """Say whether a second recording begins in a part of the file."""
    places = (place for magic in data.magics for place in find(file, magic, begin, end))
    return any(data.magic.match(file.at(place, MAGIC_BYTES)) for place in places)


def _open_end(file: Bytes, data: Data, end: int) -> int:
    """Give the end of audio whose size nobody says: before tags, and before chunks that end the file."""
    stop = max(data.begin, end_of_audio(file, data.begin))
    base = max(data.begin, stop - 65_536)
    tail = file.at(base, stop - base)
    for match in re.finditer(
        rb"LIST|bext|id3 |ID3 |iXML|_PMX|cue |smpl|PEAK|fact|ANNO|NAME|AUTH|\(c\) |COMT|MARK", tail
    ):
        if data.chunks(file, base + match.start(), stop):
            return base + match.start()
    return stop


def check_held(data: Data, held: int, *, contradicted: bool = False) -> None:
    """Refuse a file that holds less than its header says; libsndfile silently cuts to what is there.

    Args:
        data: What the header says.
        held: Bytes from the first of the audio to the end of the file.
        contradicted: Whether another number of the header fits the shorter file.

    Raises:
        BadRecording: ``header_lies`` where the header contradicts itself, else ``truncated``.
    """
    if data.size is None or data.size // data.block <= held // data.block:
        return
    found = f"the header declares {data.size} bytes of audio, the file holds {held}"
    if contradicted:
        raise BadRecording("header_lies", f"{found}, and its size of the whole contradicts it")
    raise BadRecording("truncated", found)
