"""Recordings of AAC, AMR, WMA, Opus and others, made by ffmpeg, and what is done to them."""

import struct
from pathlib import Path

import numpy as np
from made_recordings import ffmpeg, recorded
from scipy import signal

AAC, OPUS, VORBIS = ["-c:a", "aac"], ["-c:a", "libopus"], ["-c:a", "libvorbis"]
FRAGMENTS = ["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "300000"]
LATE_HEAD = ["-movflags", "frag_keyframe+delay_moov", "-frag_duration", "300000"]
AMR = ["-c:a", "libopencore_amrnb", "-ar", "8000"]


def speechlike(num_samples, rate, channels=1, seed=0):
    """Noise below a quarter of the rate whose loudness rises and falls: (S,) or (S, C) int16."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((num_samples + 16, channels))
    smooth = signal.lfilter(np.hanning(17) / 8, 1, white, axis=0)[16:]
    loudness = 0.3 + 0.7 * np.abs(np.sin(7 * np.arange(num_samples) / rate))
    samples = smooth * loudness[:, None]
    samples = (samples / np.abs(samples).max() * 23_000).astype(np.int16)
    return samples[:, 0] if channels == 1 else samples


def encode(path, samples, rate, *options, before=()):
    """Encode with ffmpeg; the ending of the path says the container, unless an option does."""
    ffmpeg(*before, "-f", "wav", "-i", "-", *options, path, data=recorded(samples, "WAV", rate=rate))
    return Path(path)


def delay(found, made):
    """Give by how many samples what was decoded lies behind what was made: where they are most alike."""
    return int(signal.correlation_lags(len(found), len(made))[np.argmax(signal.correlate(found, made, method="fft"))])


def box(kind, *parts):
    """Give a box of MP4."""
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def place_of(data, kind):
    """Give where a box of MP4 begins."""
    return data.index(kind) - 4


def with_itunes_gaps(data, priming, padding, count):
    """Write the tag of iTunes that counts the samples into an M4A whose moov box is its last."""
    text = f" 00000000 {priming:08X} {padding:08X} {count:016X}" + " 00000000" * 8
    names = box(b"mean", bytes(4), b"com.apple.iTunes"), box(b"name", bytes(4), b"iTunSMPB")
    item = box(b"----", *names, box(b"data", struct.pack(">II", 1, 0), text.encode()))
    handler = box(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    tags = box(b"udta", box(b"meta", bytes(4), handler, box(b"ilst", item)))
    moov = data[place_of(data, b"moov") :].replace(b"udta", b"free")
    return data[: -len(moov)] + box(b"moov", moov[8:], tags)


def with_reference(data, other):
    """Let the samples of a QuickTime file, whose moov box is its last, lie in another file, by an alias of its path."""
    path = str(other).replace("/", ":").encode()
    alias = bytes(10) + bytes(28) + bytes(12) + bytes(64) + bytes(16) + bytes(4) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2) + b"\xff\xff\0\0"
    entry = box(b"alis", bytes(4), alias)
    old = data[place_of(data, b"dref") :][: int.from_bytes(data[place_of(data, b"dref") :][:4], "big")]
    new = box(b"dref", bytes(4), struct.pack(">I", 1), entry)
    grown = len(new) - len(old)
    begin = place_of(data, b"moov")
    data = data.replace(old, new)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = data.index(kind, begin) - 4
        data = (
            data[:place] + struct.pack(">I", int.from_bytes(data[place : place + 4], "big") + grown) + data[place + 4 :]
        )
    return data
