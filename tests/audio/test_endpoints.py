"""Speech segments are ordered, disjoint, inside the recording, and as long and as far apart as asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.endpoints import speech_segments
from pipeline.audio.vad import FRAME, VadSettings
from pipeline.errors import SettingsError

RATE = 16_000
PLAIN = {"min_speech_seconds": 0.0, "min_silence_seconds": 0.0, "pad_seconds": 0.0}

settings = st.builds(
    VadSettings,
    threshold=st.floats(0.01, 0.99),
    min_speech_seconds=st.floats(0, 0.5),
    min_silence_seconds=st.floats(0, 1),
    pad_seconds=st.floats(0, 0.6),
    max_segment_seconds=st.floats(2, 8),
)
# Runs of equal probability: independent frames would hardly ever be speech for long.
stretches = st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(1, 120)), max_size=12)


def edges(probabilities, num_samples=None, **changes):
    probabilities = np.asarray(probabilities, np.float32)
    length = len(probabilities) * FRAME if num_samples is None else num_samples
    return [(s.start, s.end) for s in speech_segments(probabilities, length, VadSettings(**{**PLAIN, **changes}))]


@given(stretches, st.integers(0, FRAME - 1), settings)
def test_segments_keep_every_promise(runs, missing, asked):
    probabilities = np.repeat(np.array([p for p, _ in runs], np.float32), [n for _, n in runs])
    length = max(0, len(probabilities) * FRAME - missing)
    segments = speech_segments(probabilities, length, asked)
    shortest, longest = round(asked.min_speech_seconds * RATE), int(asked.max_segment_seconds * RATE)
    end = 0
    for segment in segments:
        assert end <= segment.start < segment.end <= length
        assert max(1, shortest) <= segment.end - segment.start <= longest
        end = segment.end
    gaps = [b.start - a.end for a, b in zip(segments, segments[1:], strict=False) if b.start > a.end]
    least = asked.min_silence_seconds * RATE - 2 * round(asked.pad_seconds * RATE)
    assert all(gap >= least - 1 for gap in gaps)
    covered = np.zeros(length + 1, bool)
    for segment in segments:
        covered[segment.start : segment.end] = True
    # What is not covered holds no speech longer than what may be dropped.
    missed = (probabilities >= asked.threshold) & ~covered[np.minimum(np.arange(len(probabilities)) * FRAME, length)]
    run = most = 0
    for frame in missed:
        run = run + 1 if frame else 0
        most = max(most, run)
    assert (most - 1) * FRAME < max(1, shortest)


def test_speech_goes_on_between_the_two_thresholds_and_does_not_begin_there():
    between = 0.4
    assert edges([between, between, 0.6, between, between, 0.1, between]) == [(2 * FRAME, 5 * FRAME)]


def test_a_short_pause_is_bridged_and_a_long_one_divides():
    speech = [1.0] * 10 + [0.0] * 10 + [1.0] * 10
    pause = 10 * FRAME / RATE
    assert edges(speech, min_silence_seconds=pause + 0.001) == [(0, 30 * FRAME)]
    assert edges(speech, min_silence_seconds=pause) == [(0, 10 * FRAME), (20 * FRAME, 30 * FRAME)]


def test_a_click_is_dropped_before_it_is_padded():
    click = [0.0] * 20 + [1.0] + [0.0] * 20
    assert edges(click, min_speech_seconds=0.1, pad_seconds=0.3) == []
    assert edges(click, min_speech_seconds=0.03, pad_seconds=0.032) == [(19 * FRAME, 22 * FRAME)]


def test_pads_share_a_pause_that_is_too_short_for_both_and_stop_at_the_ends():
    speech = [1.0] * 5 + [0.0] * 4 + [1.0] * 5
    assert edges(speech, num_samples=14 * FRAME - 7, pad_seconds=0.5) == [(0, 7 * FRAME), (7 * FRAME, 14 * FRAME - 7)]


def test_long_speech_is_split_at_its_weakest_place_without_losing_a_sample():
    speech = np.full(1000, 0.99)
    speech[400:405] = 0.6
    parts = edges(speech, max_segment_seconds=20.0)
    assert parts == [(0, 402 * FRAME + FRAME // 2), (402 * FRAME + FRAME // 2, 1000 * FRAME)]
    even = edges(np.ones(3000), max_segment_seconds=10.0)
    assert even[0][0] == 0
    assert even[-1][1] == 3000 * FRAME
    assert all(a[1] == b[0] for a, b in zip(even, even[1:], strict=False))


def test_nothing_gives_nothing():
    assert edges([]) == []
    assert edges([0.0] * 50) == []


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"min_speech_seconds": -0.1},
        {"min_silence_seconds": float("inf")},
        {"pad_seconds": float("nan")},
        {"max_segment_seconds": 0.5},
        {"min_speech_seconds": 1.0, "max_segment_seconds": 3.9},
    ],
)
def test_settings_out_of_range_are_refused_by_name(change):
    with pytest.raises(SettingsError, match=f"vad_{list(change)[-1]}"):
        VadSettings(**change)
