"""Splits, pooling and mutual information of the probes."""

from pathlib import Path

import numpy as np
import pytest

from bench.probe_tasks import Fold, Labelled, accuracy, bag, mutual_information, pool, recordings, tasks
from bench.small_corpus import DATA, chosen


def made():
    """Two digits by three speakers, four takes below and above the test's edge; two actors; four readers."""
    found = [
        Labelled(path=Path(f"{digit}_{speaker}_{take}"), corpus="fsdd", speaker=speaker, digit=digit, take=take)
        for digit in (0, 1)
        for speaker in ("theo", "ann", "bob")
        for take in (0, 4, 5, 9)
    ]
    found += [Labelled(path=Path(a), corpus="emodb", speaker=a, emotion=e) for a in ("03", "08") for e in "WN"]
    found += [
        Labelled(path=Path(str(n)), corpus="librispeech", speaker=str(n), sex="FM"[n % 2], trained_on=n > 1)
        for n in range(4)
    ]
    return found


def test_digits_are_tested_on_takes_that_no_training_utterance_has():
    found = made()
    (fold,) = tasks(found)["digit"].folds
    assert {found[row].take for row in fold.test} == {0, 4}
    assert {found[row].take for row in fold.train} == {5, 9}


def test_the_new_speaker_is_in_no_training_utterance():
    found = made()
    (fold,) = tasks(found)["digit_new_speaker"].folds
    assert {found[row].speaker for row in fold.test} == {"theo"}
    assert {found[row].speaker for row in fold.train} == {"ann", "bob"}


def test_each_actor_is_tested_once_on_all_others():
    found = made()
    folds = tasks(found)["emotion"].folds
    assert sorted(found[row].speaker for fold in folds for row in fold.test) == ["03", "03", "08", "08"]
    for fold in folds:
        assert {found[row].speaker for row in fold.test} & {found[row].speaker for row in fold.train} == set()


def test_sex_is_tested_on_readers_that_training_never_heard():
    found = made()
    (fold,) = tasks(found)["sex"].folds
    assert not any(found[row].trained_on for row in fold.test)
    assert all(found[row].trained_on for row in fold.train)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 11])
def test_pooling_gives_the_mean_of_each_segment(frames):
    features = np.arange(frames * 2, dtype=np.float16).reshape(frames, 2)
    pooled = pool(features)
    assert pooled.shape == (8,)
    if frames >= 4:
        parts = np.array_split(features.astype(np.float32), 4)
        np.testing.assert_allclose(pooled, np.concatenate([part.mean(axis=0) for part in parts]))
    else:
        assert set(pooled.reshape(4, 2)[:, 0]) == set(features[:, 0].astype(np.float32))


def test_a_bag_is_of_length_one_and_forgets_order():
    tokens = np.array([3, 3, 1, 0])
    assert np.linalg.norm(bag(tokens, 5)) == pytest.approx(1)
    np.testing.assert_array_equal(bag(tokens, 5), bag(tokens[::-1], 5))


def test_mutual_information_is_the_label_entropy_for_a_copy_and_nothing_for_noise():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 20_000)
    assert mutual_information(labels, labels) == pytest.approx(2.0, abs=0.01)
    assert mutual_information(rng.integers(0, 50, 20_000), labels) == pytest.approx(0, abs=0.005)
    noisy = np.where(rng.random(20_000) < 0.5, labels, rng.integers(0, 4, 20_000))
    # Half the labels are replaced by random ones: the label stays with probability 5/8, becomes another with 1/8.
    truth = 2 + 5 / 8 * np.log2(5 / 8) + 3 / 8 * np.log2(1 / 8)
    assert mutual_information(noisy, labels) == pytest.approx(truth, abs=0.02)


def test_accuracy_counts_what_a_classifier_gets_right_over_all_folds():
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 100)
    inputs = rng.standard_normal((200, 3)) + 4 * (labels == "a")[:, None]
    even, odd = np.arange(0, 200, 4), np.arange(1, 200, 4)
    both = np.concatenate([even, odd])
    rest = np.setdiff1d(np.arange(200), both)
    folds = [Fold(train=both, test=rest), Fold(train=rest, test=both)]
    assert accuracy(inputs, labels, folds, seed=0) > 0.95
    assert accuracy(rng.standard_normal((200, 3)), labels, folds, seed=1) < 0.7


@pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason="no real speech: STRATA_TEST_DATA")
def test_nothing_that_the_encoder_heard_is_among_what_was_kept_out():
    heard, kept = ({one.path for one in chosen(kept_out=apart)} for apart in (False, True))
    found = [one for one in recordings() if one.corpus != "emodb"]
    assert heard & kept == set()
    assert {one.path for one in found if one.trained_on} == heard
    assert {one.path for one in found if not one.trained_on} == kept
    assert len({one.speaker for one in found if one.corpus == "librispeech" and not one.trained_on}) == 40
