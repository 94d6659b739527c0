"""Tags before and behind the audio of any file: ID3v1, ID3v2, APEv2, Lyrics3. Programs add them to every container.

Cost: the last 64 KiB of a file, once.

Source:
    ID3v1 and ID3v2 (id3.org), APEv2 and Lyrics3 (hydrogenaud.io): magic bytes and sizes.
"""

import re

from pipeline.audio.containers.declared import Bytes

TAIL_BYTES = 65_536
"""What is looked at of the end of a file."""

_MOST_TAGS = 16
_ID3 = re.compile(rb"ID3[\x02-\x04][\x00-\x1f][\x00-\xff][\x00-\x7f]{4}")


def behind_id3(file: Bytes) -> int:
    """Give the place behind the ID3v2 tags that a file begins with."""
    place = 0
    for _ in range(_MOST_TAGS):
        length = _id3_length(file.at(place, 10))
        if length == 0:
            break
        place += length
    return place


def behind_zeros(file: Bytes, place: int) -> int:
    """Give the place behind the zeros, of which some programs leave a few after a tag."""
    padding = file.at(place, TAIL_BYTES)
    return place + len(padding) - len(padding.lstrip(b"\0"))


def _id3_length(head: bytes) -> int:
    """Give the length of the ID3v2 tag with that head, bytes; 0 where it is none."""
    if len(head) < 10 or not _ID3.match(head):
        return 0
    a, b, c, d = head[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)


def end_of_audio(file: Bytes, begin: int = 0) -> int:
    """Give the place where the tags begin that a file ends with; its end where there are none.

    Args:
        file: The file.
        begin: Where its audio begins; no tag reaches before it.
    """
    end = file.size
    base = max(begin, end - TAIL_BYTES)
    tail = file.at(base, end - base)
    for _ in range(_MOST_TAGS):
        length = _last_tag(tail[: max(0, end - base)])
        if length == 0 or end - length < begin:
            break
        end -= length
    return end


def _last_tag(data: bytes) -> int:
    """Give the length of the tag that data ends with, bytes; 0 where there is none."""
    if data[-128:-125] == b"TAG" and len(data) >= 128:
        return 128 + (227 if data[-355:-351] == b"TAG+" else 0)
    if data[-32:-24] == b"APETAGEX" and len(data) >= 32:
        header = 32 if data[-9] & 0x80 else 0
        return int.from_bytes(data[-20:-16], "little") + header
    if data[-9:] == b"LYRICS200" and data[-15:-9].isdigit():
        return int(data[-15:-9]) + 15
    if data[-9:] == b"LYRICSEND" and (start := data.rfind(b"LYRICSBEGIN", -5_200)) >= 0:
        return len(data) - start
    if data[-10:-7] == b"3DI" and max(data[-4:], default=0xFF) < 0x80:
        a, b, c, d = data[-4:]
        return (a << 21 | b << 14 | c << 7 | d) + 20
    ends = (m.start() for m in _ID3.finditer(data) if m.start() + _id3_length(data[m.start() :][:10]) == len(data))
    return len(data) - next(ends, len(data))


def only_tags(file: Bytes, begin: int, end: int) -> bool:
    """Say whether a part of a file is tags that follow each other, and zeros.

    Args:
        file: The file.
        begin: First byte of the part.
        end: Byte after its last, where ``end_of_audio`` found no further tag.
    """
    for _ in range(_MOST_TAGS):
        if begin >= end:
            return True
        head = file.at(begin, 32)
        if head[:8] == b"APETAGEX" and len(head) == 32:
            # Of a header its size counts what follows it.
            begin += int.from_bytes(head[12:16], "little") + 32
        elif length := _id3_length(head[:10]):
            begin += length
        else:
            break
    return only_zeros(file, begin, end)


def only_zeros(file: Bytes, begin: int, end: int) -> bool:
    """Say whether a part of a file is zeros, and not so many that they may be silence: fewer than 64 KiB."""
    return begin >= end or end - begin < TAIL_BYTES and not any(file.at(begin, end - begin))
