"""A recording of ours that every sound decoder reads: where a decode process dies of it, the machine is at fault."""

import os
import struct
import time
from collections.abc import Callable
from typing import Any

from pipeline.audio.decode_process import DecodeDeath, DecodeProcess
from pipeline.errors import StorageError
from pipeline.work.deaths import FOREIGN_DEATHS, wait_after

_RATE = 16_000
_SAMPLES = 1_600


def check_decoder(start: Callable[[], DecodeProcess]) -> None:
    """Let a fresh decode process read a tenth of a second of ours.

    Args:
        start: Gives a fresh process.

    Raises:
        StorageError: It dies of that, too.
    """
    data = bytes(range(0, 200, 2)) * (2 * _SAMPLES // 100)
    chunks = b"WAVEfmt " + struct.pack("<IHHIIHHI", 16, 1, 1, _RATE, 2 * _RATE, 2, 16, 0x61746164)
    wave = b"RIFF" + struct.pack("<I", len(chunks) + 4 + len(data)) + chunks + struct.pack("<I", len(data)) + data
    file = os.memfd_create("control")
    try:
        with open(file, "wb", closefd=False) as target:
            target.write(wave)
        source = {"path": f"/proc/{os.getpid()}/fd/{file}", "start": 0, "num_bytes": len(wave), "whole": True}
        header = _asked(start, {**source, "remote": False, "name": "control", "careful": False})
    finally:
        os.close(file)
    if header.get("num_samples") != _SAMPLES:
        raise StorageError(f"the decode process reads a recording of ours as {header}; mend this environment")


def _asked(start: Callable[[], DecodeProcess], source: dict[str, Any]) -> dict[str, Any]:
    for number in range(1, FOREIGN_DEATHS + 1):
        try:
            ((header, _),) = start().ask({"do": "probe", "key": "control", **source})
        except DecodeDeath as error:
            if error.death.own or number == FOREIGN_DEATHS:
                raise StorageError(
                    f"the decode process {error.death.how} over a recording of ours too: libsndfile does not work "
                    "here. What is committed stays: mend this environment and run the same command again"
                ) from error
            time.sleep(wait_after(number))
        else:
            return header
    raise AssertionError("the last attempt returns or raises")
