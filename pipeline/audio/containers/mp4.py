"""MP4, M4A, 3GP and QuickTime: whether all boxes are there. What they hold is read by FFmpeg (``media.py``).

FFmpeg ends without an error where the bytes of a sample are missing. Cost: a few bytes of each box of the first level.

Source:
    ISO/IEC 14496-12, 4.2: a box is its size of 4 bytes, its kind, and where that size is 1 a size of 8 bytes.
"""

import re

from pipeline.audio.containers.declared import BadRecording, Bytes, Declared, joined
from pipeline.audio.containers.tags import only_tags

_KIND = re.compile(rb"[ -~\xa9]{4}")


def check_mp4(file: Bytes) -> Declared:
    """Go from box to box.

    Args:
        file: The file, from its first box on.

    Raises:
        BadRecording: A box ends behind the file, there is none that describes the audio, or two files are joined.
    """
    place, kinds = 0, set[bytes]()
    while place < file.size:
        head = file.at(place, 16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:
            size = file.size - place
        if size < 8 or not _KIND.fullmatch(kind):
            break
        if place + size > file.size:
            if b"moov" in kinds and kind not in (b"mdat", b"moof"):
                break
            raise BadRecording(
                "truncated", f"its box {kind.decode('latin-1')!r} ends at byte {place + size} of {file.size}"
            )
        if kind == b"ftyp" and kind in kinds:
            raise joined("MP4")
        kinds.add(kind)
        place += size
    if b"moov" not in kinds:
        raise BadRecording(
            "truncated", "it has no moov box, which says what its bytes are: it was cut, or its recorder was stopped"
        )
    return Declared(counted=False, trailing_bytes=0 if only_tags(file, place, file.size) else file.size - place)
