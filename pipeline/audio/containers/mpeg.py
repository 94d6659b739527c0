"""MPEG audio, as in MP3: how many frames there are, and where the first sample is.

libsndfile believes the count of frames in a Xing tag, and reads no further. Without one it guesses from the first bit
rate, 4,079,808 samples where 960,000 were, 175,176 where 320,000 were, and reads no further than its guess. Cost: 0.1 s
per hour of audio, for a walk from frame to frame; not done of remote files that are large and say their size.

Source:
    ISO/IEC 11172-3 (2.4.1.3) and 13818-3: the frame header. Xing's and LAME's tag: "Xing" or "Info" behind the side
    information, flags, number of frames, number of bytes; LAME's delay 21 bytes into its own part.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.audio.containers.declared import SCANNED_BYTES, BadRecording, Bytes, Declared, Overlay
from pipeline.audio.containers.magic import sniff
from pipeline.audio.containers.tags import TAIL_BYTES, end_of_audio, only_tags

DECODER_DELAY = 529
"""Samples by which every decoder of Layer III is late; a Xing tag makes readers leave them out."""

_RATES = (44_100, 48_000, 32_000)
_VERSIONS = {3: 1, 2: 2, 0: 4}
_KBITS = {
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_PLACES = re.compile(rb"\xff[\xe0-\xff]")
_CHAINED = 3
_WALKED_REMOTE_BYTES = 1 << 20
# Times its length that a file must be said to have so that no guess is too short: bit rates differ by 20 at most.
_CLAIMED = 64


@dataclass(frozen=True, kw_only=True)
class _Tag:
    """What the first frame says of the others.

    Attributes:
        num_frames: How many there are; None where it does not say.
        num_bytes: Their bytes and its own; None where it does not say.
        delay: Samples of the encoder's delay.
    """

    num_frames: int | None
    num_bytes: int | None
    delay: int


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Frames that follow each other.

    Attributes:
        num_frames: How many.
        stop: The byte behind the last.
        other: Whether a frame of another rate, version or layer follows them.
    """

    num_frames: int
    stop: int
    other: bool


def check_mpeg(file: Bytes, *, thorough: bool, remote: bool) -> Declared:
    """Find the length of an MP3, or that it must be counted.

    Args:
        file: The file, behind its ID3v2 tags.
        thorough: Whether to look at every frame of a file whose length must be counted in any case.
        remote: Whether its bytes must be fetched.

    Raises:
        BadRecording: Recordings of different rates are joined.
    """
    begin = _first_frame(file)
    if begin is None:
        return Declared(counted=False)
    head = file.at(begin, 4)
    end = end_of_audio(file, begin)
    lengths, spf = _lengths(head), samples_per_frame(head)
    length = lengths.get(head[1] << 8 | head[2])
    if length is None:
        # Free format: a bit rate that no table holds.
        return Declared(counted=False)
    first = file.at(begin, length)
    tag = _tag(first)
    if tag is None or tag.num_frames is None:
        start = begin + length if tag is not None else begin
        found = walk(file, start, end, lengths) if thorough else None
        return _uncounted(found, start, end, spf=spf, lead=0)
    start = begin + length
    said = tag.num_bytes is not None and begin + tag.num_bytes + 2 * length >= end
    if remote and said and end > _WALKED_REMOTE_BYTES:
        return Declared()
    found = walk(file, start, end, lengths)
    # The tag may count itself.
    if found.num_frames > tag.num_frames + 1 or found.other:
        return _uncounted(found, start, end, spf=spf, lead=tag.delay + DECODER_DELAY, undeclared=True)
    trailing = end - found.stop if not only_tags(file, found.stop, end) else 0
    return Declared(trailing_bytes=trailing if trailing >= length else 0)


def _uncounted(found: Walk | None, start: int, end: int, *, spf: int, lead: int, undeclared: bool = False) -> Declared:
    """Describe an MP3 that is to be read to its end, wherever the decoder guesses that to be."""
    if found is not None and found.other:
        raise BadRecording(
            "truncated",
            "several MP3 recordings of different rates are joined and only the first can be read; split them",
        )
    return Declared(
        overlay=Overlay(prefix=b"", start=start, stop=end, claimed=_CLAIMED),
        counted=False,
        lead=lead,
        fewest=max(0, found.num_frames - 2) * spf if found is not None else 0,
        undeclared=undeclared,
    )


