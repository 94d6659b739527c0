"""W64, Sony's WAV with 64-bit sizes and GUIDs for names: the same form, another frame.

Cost: the heads of all chunks.
"""

import re
import struct

from pipeline.audio.containers.declared import Bytes, Declared
from pipeline.audio.containers.extent import Data, check_held, extent
from pipeline.audio.containers.riff import STREAMING_SIZES, Form, declared_wave

_MAGIC = re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", re.DOTALL)
_HEAD = 24
_GUID_END = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
# ffmpeg writes 2^63-1 to a pipe.
_OPEN = (*STREAMING_SIZES, 2**63 - 1, _HEAD)


def check_wave64(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how much audio a W64 holds; see ``riff.check_wave``.

    Raises:
        BadRecording: It holds less than it declares, or several recordings are joined.
    """
    end = file.size
    form, fact, place = None, 0, 40
    while len(head := file.at(place, _HEAD)) == _HEAD:
        name, size = head[:4], struct.unpack("<Q", head[16:])[0]
        if head[4:16] == _GUID_END and name == b"data":
            break
        content = file.at(place + _HEAD, min(max(0, size - _HEAD), 64))
        if head[4:16] == _GUID_END and name == b"fmt " and len(content) >= 14:
            form = Form(content=content, order="<")
        elif head[4:16] == _GUID_END and name == b"fact" and len(content) >= 8:
            fact = struct.unpack("<Q", content[:8])[0]
        if size < _HEAD:
            return Declared()
        place += (size + 7) // 8 * 8
    else:
        return Declared()
    if form is None:
        return Declared()
    place += _HEAD
    data = Data(
        container="W64",
        begin=place,
        size=None if size in _OPEN and end > place else size - _HEAD,
        block=form.block,
        chunks=_are_chunks,
        magics=(b"riff\x2e\x91\xcf\x11",),
        magic=_MAGIC,
    )
    check_held(data, end - place)
    held = extent(file, data, thorough=thorough)
    return declared_wave(form, place, held, fact, right=held.size == data.size)


def _are_chunks(file: Bytes, begin: int, end: int) -> bool:
    """Say whether chunks of W64, and nothing else, lie in a part of a file; each begins at a multiple of 8."""
    while begin < end:
        aligned = min((begin + 7) // 8 * 8, end)
        if any(file.at(begin, aligned - begin)):
            return False
        begin = aligned
        if begin + _HEAD <= end:
            size = struct.unpack("<Q", file.at(begin + 16, 8))[0]
            if size < _HEAD:
                return False
            begin += size
        elif begin < end:
            return False
    return begin == end
