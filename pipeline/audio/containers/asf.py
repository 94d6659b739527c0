"""ASF, the container of WMA: whether all packets are there, how long they last, and whether they are encrypted.

FFmpeg ends without an error where packets are missing. Cost: the head of the file.

Source:
    Microsoft, Advanced Systems Format specification 01.20.03: objects (2.1), the header (3.1), file properties (3.2),
    content encryption (3.14, 3.15), the data object (5.1).
"""

import uuid
from collections.abc import Iterator

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared

_FILE = uuid.UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
_DATA = uuid.UUID("75B22636-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_ENCRYPTION = {
    uuid.UUID("2211B3FB-BD23-11D2-B4B7-00A0C955FC6E").bytes_le,
    uuid.UUID("298AE614-2622-4C17-B935-DAE07EE9289C").bytes_le,
}
_HEADER_BYTES, _OBJECT_BYTES, _DATA_BYTES, _FILE_BYTES = 30, 24, 50, 104
_BROADCAST = 1


def check_asf(file: Bytes) -> Declared:
    """Compare the size of the data with the file's.

    Args:
        file: The file.

    Raises:
        BadRecording: Packets are missing, or they are encrypted.
    """
    stop = _number(file, 16, 8)
    properties = None
    for kind, place, size in _objects(file, _HEADER_BYTES, stop):
        if kind in _ENCRYPTION:
            raise BadRecording("not_audio", "it is encrypted")
        if kind == _FILE and size >= _FILE_BYTES:
            properties = place
    if properties is None or file.at(stop, 16) != _DATA:
        raise BadRecording("truncated", f"its header has {stop} bytes, and its packets do not follow in {file.size}")
    packets, length = _number(file, properties + 56, 8), _number(file, properties + 92, 4)
    begin = stop + _DATA_BYTES
    if _number(file, properties + 88, 4) & _BROADCAST:
        # One that is written as it is recorded says no sizes.
        if length and (file.size - begin) % length:
            raise BadRecording("truncated", f"its last packet has {(file.size - begin) % length} of {length} bytes")
        return Declared(counted=False)
    if begin + packets * length > file.size:
        raise BadRecording("truncated", f"its packets end at byte {begin + packets * length} of {file.size}")
    # The duration counts the time that a player waits before it begins.
    seconds = _number(file, properties + 64, 8) / 1e7 - _number(file, properties + 80, 8) / 1e3
    return Declared(counted=False, seconds=seconds)


def _objects(file: Bytes, begin: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Give the kind, place and size of the objects of the header."""
    while begin + _OBJECT_BYTES <= min(stop, file.size):
        size = _number(file, begin + 16, 8)
        if size < _OBJECT_BYTES:
            raise BadRecording("truncated", f"its header is damaged at byte {begin}")
        yield file.at(begin, 16), begin, size
        begin += size


def _number(file: Bytes, place: int, count: int) -> int:
    return int.from_bytes(file.at(place, count), "little")