def samples_per_frame(head: bytes) -> int:
    """Give the samples of a frame with that 4-byte header."""
    layer_3, mpeg_1 = head[1] >> 1 & 3 == 1, head[1] >> 3 & 3 == 3
    return 576 if layer_3 and not mpeg_1 else 1152


def _lengths(head: bytes) -> dict[int, int]:
    """Give the length of a frame by its second and third byte, for frames of the same version, layer and rate."""
    version, layer, code = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3
    rate = _RATES[code] // _VERSIONS[version]
    slots = 72 if version != 3 and layer == 1 else 144
    found = {}
    for checked in (0, 1):
        for number, kbits in enumerate(_KBITS[version == 3, layer], start=1):
            for padded in (0, 1):
                for private in (0, 1):
                    second = 0xE0 | version << 3 | layer << 1 | checked
                    third = number << 4 | code << 2 | padded << 1 | private
                    found[second << 8 | third] = slots * kbits * 1000 // rate + padded
    return found


def _first_frame(file: Bytes) -> int | None:
    """Find the first frame: the file's first bytes, or else where frames follow each other."""
    data = file.at(0, TAIL_BYTES)
    if sniff(data[:4]) == "mp3" and data[:3] != b"ID3":
        return 0
    return next(_begins(data), None)


def _begins(data: bytes) -> Iterator[int]:
    """Give the places from which frames follow each other."""
    for match in _PLACES.finditer(data):
        if sniff(data[match.start() : match.start() + 4]) == "mp3" and _chained(data, match.start()):
            yield match.start()


def _chained(data: bytes, place: int) -> bool:
    """Say whether three frames begin there, or fewer that end where the data does."""
    lengths = _lengths(data[place : place + 4])
    for _ in range(_CHAINED):
        length = lengths.get(data[place + 1] << 8 | data[place + 2]) if data[place] == 0xFF else None
        if length is None:
            return False
        place += length
        if place + 4 > len(data):
            return place == len(data)
    return True


def walk(file: Bytes, begin: int, end: int, lengths: dict[int, int]) -> Walk:
    """Go from frame to frame, over tags and little else between them.

    Args:
        file: The file.
        begin: Place of the first frame.
        end: Where to stop.
        lengths: Bytes of a frame by its second and third byte.
    """
    base, data, count, place = begin, b"", 0, begin
    while place + 4 <= end:
        at = place - base
        if at + 4 > len(data):
            base, data, at = place, file.at(place, min(SCANNED_BYTES, end - place)), 0
            if len(data) < 4:
                break
        length = lengths.get(data[at + 1] << 8 | data[at + 2]) if data[at] == 0xFF else None
        if length is not None:
            # Of the last frame all is there, or it is none.
            if place + length > end:
                break
            count += 1
            place += length
            continue
        further = _resume(file, place, end)
        if further is None:
            break
        if lengths.get(int.from_bytes(file.at(further + 1, 2), "big")) is None:
            return Walk(num_frames=count, stop=place, other=True)
        place = further
    return Walk(num_frames=count, stop=place, other=False)


def _resume(file: Bytes, place: int, end: int) -> int | None:
    """Find the next place from which frames follow each other; None where there is none within 64 KiB or a tag."""
    head = file.at(place, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        place += 10 + (a << 21 | b << 14 | c << 7 | d)
    found = next(_begins(file.at(place, min(TAIL_BYTES, max(0, end - place)))), None)
    return None if found is None else place + found


def _tag(frame: bytes) -> _Tag | None:
    """Read the tag of an encoder in the first frame; None where that is audio."""
    if frame[36:40] == b"VBRI":
        # libsndfile does not read it.
        return _Tag(num_frames=None, num_bytes=None, delay=0)
    mono, mpeg_1 = frame[3] >> 6 == 3, frame[1] >> 3 & 3 == 3
    place = 4 + {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[mpeg_1, mono]
    if frame[place : place + 4] not in (b"Xing", b"Info") or len(frame) < place + 8:
        return None
    flags = int.from_bytes(frame[place + 4 : place + 8], "big")
    place += 8
    numbers: list[int | None] = []
    for bit in (1, 2):
        held = frame[place : place + 4] if flags & bit else b""
        numbers.append(int.from_bytes(held, "big") if len(held) == 4 else None)
        place += 4 if flags & bit else 0
    place += (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    lame = frame[place : place + 24]
    delay = int.from_bytes(lame[21:23], "big") >> 4 if len(lame) == 24 and lame[0] else 0
    return _Tag(num_frames=numbers[0] or None, num_bytes=numbers[1], delay=delay)
