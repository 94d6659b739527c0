"""Channels that cancel when they are averaged are counted; at 5237d84 nothing told of the silence that was encoded."""

import numpy as np
import pytest
import soundfile
from made_audio import RATE, noise

from pipeline.audio.decode import Decoder
from pipeline.passed_over import Kind, PassedOver

LEFT, RIGHT = noise(3 * RATE, seed=1), noise(3 * RATE, seed=2)
SOUNDS = {
    "opposite": (np.stack([LEFT, -LEFT], axis=1), True),
    "almost opposite": (np.stack([LEFT, -(0.8 * LEFT).astype(np.int16)], axis=1), True),
    "four in two pairs": (np.stack([LEFT, RIGHT, -LEFT, -RIGHT], axis=1), True),
    "alike": (np.stack([LEFT, LEFT], axis=1), False),
    "independent": (np.stack([LEFT, RIGHT], axis=1), False),
    "one of eight": (np.stack([LEFT, *7 * [0 * LEFT]], axis=1), False),
    "silent": (np.stack([0 * LEFT, 0 * LEFT], axis=1), False),
    "mono": (LEFT[:, None], False),
}


def place(samples, channel=None):
    return {"offset_samples": 0, "num_samples": len(samples), "sample_rate": RATE, "channel": channel}


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_only_channels_that_cancel_are_counted_decoded_at_once_or_streamed(tmp_path, name, ending):
    samples, cancels = SOUNDS[name]
    path = str(tmp_path / f"a.{ending}")
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    with Decoder(sample_rate=RATE) as decoder:
        whole, streamed, one = PassedOver(), PassedOver(), PassedOver()
        decoder.decode(path, utterance_id="u", **place(samples), passed_over=whole)
        list(decoder.stream(path, utterance_id="u", **place(samples), passed_over=streamed))
        decoder.decode(path, utterance_id="u", **place(samples, channel=0), passed_over=one)
    expected = {Kind.CHANNELS_CANCEL: {"count": 1, "example": path}} if cancels else {}
    assert whole.to_json() == streamed.to_json() == expected
    # A channel alone has nothing to be cancelled by.
    assert one.to_json() == {}
