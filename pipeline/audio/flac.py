"""A waveform as 16-bit FLAC: the same samples give the same bytes."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile

_FULL_SCALE = 32_768


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Samples of 16 bits.

    Attributes:
        samples: int16 (S,).
        clipped: Samples that passed full scale and were cut to it.
    """

    samples: np.ndarray
    clipped: int


def sixteen_bits(waveform: np.ndarray) -> Recording:
    """Round a waveform to 16 bits.

    Args:
        waveform: float32 (S,), finite; full scale is 1.
    """
    scaled = np.rint(waveform.astype(np.float64) * _FULL_SCALE)
    clipped = int(((scaled > _FULL_SCALE - 1) | (scaled < -_FULL_SCALE)).sum())
    return Recording(samples=np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16), clipped=clipped)


def flac_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """Encode int16 (S,) at a rate in Hz."""
    sink = io.BytesIO()
    soundfile.write(sink, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return sink.getvalue()
