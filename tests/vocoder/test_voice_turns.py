"""A voice that several threads share: they take turns, and each gets what it gets alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from made_speech import write_small_vocoder

from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.voice import Said, Voice


def test_threads_take_turns_with_the_network_and_change_no_sample(tmp_path):
    write_small_vocoder(tmp_path)
    voice = Voice(str(tmp_path), "cpu", SpeakingSettings())
    columns, size = voice.spec.columns, min(voice.spec.fuser.num_clusters.values())
    chance = np.random.default_rng(0)
    said = [
        [Said(tokens=chance.integers(0, size, (length, len(columns)))) for length in lengths]
        for lengths in ((20, 31), (25, 25), (40,), (12, 90))
    ]
    alone = [dict(voice.speak(each, columns)) for each in said]
    inside, most, count = 0, 0, threading.Lock()
    network = voice._vocoder.generator.forward

    def watched(*given):
        nonlocal inside, most
        with count:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        try:
            return network(*given)
        finally:
            with count:
                inside -= 1

    voice._vocoder.generator.forward = watched
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: dict(voice.speak(each, columns)), said))
    assert most == 1
    for found, expected in zip(together, alone, strict=True):
        assert found.keys() == expected.keys()
        for place, waveform in found.items():
            np.testing.assert_array_equal(waveform, expected[place])
