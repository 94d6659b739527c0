"""Small recordings made on the spot, and how tests ask a decoder for them."""

import numpy as np
import pytest
import soundfile

from pipeline.errors import AudioDecodeError
from pipeline.schema import Reason

RATE = 16_000


def noise(num_samples, channels=1, seed=0):
    """Noise below 4 kHz at 16 kHz, so that lossy formats keep most of it; (S,) or (S, C) int16."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((num_samples + 8, channels))
    smooth = sum(white[i : i + num_samples] for i in range(8)) * 1200
    return smooth.astype(np.int16)[:, 0] if channels == 1 else smooth.astype(np.int16)


def decode(decoder, path, *, offset=0, count=None, rate=None, channel=None, name="u"):
    info = None if count and rate else decoder.probe(str(path))
    return decoder.decode(
        str(path),
        offset_samples=offset,
        num_samples=count or info.num_samples - offset,
        sample_rate=rate or info.sample_rate,
        channel=channel,
        utterance_id=name,
    )


def reason_of(call, *args, **kwargs):
    with pytest.raises(AudioDecodeError) as caught:
        call(*args, **kwargs)
    assert caught.value.detail
    return Reason(caught.value.reason)


def wav(path, samples, rate=RATE, **kwargs):
    soundfile.write(path, samples, rate, **kwargs)
    return path
