"""Sides: an utterance is on the same side whatever else there is."""

import numpy as np
import pytest

from pipeline.batches.sides import TRAIN, ByColumn, ByHash, leave_one_out, share
from pipeline.errors import SettingsError

LABELS = {
    f"u{number:03d}": {
        "speaker": None if number == 11 else f"s{number % 3}",
        "split": "train" if number < 6 else "dev" if number < 9 else "test",
    }
    for number in range(12)
}


def sides_of(sides):
    return {name: sides.side(name, row) for name, row in LABELS.items()}


def test_shares_are_even_and_depend_on_seed_and_utterance_alone():
    shares = np.array([share(0, f"u{number}") for number in range(4000)])
    assert np.histogram(shares, bins=4, range=(0, 1))[0] == pytest.approx([1000] * 4, rel=0.1)
    assert share(0, "u7") == shares[7]
    assert share(1, "u7") != shares[7]


def test_sides_by_hash_have_their_shares_and_a_further_side_moves_no_utterance_of_the_first():
    names = [f"u{number}" for number in range(4000)]
    one = ByHash(seed=3, shares={"validation": 0.1})
    two = ByHash(seed=3, shares={"validation": 0.1, "test": 0.2})
    first, second = ([sides.side(name, {}) for name in names] for sides in (one, two))
    assert second.count("validation") == pytest.approx(400, rel=0.2)
    assert second.count("test") == pytest.approx(800, rel=0.2)
    assert [name == "validation" for name in first] == [name == "validation" for name in second]
    assert set(first) == {TRAIN, "validation"}
    assert (one.held_out, two.held_out) == (("validation",), ("validation", "test"))
    assert ByHash(seed=3, shares={"validation": 0.0}).held_out == ()


def test_a_column_can_be_shared_out_by_hash_so_that_no_speaker_is_on_two_sides():
    sides = ByHash(seed=1, shares={"validation": 0.5}, column="speaker")
    found = sides_of(sides)
    by_speaker = {}
    for name, row in LABELS.items():
        by_speaker.setdefault(row["speaker"], set()).add(found[name])
    assert by_speaker.pop(None) == {None}
    assert all(len(sides) == 1 for sides in by_speaker.values())
    assert sides.columns == ("speaker",)


def test_sides_by_split_leave_other_values_out_or_divide_them_further():
    strict = ByColumn(column="split", values={TRAIN: ("train",), "validation": ("dev",)})
    found = sides_of(strict)
    assert [found[f"u{n:03d}"] for n in range(12)] == [TRAIN] * 6 + ["validation"] * 3 + [None] * 3
    rest = ByColumn(column="split", values={"test-clean": ("test",)}, rest=ByHash(seed=0, shares={"validation": 0.4}))
    found = sides_of(rest)
    assert [found[f"u{n:03d}"] for n in range(9, 12)] == ["test-clean"] * 3
    for number in range(9):
        name = f"u{number:03d}"
        assert found[name] == ("validation" if share(0, name) < 0.4 else TRAIN)
    assert rest.held_out == ("test-clean", "validation")
    assert rest.columns == ("split",)


def test_each_speaker_is_left_out_once_and_its_utterances_are_never_trained_on():
    speakers = ("s0", "s1", "s2")
    folds = leave_one_out("speaker", speakers, rest=ByHash(seed=0, shares={"validation": 0.3}))
    tested = []
    for speaker, sides in folds.items():
        found = sides_of(sides)
        own = {name for name, row in LABELS.items() if row["speaker"] == speaker}
        assert {name for name, side in found.items() if side == "test"} == own
        tested += sorted(own)
        assert {found[name] for name in found if name not in own} <= {TRAIN, "validation"}
    assert sorted(tested) == [f"u{number:03d}" for number in range(11)]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ByHash(seed=0, shares={"validation": 1.0}), "parts in"),
        (lambda: ByHash(seed=0, shares={TRAIN: 0.5}), "held-out sides"),
        (lambda: ByHash(seed=0, shares={"a": 0.6, "b": 0.4}), "nothing for training"),
        (lambda: ByHash(seed=0, column="singer"), "no label column"),
        (lambda: ByColumn(column="speaker", values={"a": ("x",), "b": ("x", "y")}), "named twice: x"),
        (lambda: ByColumn(column="speaker", values={"a": ()}), "no value of speaker is named for a"),
        (lambda: ByColumn(column="uri", values={"a": ("x",)}), "no label column"),
    ],
)
def test_sides_that_cannot_be_are_refused(make, told):
    with pytest.raises(SettingsError, match=told):
        make()
