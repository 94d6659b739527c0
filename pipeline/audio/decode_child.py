"""Reads headers and decodes audio in a process of its own, because libsndfile can crash and headers lie.

Started by ``pipeline.audio.decode.Decoder``, which talks to it over stdin and stdout. Imports no torch, ray or
pyarrow, so that it starts in a quarter of a second. A message is a 4-byte big-endian length, that many bytes of
JSON, and ``num_bytes`` raw bytes when the JSON says so. Ends when stdin closes, which also happens when the
parent is killed, or by its own alarm when a request takes far too long and the parent is gone.

Memory: one utterance as it is in the file, mixed, and once more at the encoder's rate. Cost: the samples asked
for, plus what a container needs to seek; a recording that does not say its length is decoded whole to probe it.
"""

import json
import os
import re
import resource
import signal
import struct
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile
import soxr

from pipeline import faults

_BLOCK = 65_536
_CONTAINERS = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}
_UNKNOWN_LENGTH = 2**63 - 1
# Sizes that writers to a pipe leave behind: ffmpeg 2^32-1, sox 0x7FFFF000, arecord 2^31, unclosed files 0.
_STREAMING = (0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**64 - 1)
# Two MPEG frames: whether encoder delay and padding count is a matter of opinion between MP3 readers.
_MP3_SLACK = 2 * 1152
# Two of the longest Vorbis blocks: what a decoder needs before its output is exact.
_VORBIS_LEAD = 2 * 8192
_ALARM_GRACE_SECONDS = 10.0


class Refused(Exception):
    """One recording that cannot be used; the parent raises it as AudioDecodeError.

    Args:
        reason: The value of a ``schema.Reason``; that module is too slow to import here.
        detail: One sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _UnclosedWave(open if False else __import__("io").FileIO):
    pass
