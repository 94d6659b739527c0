"""Long speech is cut where it is quiet, and nothing of it is lost."""

import numpy as np

from pipeline.metrics.speech.pauses import cut_at_pauses

RATE = 1000


def speech(seconds, pauses):
    """Make noise with silence of 0.2 s at some moments."""
    made = np.random.default_rng(0).standard_normal(int(seconds * RATE)).astype(np.float32)
    for pause in pauses:
        made[int(pause * RATE) : int((pause + 0.2) * RATE)] = 0
    return made


def test_pieces_are_all_of_it_and_end_in_pauses():
    waveform = speech(100, [5.0, 24.0, 29.5, 47.0, 70.0])
    pieces = list(cut_at_pauses(waveform, RATE, most_seconds=30))
    np.testing.assert_array_equal(np.concatenate(pieces), waveform)
    assert all(len(piece) <= 30 * RATE for piece in pieces)
    ends = np.cumsum([len(piece) for piece in pieces])[:-1] / RATE
    # The first of two equal pauses; the one at 5 s would leave a short piece; after 70 s there is no pause.
    assert [any(pause < end < pause + 0.2 for pause in (24.0, 47.0, 70.0)) for end in ends[:3]] == [True] * 3
    assert len(ends) == 3 + (100 - ends[2] > 30)


def test_what_is_short_enough_stays_whole_and_constant_sound_is_cut_somewhere():
    waveform = speech(30, [10.0])
    (piece,) = cut_at_pauses(waveform, RATE, most_seconds=30)
    assert piece is waveform
    pieces = list(cut_at_pauses(np.ones(100 * RATE, np.float32), RATE, most_seconds=30))
    assert sum(map(len, pieces)) == 100 * RATE
    assert {len(piece) <= 30 * RATE for piece in pieces} == {True}
