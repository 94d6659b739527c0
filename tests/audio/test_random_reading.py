"""Random reading: whatever the container, rate, channels and bits, samples are those that ffmpeg decodes.

What differs is stated here; all else is equal to the last bit of float32.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
from made_audio import noise
from made_recordings import ffmpeg_samples, mp3, read, recorded

from pipeline.audio.decode import Decoder

RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)
PCM = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3", "LAME")
CODECS = {"WAV": ("IMA_ADPCM", "MS_ADPCM", "GSM610"), "W64": ("IMA_ADPCM", "GSM610"), "OGG": ("VORBIS", "OPUS")}
# By how much two right decoders of a codec lie apart.
DIFFERENCES = {
    # Filters in float32, whose sums are rounded in another order.
    "MPEG_LAYER_III": 4e-6,
    "LAME": 4e-6,
    "VORBIS": 4e-6,
    # The last packet is cut, and decoders differ in what they hear behind the cut.
    "OPUS": 2e-3,
    # A negative prediction is rounded to another side, and the next ones follow from it.
    "MS_ADPCM": 0.02,
}
# By how much a segment differs from its slice: the last bits of MP3, and what Opus remembers.
SEGMENTS = {"MPEG_LAYER_III": 1e-6, "LAME": 1e-6, "OPUS": 1e-3}
# ffmpeg decodes blocks to their end, where the container says that fewer samples count; of Vorbis only in a file of one
# page. Of an MP3 without its tag nobody knows the end, and in AIFF libsndfile counts a byte between chunks as a sample.
BLOCKS = ("GSM610", "MS_ADPCM", "VORBIS")
FILLED = ("GSM610", "MS_ADPCM", "IMA_ADPCM", "LAME")
# In Ogg three channels are left, centre and right, which ffmpeg puts into another order.
ORDER = {("OGG", 3): (0, 2, 1)}


@dataclass(frozen=True)
class Draw:
    """One recording, and a segment of it as shares of its length."""

    container: str
    subtype: str
    rate: int
    channels: int
    num_samples: int
    begin: float
    share: float


def draw(rng):
    container = str(rng.choice(CONTAINERS))
    subtypes = {"MP3": ("MPEG_LAYER_III",), "LAME": ("LAME",), "FLAC": ("PCM_S8", "PCM_16", "PCM_24")}
    held = subtypes.get(container) or (*(PCM if container != "OGG" else ()), *CODECS.get(container, ()))
    subtype = str(rng.choice([name for name in held if name == "LAME" or soundfile.check_format(container, name)]))
    rate = 48_000 if subtype == "OPUS" else int(rng.choice(RATES))
    channels = (
        1 if subtype == "GSM610" else int(rng.choice([1, 1, 2] if "MP" in subtype or subtype == "LAME" else [1, 2, 3]))
    )
    if "ADPCM" in subtype:
        channels = min(channels, 2)
    num_samples = int(rng.integers(3_000, 60_000))
    return Draw(container, subtype, rate, channels, num_samples, float(rng.random()), float(rng.random()))


def encoded(made, seed):
    samples = noise(made.num_samples, channels=made.channels, seed=seed)
    if made.container == "LAME":
        rng = np.random.default_rng(seed)
        options = [["-b:a", str(rng.choice(["16k", "24k", "32k", "64k"]))], ["-q:a", "6"]][int(rng.random() < 0.3)]
        return mp3(samples, made.rate, *options, "-write_xing", int(rng.random() < 0.7))
    return recorded(samples, made.container, made.subtype, made.rate)


@pytest.fixture(scope="module")
def decoders():
    made = {rate: Decoder(sample_rate=rate) for rate in RATES}
    yield made
    for decoder in made.values():
        decoder.close()


def compare(decoders, path, seed):
    """Compare one draw, whole and in a segment, with what ffmpeg makes of it."""
    rng = np.random.default_rng(seed)
    made = draw(rng)
    path.write_bytes(encoded(made, seed))
    expected = ffmpeg_samples(path, made.channels)
    channel = int(rng.integers(made.channels))
    decoder = decoders[made.rate]
    whole = read(decoder, path, channel=channel)
    told = f"draw {seed}: {made}, channel {channel}"
    assert (whole.info.sample_rate, whole.info.num_channels) == (made.rate, made.channels), told
    assert not whole.passed_over, told
    held = len(whole.samples)
    assert held <= len(expected) if made.subtype in BLOCKS else held == len(expected), told
    filled = made.subtype in FILLED or made.container == "AIFF" and made.num_samples % 2
    assert held >= made.num_samples if filled else held == made.num_samples, told
    same = ORDER.get((made.container, made.channels), range(made.channels))[channel]
    assert np.abs(whole.samples - expected[:held, same]).max() <= DIFFERENCES.get(made.subtype, 0.0), told
    begin = int(made.begin * (held - 1))
    count = max(1, int(made.share * (held - begin)))
    segment = read(decoder, path, offset=begin, count=count, channel=channel).samples
    assert len(segment) == count, told
    assert np.abs(segment - whole.samples[begin : begin + count]).max() <= SEGMENTS.get(made.subtype, 0.0), told


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_random_recordings_are_read_as_ffmpeg_reads_them(decoders, tmp_path, first):
    for seed in range(first, first + 25):
        compare(decoders, tmp_path / "recording", seed)


@pytest.mark.nightly
def test_500_random_recordings_are_read_as_ffmpeg_reads_them(decoders, tmp_path):
    for seed in range(500):
        compare(decoders, tmp_path / "recording", seed)
