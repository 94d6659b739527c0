"""A long recording through decoder, both passes and encoder: memory stays that of a window."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 8_000

STREAM = """
import json, resource, sys
from functools import partial
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.features.passes.extractor import FeatureExtractor
place = dict(offset_samples=0, sample_rate=8_000, channel=None, utterance_id="u")
encoder = FeatureExtractor(encoder="mfcc", layers=[0])
with Decoder(sample_rate=16_000, limits=DecodeLimits(max_seconds=1e5)) as decoder:
    def frames(seconds):
        blocks = partial(decoder.stream, sys.argv[1], num_samples=8_000 * seconds, **place)
        return sum(len(piece.features[0]) for piece in encoder.stream([blocks]))
    short = frames(120)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    long = frames(3_600)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([short, long, after - before]))
"""


def test_memory_of_an_encoder_does_not_grow_with_the_recording(tmp_path):
    path, samples = tmp_path / "a.wav", 3_600 * RATE
    soundfile.write(path, np.zeros(samples, np.int16), RATE)
    with open(path, "r+b") as file:
        for second in range(0, 3_600, 600):
            file.seek(44 + 2 * RATE * second)
            file.write(np.random.default_rng(second).integers(-8_000, 8_000, RATE, np.int16).tobytes())
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(path)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    short, long, grown = json.loads(done.stdout)
    assert (short, long) == ((120 * 16_000 - 400) // 320 + 1, (3_600 * 16_000 - 400) // 320 + 1)
    # An hour at 16 kHz is 230 MB of float32.
    assert grown < 30 << 20
