import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from bench.probes.measures import (
    bag_of_tokens,
    corrected_information,
    information,
    label_table,
    pool_segments,
    token_counts,
)


def test_quarters_are_in_order_and_the_longer_ones_come_first():
    frames = np.arange(10, dtype=np.float16)[:, None] + np.array([0, 100], np.float16)
    assert pool_segments(frames).tolist() == [1, 101, 4, 104, 6.5, 106.5, 8.5, 108.5]


def test_means_of_float16_frames_are_not_taken_in_float16():
    frames = np.full((8000, 1), 60_000, np.float16)
    frames[::2] = 59_968
    assert pool_segments(frames).tolist() == pytest.approx([59_984] * 4, abs=1)


@pytest.mark.parametrize(("frames", "quarters"), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 0, 1, 2])])
def test_an_utterance_of_fewer_than_four_frames_repeats_them_in_order(frames, quarters):
    assert pool_segments(np.arange(frames, dtype=np.float16)[:, None]).tolist() == quarters


def test_tokens_are_counted_by_utterance_and_an_empty_utterance_has_none():
    counts = token_counts(np.array([2, 0, 2, 1]), np.array([0, 3, 3, 4]), 4)
    assert counts.tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert np.square(bag_of_tokens(counts)).sum(axis=1) == pytest.approx([1, 0, 1])
    assert bag_of_tokens(counts)[0] == pytest.approx(np.sqrt([1 / 3, 0, 2 / 3, 0]))


def test_plain_information_is_that_of_all_frames():
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(5, size=(30, 20)), rng.integers(3, size=30)
    tokens[labels == 1] //= 2
    counts = token_counts(tokens.ravel(), 20 * np.arange(31), 5)
    frames = mutual_info_score(np.repeat(labels, 20), tokens.ravel()) / np.log(2)
    assert information(counts, labels)["plain"] == pytest.approx(frames)
    assert frames > 0.05


def test_information_of_independent_frames_is_near_none_once_corrected():
    rng = np.random.default_rng(1)
    plain, corrected = [], []
    for _ in range(20):
        table = np.zeros((50, 10), np.int64)
        np.add.at(table, (rng.integers(50, size=4000), rng.integers(10, size=4000)), 1)
        plain.append(mutual_info_score(None, None, contingency=table) / np.log(2))
        corrected.append(corrected_information(table))
    assert np.mean(plain) > 0.07
    assert abs(np.mean(corrected)) < 0.005


def test_corrected_information_of_a_noisy_copy_is_its_true_information():
    rng = np.random.default_rng(9)
    labels = rng.integers(4, size=20_000)
    tokens = np.where(rng.random(20_000) < 0.5, labels, rng.integers(4, size=20_000))
    table = np.zeros((4, 4), np.int64)
    np.add.at(table, (tokens, labels), 1)
    # Half the labels are replaced by random ones: one stays with probability 5/8, becomes another with 1/8 each.
    truth = 2 + 5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(1 / 8)
    assert corrected_information(table) == pytest.approx(truth, abs=0.02)


def test_each_entropy_is_corrected_by_its_filled_cells():
    table = np.array([[5, 0], [3, 0], [0, 8], [0, 0]])
    # H(token) over 3 filled cells, H(label) over 2, H(token, label) over 3; 16 frames.
    assert corrected_information(table) == pytest.approx(1 + ((3 - 1) + (2 - 1) - (3 - 1)) / (2 * 16 * np.log(2)))


def test_tokens_that_name_the_label_tell_all_of_it_and_nothing_of_a_shuffled_one():
    labels = np.repeat(np.arange(4), 50)
    found = information(np.eye(4, dtype=np.int64)[labels] * 10, labels)
    assert found["plain"] == pytest.approx(2)
    assert found["shuffled_plain"] < 0.1
    assert found["shuffled_corrected"] < found["shuffled_plain"]


def test_labels_are_shuffled_by_utterance_so_that_frames_that_resemble_each_other_stay_together():
    rng = np.random.default_rng(2)
    labels = rng.integers(2, size=40)
    alike = np.eye(20, dtype=np.int64)[rng.integers(20, size=40)] * 50
    mixed = rng.multinomial(50, np.full(20, 1 / 20), size=40)
    assert information(alike, labels)["shuffled_corrected"] > 10 * information(mixed, labels)["shuffled_plain"]


def test_a_table_of_labels_has_every_frame_in_one_cell():
    assert label_table(np.array([[1, 2], [0, 4], [3, 0]]), np.array([1, 0, 1])).tolist() == [[0, 4], [4, 2]]
