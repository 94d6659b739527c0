"""AIFF and AIFC.

Cost: the heads of all chunks.
"""

import math
import re
import struct

from pipeline.audio.containers.caf import Samples
from pipeline.audio.containers.declared import BadRecording, Bytes, Declared
from pipeline.audio.containers.extent import Data, check_held, extent
from pipeline.audio.containers.riff import STREAMING_SIZES, are_chunks

_MAGIC = re.compile(rb"FORM.{4}AIF[FC](?:COMM|FVER|SSND|COMT|NAME)", re.DOTALL)
_NAME = re.compile(rb"[ -~]{4}")
_HEAD_OF_SSND = 8
# Coding, whether floating point, whether the lowest byte comes first, bytes of a sample where the bits do not say.
_CODINGS = {
    b"NONE": ("lpcm", False, False, 0),
    b"twos": ("lpcm", False, False, 0),
    b"in24": ("lpcm", False, False, 3),
    b"in32": ("lpcm", False, False, 4),
    b"sowt": ("lpcm", False, True, 0),
    b"ni24": ("lpcm", False, True, 3),
    b"fl32": ("lpcm", True, False, 4),
    b"FL32": ("lpcm", True, False, 4),
    b"fl64": ("lpcm", True, False, 8),
    b"FL64": ("lpcm", True, False, 8),
    b"ulaw": ("ulaw", False, False, 1),
    b"ULAW": ("ulaw", False, False, 1),
    b"alaw": ("alaw", False, False, 1),
    b"ALAW": ("alaw", False, False, 1),
}


def check_aiff(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how much audio an AIFF or AIFC holds.

    Raises:
        BadRecording: It holds less than it declares, or several recordings are joined.
    """
    end = file.size
    common, sound, place = b"", None, 12
    while len(head := file.at(place, 8)) == 8:
        name, size = struct.unpack(">4sI", head)
        place += 8
        if name == b"COMM":
            common = file.at(place, min(size, 64))
        elif name == b"SSND" and sound is None:
            offset = file.at(place, 4)
            skipped = _HEAD_OF_SSND + (int.from_bytes(offset, "big") if len(offset) == 4 else 0)
            sound = place + skipped, size - skipped, size
        elif not _NAME.fullmatch(name):
            break
        if common and sound:
            break
        place += size + size % 2
    if len(common) < 18 or sound is None:
        return Declared()
    begin, size, written = sound
    coding = common[18:22] if file.at(8, 4) == b"AIFC" else b"NONE"
    samples, frames = _samples(common, coding), int.from_bytes(common[2:6], "big")
    block = samples.num_bytes * samples.channels if samples else 1
    if samples is not None and written not in STREAMING_SIZES:
        # The number of samples is said twice; the larger number is not the stale one.
        size = max(size, frames * block)
    data = Data(
        container="AIFF",
        begin=begin,
        size=None if written in (*STREAMING_SIZES, _HEAD_OF_SSND) and frames == 0 and end > begin else max(0, size),
        block=block,
        chunks=lambda file, begin, end: are_chunks(file, begin, end, ">"),
        magics=(b"FORM",),
        magic=_MAGIC,
    )
    check_held(data, end - begin)
    held = extent(file, data, thorough=thorough)
    if samples is None:
        if held.undeclared or held.size != size:
            raise BadRecording(
                "header_lies", f"the AIFF declares {size} bytes of {_text(coding)}, and holds {held.size}"
            )
        return Declared(trailing_bytes=held.trailing_bytes)
    right = held.size // block == frames and size == sound[1]
    return Declared(
        overlay=None if right and held.size == size else samples.overlay(begin, held.size),
        num_samples=held.size // block,
        trailing_bytes=held.trailing_bytes,
        undeclared=held.undeclared or held.size // block > frames,
    )


def _text(coding: bytes) -> str:
    return coding.decode("latin-1").strip()


def _samples(common: bytes, coding: bytes) -> Samples | None:
    """Read how samples lie; None for a codec."""
    channels, _, bits = struct.unpack(">hIh", common[:8])
    if coding not in _CODINGS or channels < 1 or not 1 <= bits <= 64:
        return None
    name, is_float, little, num_bytes = _CODINGS[coding]
    num_bytes = num_bytes or (bits + 7) // 8
    return Samples(
        coding=name,
        is_float=is_float,
        little=little,
        num_bytes=num_bytes,
        bits=8 * num_bytes,
        channels=channels,
        rate=_extended(common[8:18]),
    )


def _extended(number: bytes) -> float:
    """Read an 80-bit floating-point number, as AIFF writes its rate."""
    exponent, mantissa = struct.unpack(">HQ", number)
    return math.ldexp(float(mantissa), min(max((exponent & 0x7FFF) - 16_383 - 63, -1_000), 900))
