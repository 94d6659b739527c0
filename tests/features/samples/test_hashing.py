import hashlib

import numpy as np
import pytest

from pipeline.features.samples.hashing import EVERY_HASH, draws, frame_hash, last_hash_of, sampled_frames, stream_starts

MASK = 2**64 - 1
GOLDEN = [12086759047411103002, 8945099242846927982, 5300779891287614947]


def _splitmix64(state):
    """One output of splitmix64 in Python integers, which cannot wrap by accident."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def test_splitmix64_gives_its_published_first_outputs():
    gamma = 0x9E3779B97F4A7C15
    outputs = [_splitmix64(gamma * (n + 1) + 1234567 & MASK) for n in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_hashes_are_splitmix64_from_a_start_that_blake2b_gives():
    start = int.from_bytes(hashlib.blake2b(b"7\0caf\xc3\xa9", digest_size=8).digest(), "little")
    frames = np.array([0, 1, 499, 2**31 - 1])
    expected = [_splitmix64(start + 0x9E3779B97F4A7C15 * (int(frame) + 1) & MASK) for frame in frames]
    assert frame_hash(7, "caf\u00e9", frames).tolist() == expected


def test_hashes_are_those_of_every_machine_and_version():
    assert frame_hash(0, "utterance", np.arange(3)).tolist() == GOLDEN


def test_hashes_depend_on_the_frame_number_not_on_its_place():
    frames = np.array([9, 4, 4], np.int32)
    whole = frame_hash(3, "a", np.arange(10))
    assert frame_hash(3, "a", frames).tolist() == whole[frames].tolist()
    assert frame_hash(3, "a", frames[:0]).shape == (0,)


def test_hashes_are_uniform_over_frames_and_over_utterances():
    over_frames = frame_hash(0, "one", np.arange(100_000))
    over_utterances = np.concatenate([frame_hash(0, f"u{n}", np.array([0])) for n in range(20_000)])
    for hashes in (over_frames, over_utterances):
        counts = np.bincount((hashes >> np.uint64(58)).astype(int), minlength=64)
        expected = len(hashes) / 64
        # Chi-squared with 63 degrees of freedom is above 115 in 1 of 20,000 random draws.
        assert ((counts - expected) ** 2 / expected).sum() < 115


def test_a_smaller_fraction_keeps_a_subset():
    samples = [set(sampled_frames(1, "u", 5_000, last_hash_of(fraction))) for fraction in (0, 0.01, 0.3, 0.9, 1)]
    assert all(small < large for small, large in zip(samples, samples[1:], strict=False))
    assert (len(samples[0]), len(samples[-1])) == (0, 5_000)


def test_a_sample_has_the_size_asked_for_and_is_ascending():
    frames = sampled_frames(5, "u", 100_000, last_hash_of(0.1))
    assert abs(len(frames) - 10_000) < 4 * np.sqrt(100_000 * 0.1 * 0.9)
    assert (np.diff(frames) > 0).all()
    assert frames.dtype == np.int32


def test_another_seed_or_utterance_gives_another_sample():
    sample = sampled_frames(0, "u", 1_000, 2**63).tolist()
    assert sample != sampled_frames(1, "u", 1_000, 2**63).tolist()
    assert sample != sampled_frames(0, "v", 1_000, 2**63).tolist()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        last_hash_of(fraction)


def test_a_bound_is_the_last_hash_that_is_kept():
    hashes = frame_hash(4, "u", np.arange(50))
    bound = int(np.sort(hashes)[19])
    assert sampled_frames(4, "u", 50, bound).tolist() == np.flatnonzero(hashes <= np.uint64(bound)).tolist()
    assert [len(sampled_frames(4, "u", 50, at)) for at in (bound - 1, bound, EVERY_HASH, None)] == [19, 20, 50, 0]
    assert (last_hash_of(1), last_hash_of(0.5), last_hash_of(0)) == (EVERY_HASH, 2**63 - 1, None)


def test_streams_of_many_utterances_begin_where_each_one_begins_alone():
    names = ["a", "caf\u00e9", "utterance"]
    assert stream_starts(7, names).tolist() == [stream_starts(7, [name])[0] for name in names]
    assert stream_starts(7, []).shape == (0,)


def test_draws_are_the_outputs_of_splitmix64_that_starts_at_the_hash():
    hashes = frame_hash(2, "u", np.arange(5))
    for number in (1, 2, 7):
        states = [int(value) + 0x9E3779B97F4A7C15 * number & MASK for value in hashes]
        assert draws(hashes, number).tolist() == [(_splitmix64(state) >> 11) / 2**53 for state in states]


def test_draws_of_frames_that_a_sample_of_the_same_seed_kept_are_uniform():
    frames = sampled_frames(3, "u", 400_000, last_hash_of(0.05))
    hashes = frame_hash(3, "u", frames)
    for number in (1, 2):
        counts = np.bincount((draws(hashes, number) * 64).astype(int), minlength=64)
        expected = len(hashes) / 64
        assert ((counts - expected) ** 2 / expected).sum() < 115
    assert abs(np.corrcoef(draws(hashes, 1), draws(hashes, 2))[0, 1]) < 0.03
