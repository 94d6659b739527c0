"""One recording, read as every job reads its own: in a decode process of its own, with bounded memory and time.

Also where one may be written.
"""

from pathlib import Path

import numpy as np

from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.errors import SettingsError

LONGEST_SECONDS = 3600.0
"""Longest recording that is read: its samples lie in memory."""
_FORMATS = (".wav", ".flac")


def local_target(output: str, given: str) -> Path:
    """Say where one recording is written.

    Args:
        output: The setting.
        given: The setting that asks for one recording, for the message.

    Raises:
        SettingsError: It is no local file of a format that is written, or its folder is not there.
    """
    if output.startswith("s3://"):
        raise SettingsError(f"--output of --{given} is a local recording, got {output}")
    target = Path(output)
    if target.suffix.lower() not in _FORMATS:
        raise SettingsError(f"--output of --{given} ends in {' or '.join(_FORMATS)}, got {target.name}")
    if not target.parent.is_dir():
        raise SettingsError(f"the folder {target.parent} of --output is not there; make it first")
    return target


def read_recording(file: str, sample_rate: int) -> np.ndarray:
    """Give a recording, local or s3://, as float32 (S,), the mean of its channels.

    Args:
        file: Where it is.
        sample_rate: Rate of what is given, Hz.

    Raises:
        AudioDecodeError: It cannot be read, or is too long.
    """
    with Decoder(sample_rate=sample_rate, limits=DecodeLimits(max_seconds=LONGEST_SECONDS)) as decoder:
        found = decoder.probe(file)
        stretches = decoder.stream(
            file,
            offset_samples=0,
            num_samples=found.num_samples,
            sample_rate=found.sample_rate,
            channel=None,
            utterance_id=file,
        )
        parts = [to_float32(part) for part in stretches]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
