"""What the bytes of an audio container declare, read without decoding, where libsndfile does not tell.

libsndfile takes the samples it finds for those declared: a WAV or Ogg file that was cut looks whole to it. It
takes a WAV without a size for an empty one, and stops an MP3 without a length where its own guess ends.
Imports only the standard library, because the decode child starts with it. Cost: a few reads a file.
"""

import os
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

# Sizes that writers to a pipe leave behind: ffmpeg 2^32-1, sox 0x7FFFF000, arecord 2^31, unclosed files 0.
STREAMING_SIZES = (0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**64 - 1)


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
    """A corrected beginning: the file is to be read as ``prefix`` and then its bytes from ``start`` on."""

    prefix: bytes
    start: int


def sniff(head: bytes) -> str | None:
    """Name the container, by its magic bytes.

    Args:
        head: The first 12 bytes of a file, or fewer of a shorter one.

    Returns:
        wav, flac, ogg or mp3; None for anything else.
    """
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:3] == b"ID3":
        return "mp3"
    if len(head) < 3 or head[0] != 0xFF or head[1] >> 5 != 7:
        return None
    # Of MPEG audio, layers II and III: FF FE, which would be layer I, begins a text in UTF-16.
    version, layer, bit_rate, sample_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return "mp3" if version != 1 and layer in (1, 2) and bit_rate != 15 and sample_rate != 3 else None


def check_wave(file: BinaryIO) -> Overlay | None:
    """Check the declared size of a WAV against its bytes; libsndfile silently cuts to what is there.

    Returns:
        A header that says 'to the end of the file', where the data size is 0 before real data; else None.

    Raises:
        Refused: The data chunk is larger than the file: ``header_lies`` when the RIFF size contradicts it too,
            ``truncated`` when both agree on a longer file.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    kind, riff_size = struct.unpack("<4sI", file.read(8))
    order = ">" if kind == b"RIFX" else "<"
    if order == ">":
        riff_size = int.from_bytes(struct.pack("<I", riff_size), "big")
    file.seek(12)
    block_align, long_size = 1, None
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}4sI", head)
        body = file.tell()
        if kind == b"data":
            break
        content = file.read(min(size, 32))
        if kind == b"fmt " and len(content) >= 14:
            block_align = max(1, struct.unpack_from(f"{order}H", content, 12)[0])
        elif kind == b"ds64" and len(content) >= 16:
            riff_size, long_size = struct.unpack_from("<QQ", content)
        file.seek(body + size + size % 2)
    else:
        return None
    if long_size is not None and size == 0xFFFF_FFFF:
        size = long_size
    held = end - body
    if size in STREAMING_SIZES:
        if size > 0 or held == 0 or riff_size + 8 == end:
            return None
        file.seek(0)
        return Overlay(prefix=file.read(body - 4) + b"\xff" * 4, start=body)
    if size // block_align <= held // block_align:
        return None
    found = f"the data chunk declares {size} bytes, the file holds {held}"
    if riff_size not in STREAMING_SIZES and body + size > riff_size + 8 + 1:
        raise BadRecording("header_lies", f"{found}, and the RIFF size contradicts it")
    raise BadRecording("truncated", found)


def check_ogg(file: BinaryIO) -> int | None:
    """Check the end of an Ogg file; libsndfile takes what is there for the whole recording.

    Returns:
        Samples that the last page adds, in units of its granule position; None for a file of one page.

    Raises:
        Refused: The last page is cut, or belongs to a second recording appended to the first.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(8192)
    # A page is at most 65,307 bytes, so two whole ones are in the tail.
    file.seek(max(0, end - 131_072))
    tail = file.read()
    pages = [match.start() for match in re.finditer(b"OggS\x00", tail)]
    if not pages:
        return None
    last = tail[pages[-1] :]
    segments = last[26] if len(last) > 26 else 255
    if len(last) < 27 + segments or len(last) < 27 + segments + sum(last[27 : 27 + segments]):
        raise BadRecording("truncated", "the last Ogg page is cut")
    if last[14:18] not in _ogg_serials(head):
        raise BadRecording("truncated", "several Ogg recordings are joined and only the first can be read; split them")
    ends = [struct.unpack_from("<q", tail, page + 6)[0] for page in pages if len(tail) >= page + 14]
    ends = [end for end in ends if end >= 0]
    return ends[-1] - ends[-2] if len(ends) > 1 else None


def _ogg_serials(head: bytes) -> list[bytes]:
    """List the streams of the first recording of an Ogg file: their first pages precede all others."""
    serials = []
    page = 0
    while head[page : page + 5] == b"OggS\x00" and len(head) > page + 26 and head[page + 5] & 2:
        serials.append(head[page + 14 : page + 18])
        segments = head[page + 26]
        page += 27 + segments + sum(head[page + 27 : page + 27 + segments])
    return serials


def check_mp3(file: BinaryIO) -> tuple[bool, Overlay | None]:
    """Look whether the first frame of an MP3 counts the others.

    Without that tag libsndfile guesses from the first bit rate: 960,000 samples became 4,079,808, 320,000 became
    175,176, and it reads no further than its guess.

    Returns:
        Whether the length is declared; if not, a tag to put before the frames, with a count that no file of this
        size exceeds (Layer III only; other layers have one bit rate, so that the guess holds).

    Source:
        Xing's VBR header: four bytes "Xing" after the side information, flags, then the number of frames.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(10)
    begin = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:10]
        begin = 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)
    file.seek(begin)
    data = file.read(65_536)
    places = (match.start() for match in re.finditer(rb"\xff[\xe0-\xff]", data))
    frame = next((place for place in places if sniff(data[place : place + 4]) == "mp3"), None)
    if frame is None or len(data) < frame + 4:
        return False, None
    # The tag lies at most 36 bytes into the frame; bit 0 of its flags says that frames are counted.
    if re.search(rb"(?:Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI", data[frame : frame + 64]):
        return True, None
    if data[frame + 1] >> 1 & 3 != 1:
        return False, None
    # The shortest frame there is has 24 bytes: 8 kbit/s at 24 kHz.
    tag = _xing_frame(data[frame : frame + 4], num_bytes // 24 + 1)
    return False, Overlay(prefix=tag, start=begin + frame)


def _xing_frame(header: bytes, num_frames: int) -> bytes:
    """Make a silent Layer III frame like the one whose 4-byte header is given, which counts frames."""
    version, mono = header[1] >> 3 & 3, header[3] >> 6 == 3
    rate = (44_100, 48_000, 32_000)[header[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    # Bit rate 9 of MPEG 1 is 128 kbit/s, bit rate 8 of MPEG 2 and 2.5 is 64; both without padding and checksum.
    code, length = (9, 144 * 128_000 // rate) if version == 3 else (8, 72 * 64_000 // rate)
    side = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[version == 3, mono]
    begin = bytes([0xFF, header[1] | 1, code << 4 | header[2] & 0x0C, header[3]]) + bytes(side)
    return (begin + b"Xing" + struct.pack(">II", 1, num_frames)).ljust(length, b"\0")
