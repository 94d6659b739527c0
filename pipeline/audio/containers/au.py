"""AU and SND of Sun and NeXT.

Cost: the head.
"""

import re
import struct

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared, Overlay
from pipeline.audio.containers.extent import Data, check_held, extent

_UNKNOWN = 0xFFFF_FFFF
# Bytes of a sample by encoding: mu-law, PCM of 8 to 32 bits, float, double, A-law.
_SAMPLE_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def check_au(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how much audio an AU holds.

    Raises:
        BadRecording: It holds less than it declares, or several recordings are joined.
    """
    end = file.size
    head = file.at(0, 24)
    if len(head) < 24:
        return Declared()
    order = ">" if head[:4] == b".snd" else "<"
    begin, size, encoding, _, channels = struct.unpack(f"{order}5I", head[4:])
    if begin < 24 or begin > end or channels < 1:
        return Declared()
    known = encoding in _SAMPLE_BYTES
    block = _SAMPLE_BYTES.get(encoding, 1) * (channels if known else 1)
    is_open = size in (_UNKNOWN, 0) and end > begin
    data = Data(
        container="AU",
        begin=begin,
        size=None if is_open else size,
        block=block,
        chunks=_are_none,
        magics=(head[:4],),
        magic=re.compile(re.escape(head[:4]) + rb"\0\0.{18}", re.DOTALL),
    )
    check_held(data, end - begin)
    held = extent(file, data, thorough=thorough)
    if not known and held.undeclared:
        raise BadRecording("header_lies", f"more audio follows the {size} bytes that the AU declares")
    overlay = None
    if held.size != size and known:
        # "Unknown" is the one size that fits any length.
        prefix = head[:8] + b"\xff" * 4 + file.at(12, begin - 12)
        overlay = Overlay(prefix=prefix, start=begin, stop=begin + held.size)
    return Declared(
        overlay=overlay,
        num_samples=held.size // block if known else None,
        trailing_bytes=held.trailing_bytes,
        undeclared=held.undeclared,
    )


def _are_none(file: Bytes, begin: int, end: int) -> bool:
    """Say that there are no chunks in this container."""
    return False
