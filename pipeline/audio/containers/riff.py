"""WAV, in its 32-bit forms (RIFF, big-endian RIFX) and its 64-bit ones (RF64, BW64).

libsndfile takes the samples it finds for those declared: a WAV that was cut looks whole to it, one whose size says
too little ends early, one without a size is empty, and a last block that is not whole decodes to noise.
Cost: the heads of all chunks.
"""

import re
import struct
from dataclasses import dataclass

from pipeline.audio.containers.declared import Bytes, Declared, Overlay
from pipeline.audio.containers.extent import Data, Extent, check_held, extent

STREAMING_SIZES = (0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**64 - 1)
"""Sizes that writers to a pipe leave behind: ffmpeg 2^32-1, sox 0x7FFFF000, arecord 2^31, unclosed files 0."""

MAGIC = re.compile(rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE(?:fmt |JUNK|ds64|bext|LIST|fact)", re.DOTALL)

# Chunks that programs write behind the audio, also with sizes that are wrong.
_KNOWN = re.compile(
    rb"LIST|bext|id3 |ID3 |fact|cue |smpl|inst|iXML|axml|_PMX|PAD |JUNK|junk|FLLR|afsp|DISP|cart|minf|elm1|regn|umid|"
    rb"levl|acid|plst|PEAK|strc|Cr8r|SyLp|DGDA|chna|dbmd|LGWV|MARK|wavl|slnt|ResU|bwf |list|note|labl"
)
_PRINTABLE = re.compile(rb"[ -~]{4}")
_PCM, _FLOAT, _ALAW, _ULAW, _MS_ADPCM, _IMA_ADPCM, _GSM, _EXTENSIBLE = 1, 3, 6, 7, 2, 0x11, 0x31, 0xFFFE
_GSM_BYTES, _GSM_SAMPLES = 65, 320


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a WAV is made of: the content of its ``fmt`` chunk.

    Attributes:
        content: The chunk's content.
        order: ``<`` or ``>``.
    """

    content: bytes
    order: str

    @property
    def block(self) -> int:
        """Bytes that decode together."""
        align = self._number(12)
        return _GSM_BYTES if self.codec == _GSM else max(1, align)

    @property
    def codec(self) -> int:
        """The code of the encoding, behind the extensible one where it is that."""
        code = self._number(0)
        return self._number(24) if code == _EXTENSIBLE else code

    def _number(self, place: int) -> int:
        held = self.content[place : place + 2]
        return int(struct.unpack(f"{self.order}H", held)[0]) if len(held) == 2 else 0

    def num_samples(self, size: int, fact: int) -> int | None:
        """Count the samples of a channel.

        Args:
            size: Bytes of audio.
            fact: What the ``fact`` chunk says; 0 where there is none.

        Returns:
            The samples, None for an encoding that is not known here. ``fact`` is believed where it says less by no
            more than two blocks, with which encoders fill up; a lower one is stale.
        """
        channels, per_block, left = max(1, self._number(2)), self._number(18), size % self.block
        if self.codec in (_PCM, _FLOAT, _ALAW, _ULAW):
            return size // self.block
        if self.codec == _GSM:
            per_block, found = _GSM_SAMPLES, size // self.block * _GSM_SAMPLES
        elif self.codec == _IMA_ADPCM and per_block:
            # A last block may be short: a sample in the head of each channel, then eight in every four bytes.
            short = 1 + (left - 4 * channels) // (4 * channels) * 8 if left >= 4 * channels else 0
            found = size // self.block * per_block + short
        elif self.codec == _MS_ADPCM and per_block:
            short = 2 + (left - 7 * channels) * 2 // channels if left >= 7 * channels else 0
            found = size // self.block * per_block + short
        else:
            return None
        # libsndfile writes the samples of all channels divided by their number twice, for IMA ADPCM.
        stale = fact == found // channels and channels > 1
        return fact if 0 < fact < found and found - fact <= 2 * per_block and not stale else found


def check_wave(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how much audio a WAV holds.

    Args:
        file: The file.
        thorough: Whether to search for a second recording inside audio without a size.

    Raises:
        BadRecording: The data chunk is larger than the file: ``header_lies`` when the RIFF size contradicts it too,
            ``truncated`` when both agree on a longer file, or when several recordings are joined.
    """
    end = file.size
    kind, riff_size = struct.unpack("<4sI", file.at(0, 8))
    order = ">" if kind == b"RIFX" else "<"
    if order == ">":
        riff_size = int.from_bytes(struct.pack("<I", riff_size), "big")
    form, long_size, fact, place = None, None, 0, 12
    while len(head := file.at(place, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        place += 8
        if name == b"data":
            break
        content = file.at(place, min(size, 64))
        if name == b"fmt " and len(content) >= 14:
            form = Form(content=content, order=order)
        elif name == b"ds64" and len(content) >= 16:
            riff_size, long_size = struct.unpack_from("<QQ", content)
        elif name == b"fact" and len(content) >= 4:
            fact = struct.unpack(f"{order}I", content[:4])[0]
        place += size + size % 2
    else:
        return Declared()
    if form is None:
        return Declared()
    if long_size is not None and size in (0xFFFF_FFFF, long_size & 0xFFFF_FFFF):
        size = long_size
    # 0 is an empty recording where the whole file says so too.
    streamed = size in STREAMING_SIZES and end > place and not (size == 0 and riff_size + 8 == end)
    # 2^31 is a true size where the whole fits it.
    streamed = streamed and not (size > 0 and place + size <= end and riff_size + 8 == end)
    data = Data(
        container="WAV",
        begin=place,
        size=None if streamed else size,
        block=form.block,
        chunks=lambda file, begin, end: are_chunks(file, begin, end, order),
        magics=(b"RIFF", b"RIFX", b"RF64", b"BW64"),
        magic=MAGIC,
    )
    contradicted = riff_size not in STREAMING_SIZES and place + size > riff_size + 8 + 1
    check_held(data, end - place, contradicted=contradicted)
    held = extent(file, data, thorough=thorough)
    # What libsndfile reads rightly is left to it: a plain file is read without Python in between.
    right = kind != b"BW64" and (held.size == size or 0 < end - place == held.size <= size)
    return declared_wave(form, place, held, fact, right=right)


def declared_wave(form: Form, begin: int, held: Extent, fact: int, *, right: bool) -> Declared:
    """Say what a WAV or W64 declares, once the place of its audio is known.

    Args:
        form: Its form.
        begin: First byte of the audio.
        held: Its extent.
        fact: What the ``fact`` chunk says; 0 where there is none.
        right: Whether the header says that extent in a way that libsndfile understands.
    """
    num_samples = form.num_samples(held.size, fact)
    overlay = None
    # libsndfile drops a last block of MS ADPCM that is not whole.
    padding = -held.size % form.block if form.codec in (_MS_ADPCM, _IMA_ADPCM) else 0
    if padding or not right:
        overlay = wave_overlay(form, begin, held.size, padding=padding, fact=num_samples if fact else None)
    return Declared(
        overlay=overlay, num_samples=num_samples, trailing_bytes=held.trailing_bytes, undeclared=held.undeclared
    )


def are_chunks(file: Bytes, begin: int, end: int, order: str) -> bool:
    """Say whether RIFF chunks, and nothing else, lie in a part of a file; the last may be cut if it is a known one."""
    known = False
    while begin + 8 <= end:
        name, size = struct.unpack(f"{order}4sI", file.at(begin, 8))
        known = _KNOWN.fullmatch(name) is not None
        if not known and not _PRINTABLE.fullmatch(name):
            return False
        begin += 8 + size
        if begin + 1 == end or begin < end and begin % 2 == 1 and file.at(begin, 1) == b"\0":
            begin += 1
    return begin == end or known


def wave_overlay(form: Form, start: int, held: int, *, padding: int, fact: int | None) -> Overlay:
    """Give audio a WAV header that says its true size, in 64 bits where it must.

    Args:
        form: Its form.
        start: First byte of the audio.
        held: Bytes of audio.
        padding: Zeros that make its last block whole.
        fact: Samples of a channel as a ``fact`` chunk says it; None for no such chunk.
    """
    order, size = form.order, held + padding
    content = form.content + bytes(len(form.content) % 2)
    head = b"fmt " + struct.pack(f"{order}I", len(form.content)) + content
    if fact is not None:
        head += b"fact" + struct.pack(f"{order}II", 4, min(fact, 0xFFFF_FFFF))
    if len(head) + 20 + size < 1 << 32:
        riff = b"RIFX" if order == ">" else b"RIFF"
        prefix = riff + struct.pack(f"{order}I", len(head) + 12 + size) + b"WAVE" + head
        prefix += b"data" + struct.pack(f"{order}I", size)
    else:
        sizes = struct.pack("<QQQI", len(head) + 48 + size, size, size // form.block, 0)
        prefix = b"RF64" + b"\xff" * 4 + b"WAVEds64" + struct.pack("<I", 28) + sizes + head + b"data" + b"\xff" * 4
    return Overlay(prefix=prefix, start=start, stop=start + held, padding=padding)
