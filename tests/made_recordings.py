"""Recordings of every container, with headers that are stale, and the same bytes as ffmpeg decodes them."""

import io
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile
from made_audio import RATE

from pipeline.audio.decode import to_float32
from pipeline.passed_over import PassedOver

ID3 = b"ID3\x03\0\0\0\0\x02\x00" + bytes(256)
"""An ID3v2 tag of 266 bytes."""


def recorded(samples, container, subtype="PCM_16", rate=RATE, **kwargs):
    """Give the bytes of a file that libsndfile writes.

    MP3 is written from floats: of integers of 16 bits in stereo libsndfile 1.2.2 makes another recording, and not the
    same one each time (``findings/stereo_mp3_of_int16_is_another_recording.sh``).
    """
    if container == "MP3" and samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32_768
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, **kwargs)
    return file.getvalue()


def patched(data, place, value):
    return data[:place] + value + data[place + len(value) :]


@dataclass
class Read:
    """What a decoder made of a recording: samples of its first channel at its own rate, as float32."""

    info: object
    samples: np.ndarray
    passed_over: PassedOver


def read(decoder, path, *, offset=0, count=None, channel=0):
    """Read a recording, or a segment of it, with a decoder of the same rate."""
    passed_over = PassedOver()
    info = decoder.probe(str(path), passed_over=passed_over)
    samples = decoder.decode(
        str(path),
        offset_samples=offset,
        num_samples=info.num_samples - offset if count is None else count,
        sample_rate=info.sample_rate,
        channel=channel,
        utterance_id="u",
    )
    return Read(info=info, samples=to_float32(samples), passed_over=passed_over)


def ffmpeg(*arguments, data=None):
    """Run ffmpeg, the program of the wheel; gives what it writes to stdout."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def ffmpeg_samples(path, channels=1):
    """Decode a file with ffmpeg at its own rate: (S, C) float32."""
    return np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-"), "<f4").reshape(-1, channels)


def mp3(samples, rate=RATE, *options):
    """Encode with LAME, in ffmpeg; to a file, because into a pipe it cannot write how many frames there are."""
    wave = recorded(samples, "WAV", rate=rate)
    with tempfile.NamedTemporaryFile(suffix=".mp3") as file:
        ffmpeg("-f", "wav", "-i", "-", *options, file.name, data=wave)
        return Path(file.name).read_bytes()


def stale_wave(data, size, container="WAV"):
    """Write another size into the data chunk of a WAV or RF64."""
    if container == "RF64":
        place = data.index(b"ds64")
        return patched(data, place + 16, struct.pack("<Q", size))
    place = data.index(b"data")
    return patched(patched(data, place + 4, struct.pack("<I", size)), 4, struct.pack("<I", size + place))


def stale_w64(data, size):
    place = data.index(b"data\xf3\xac")
    return patched(data, place + 16, struct.pack("<Q", size + 24))


def stale_aiff(data, size):
    sound, common = data.index(b"SSND"), data.index(b"COMM")
    data = patched(data, common + 10, struct.pack(">I", size // 2))
    return patched(data, sound + 4, struct.pack(">I", size + 8))


def stale_caf(data, size):
    return patched(data, data.index(b"data") + 4, struct.pack(">q", size + 4))


def stale_sphere(data, size):
    count = data.index(b"sample_count -i ") + 16
    end = data.index(b"\n", count)
    return patched(data, count, str(size // 2).rjust(end - count, "0").encode())


def stale_flac(data, size):
    field = int.from_bytes(data[18:26], "big")
    return patched(data, 18, (field >> 36 << 36 | size // 2).to_bytes(8, "big"))


STALE = {
    "WAV": stale_wave,
    "RF64": lambda data, size: stale_wave(data, size, "RF64"),
    "W64": stale_w64,
    "AIFF": stale_aiff,
    "AU": lambda data, size: patched(data, 8, struct.pack(">I", size)),
    "CAF": stale_caf,
    "NIST": stale_sphere,
    "FLAC": stale_flac,
}
"""By libsndfile's name of a container: how its header is made to declare another number of bytes of 16-bit mono."""


def written(folder, data):
    """Write the bytes of a recording under a name that says nothing of them."""
    path = folder / "recording"
    path.write_bytes(data)
    return path
