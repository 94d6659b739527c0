"""NIST SPHERE, in which LDC and NIST publish speech: a head of text, then plain samples.

libsndfile reads heads of 1,024 bytes alone, and takes all that follows for samples.

Source:
    NIST, SPeech HEader REsources 2.6, ``doc/sphere.doc`` (names and types of the fields).
"""

import re

from pipeline.audio.containers.caf import Samples
from pipeline.audio.containers.declared import BadRecording, Bytes, Declared
from pipeline.audio.containers.extent import Data, check_held, extent

_MAGIC = re.compile(rb"NIST_1A\n +[0-9]+\n", re.DOTALL)
_FIELD = re.compile(r"(\S+)\s+-(?:i|r|s[0-9]+)\s+(.*?)\s*$")
_MOST_HEAD_BYTES = 1 << 20
_CODINGS = {"pcm": "lpcm", "ulaw": "ulaw", "mu-law": "ulaw", "mulaw": "ulaw", "alaw": "alaw", "a-law": "alaw"}


def check_sphere(file: Bytes, *, thorough: bool) -> Declared:
    """Find out how samples lie in a SPHERE file, and how many they are.

    Raises:
        BadRecording: Its samples are compressed, its head is not understood, it holds less than it declares, or
            several recordings are joined.
    """
    end = file.size
    length = file.at(8, 8).strip()
    begin = int(length) if length.isdigit() else 0
    if not 16 < begin <= min(end, _MOST_HEAD_BYTES):
        raise BadRecording("truncated", f"the head of the SPHERE file declares {begin} bytes, the file holds {end}")
    fields = _fields(file.at(16, begin - 16))
    samples = _samples(fields)
    block = samples.num_bytes * samples.channels
    count = fields.get("sample_count", "")
    data = Data(
        container="SPHERE",
        begin=begin,
        size=int(count) * block if count.isdigit() and int(count) > 0 else None,
        block=block,
        chunks=_are_none,
        magics=(b"NIST_1A\n",),
        magic=_MAGIC,
    )
    check_held(data, end - begin)
    held = extent(file, data, thorough=thorough)
    return Declared(
        overlay=samples.overlay(begin, held.size),
        num_samples=held.size // block,
        trailing_bytes=held.trailing_bytes,
        undeclared=held.undeclared,
    )


def _fields(head: bytes) -> dict[str, str]:
    fields = {}
    for line in head.decode("latin-1").split("\n"):
        if line.strip() == "end_head":
            break
        if found := _FIELD.match(line.strip()):
            fields[found[1]] = found[2]
    return fields


def _samples(fields: dict[str, str]) -> Samples:
    coding, *compressed = fields.get("sample_coding", "pcm").lower().split(",")
    if compressed or coding not in _CODINGS:
        what = f"this is SPHERE compressed as {fields['sample_coding']}"
        raise BadRecording("not_audio", f"{what}; unpack it to plain samples (sph2pipe -f wav)")
    try:
        channels, rate = int(fields["channel_count"]), float(fields["sample_rate"])
        num_bytes = int(fields.get("sample_n_bytes", "1" if coding != "pcm" else "2"))
    except (KeyError, ValueError) as error:
        raise BadRecording("header_lies", f"the head of the SPHERE file does not say {error}") from error
    order = fields.get("sample_byte_format", "1" if num_bytes == 1 else "")
    if channels < 1 or num_bytes not in (1, 2, 3, 4) or num_bytes > 1 and coding != "pcm":
        found = f"{channels} channels of {num_bytes} bytes of {coding}"
        raise BadRecording("header_lies", f"the SPHERE file declares {found}")
    # libsndfile writes 01 and 10 for three and four bytes too.
    orders = ("01", "10", "0123"[:num_bytes], "3210"[4 - num_bytes :])
    if num_bytes > 1 and order not in orders:
        raise BadRecording("header_lies", f"the SPHERE file declares the byte order {order!r} for {num_bytes} bytes")
    if fields.get("channels_interleaved", "TRUE").upper() == "FALSE":
        raise BadRecording("not_audio", "this is SPHERE with its channels one after the other")
    return Samples(
        coding=_CODINGS[coding],
        is_float=False,
        little=order[:1] == "0" and num_bytes > 1,
        num_bytes=num_bytes,
        bits=8 * num_bytes,
        channels=channels,
        rate=rate,
    )


def _are_none(file: Bytes, begin: int, end: int) -> bool:
    """Say that there are no chunks in this container."""
    return False
