"""Random recordings that are cut, joined, tagged or followed by something: all audio is read, or a person is told."""

import numpy as np
import pytest
import soundfile
from made_audio import noise
from made_recordings import ID3, STALE, read, recorded

from pipeline.audio.decode import Decoder
from pipeline.errors import AudioDecodeError

RATE = 16_000
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
DAMAGES = ("cut", "joined", "joined with another", "tag before", "tag behind", "junk behind", "stale")


@pytest.fixture(scope="module")
def decoder():
    with Decoder(sample_rate=RATE) as decoder:
        yield decoder


def damaged(data, other, damage, container, rng):
    """Do one of ``DAMAGES`` to a recording of 16-bit mono."""
    if damage == "cut":
        # From Ogg a whole page may be missing at the end: nothing in it says how many there were.
        last = data.rfind(b"OggS") if container == "OGG" else len(data) // 4
        # An MP3 may lack two frames: decoders differ on whether they are part of it.
        return data[: int(rng.integers(last + 1, len(data) - (2_000 if container == "MP3" else 2)))]
    if damage == "stale" and container in STALE:
        return STALE[container](data, 2 * int(rng.integers(1, 9_000)))
    junk = rng.integers(1, 256, int(rng.integers(70_000, 200_000)), dtype=np.uint8).tobytes()
    made = {
        "joined": data + data,
        "joined with another": data + other,
        "tag before": ID3 + data,
        "tag behind": data + b"TAG" + bytes(125),
        "junk behind": data + junk,
    }
    return made.get(damage, data)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_no_damage_is_silent(decoder, tmp_path, container, damage):
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16")
    rng = np.random.default_rng([CONTAINERS.index(container), DAMAGES.index(damage)])
    for seed in range(3):
        count = int(rng.integers(10_000, 60_000))
        data = recorded(noise(count, seed=seed), container, subtype, RATE)
        other = recorded(noise(count + 500, seed=seed + 9), container, subtype, RATE)
        path = tmp_path / "recording"
        path.write_bytes(data)
        plain = soundfile.read(path, dtype="float32")[0]
        path.write_bytes(damaged(data, other, damage, container, rng))
        try:
            found = read(decoder, path)
        except AudioDecodeError:
            if damage in ("tag before", "tag behind", "stale"):
                raise
            continue
        assert damage != "cut"
        assert len(found.samples) >= count
        assert np.abs(found.samples[:count] - plain[:count]).max() <= (1e-6 if container == "MP3" else 0)
        if damage in ("tag before", "tag behind"):
            assert len(found.samples) == count
            assert not found.passed_over
        elif damage != "stale" or container in STALE:
            assert found.passed_over
