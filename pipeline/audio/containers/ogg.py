"""Ogg: whether the file is one whole recording, and of what codec.

libsndfile takes what is there for the whole recording, and the first recording for all. Cost: the first 8 and the last
128 KiB; all of a file where a second recording is searched for.

Source:
    RFC 3533 (section 6): the page header. RFC 7845, Vorbis I and the FLAC mapping: first packets of codecs.
"""

import re
import struct
from collections.abc import Iterator

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared, find, joined
from pipeline.audio.containers.tags import end_of_audio

_HEAD_BYTES = 8192
# A page is at most 65,307 bytes, so two whole ones are in the tail.
_TAIL_BYTES = 131_072
_PAGE = re.compile(b"OggS\x00")
_FIRST = (b"OggS\x00\x02", b"OggS\x00\x06")
_READ = (b"\x01vorbis", b"OpusHead")
_NOT_READ = {
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"fishead\0": "Skeleton",
    b"PCM     ": "PCM",
    b"CELT": "CELT",
}


def check_ogg(file: Bytes, *, thorough: bool) -> Declared:
    """Check the pages at the beginning and at the end of an Ogg file.

    Args:
        file: The file.
        thorough: Whether to search all of it for a second recording.

    Raises:
        BadRecording: No stream is of a codec that is read, the last page is cut or says less than one before it, or a
            second recording is joined to the first.
    """
    head = file.at(0, _HEAD_BYTES)
    firsts = list(_first_pages(head))
    _check_codecs(head, firsts)
    behind = max((place + length for place, length in firsts), default=0)
    end = end_of_audio(file)
    if thorough:
        for magic in _FIRST:
            if any(_is_page(file, place) for place in find(file, magic, behind, end)):
                raise joined("Ogg")
    begin = max(0, end - _TAIL_BYTES)
    tail = file.at(begin, end - begin)
    pages = [match.start() for match in _PAGE.finditer(tail)]
    if not pages:
        return Declared(trailing_bytes=len(tail))
    last = tail[pages[-1] :]
    segments = last[26] if len(last) > 26 else 255
    length = 27 + segments + sum(last[27 : 27 + segments])
    if len(last) < 27 + segments or len(last) < length:
        raise BadRecording("truncated", "the last Ogg page is cut")
    serials = [head[place + 14 : place + 18] for place, _ in firsts]
    if last[14:18] not in serials:
        raise joined("Ogg")
    own = [place for place in pages if tail[place + 14 : place + 18] == last[14:18]]
    ends = [struct.unpack_from("<q", tail, place + 6)[0] for place in own if len(tail) >= place + 14]
    ends = [granule for granule in ends if granule >= 0]
    if len(ends) > 1 and ends[-1] < max(ends):
        raise BadRecording("header_lies", f"the last Ogg page ends at sample {ends[-1]}, one before it at {max(ends)}")
    return Declared(last_page=ends[-1] - ends[-2] if len(ends) > 1 else None, trailing_bytes=len(last) - length)


def _first_pages(head: bytes) -> Iterator[tuple[int, int]]:
    """Give place and length of the first page of each stream of the first recording: they precede all others."""
    place = 0
    while head[place : place + 5] == b"OggS\x00" and len(head) > place + 26 and head[place + 5] & 2:
        segments = head[place + 26]
        length = 27 + segments + sum(head[place + 27 : place + 27 + segments])
        yield place, length
        place += length


def _check_codecs(head: bytes, firsts: list[tuple[int, int]]) -> None:
    packets = [head[place + 27 + head[place + 26] : place + length] for place, length in firsts]
    if not packets or any(packet.startswith(_READ) for packet in packets):
        return
    names = [name for packet in packets for magic, name in _NOT_READ.items() if packet.startswith(magic)]
    what = " and ".join(names) or "an unknown codec"
    raise BadRecording(
        "not_audio", f"this is Ogg with {what}, not with Vorbis or Opus; convert it (ffmpeg -i FILE FILE.flac)"
    )


def _is_page(file: Bytes, place: int) -> bool:
    """Say whether a whole page with a right checksum begins there, and not samples that look like one."""
    page = file.at(place, 65_307)
    segments = page[26] if len(page) > 26 else 255
    length = 27 + segments + sum(page[27 : 27 + segments])
    if len(page) < length:
        return False
    value = 0
    for byte in page[:22] + bytes(4) + page[26:length]:
        value = (value << 8 & 0xFFFF_FFFF) ^ _CRC32[value >> 24 ^ byte]
    return value == int.from_bytes(page[22:26], "little")


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x1_04C1_1DB7 if value >> 31 else 0)
        entries.append(value)
    return tuple(entries)


_CRC32 = _table()
