"""A recording of ours that every sound decoder reads: where a decode process dies of it, the machine is at fault."""

import os
import struct

from pipeline.audio.decode_process import DecodeDeath, DecodeProcess
from pipeline.errors import StorageError

_RATE = 16_000
_SAMPLES = 1_600


def check_decoder(process: DecodeProcess) -> None:
    """Let a fresh decode process read a tenth of a second of ours.

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
        how = {"remote": False, "container": "wav", "careful": False}
        ((header, _),) = process.ask({"do": "probe", "key": "control", **source, **how})
    except DecodeDeath as error:
        raise StorageError(
            f"the decode process {error.death.how} over a recording of ours too: libsndfile does not work here. What "
            "is committed stays: mend this environment and run the same command again"
        ) from error
    finally:
        os.close(file)
    if header.get("num_samples") != _SAMPLES:
        raise StorageError(f"the decode process reads a recording of ours as {header}; mend this environment")
