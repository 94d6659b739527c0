"""A survey reads a manifest once, and counts what is on each side though the split column says how it is divided."""

from collections import Counter
from itertools import combinations

import pytest
from made_tokens import speak, write_manifest

from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN, ByColumn, ByHash, Whole, share
from pipeline.batches.survey import Parts, Wanted, survey
from pipeline.errors import SettingsError
from pipeline.tasks.division import DivisionSettings, divide

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return speak(tmp_path_factory.mktemp("audio"), [0.3 + 0.1 * number for number in range(24)])


@pytest.fixture
def manifest_of(made, tmp_path):
    """Write a manifest of 24 utterances of three speakers, two in each shard; gives it and its labels."""

    def write(split):
        labels = {
            one.utterance_id: {
                "speaker": None if number == 11 else f"s{number % 3}",
                "emotion": None if number in (2, 11) else "sad" if number % 2 else "calm",
                "text": None if number == 3 else "abc"[: 1 + number % 3],
                "split": split(number),
            }
            for number, one in enumerate(made)
        }
        write_manifest(tmp_path / "manifest", made, labels=labels, per_shard=2)
        return Manifest(str(tmp_path / "manifest")), labels

    return write


def thirds(number):
    return SPLITS[number // 8]


def test_a_survey_counts_sides_seconds_nulls_and_classes(manifest_of):
    manifest, _ = manifest_of(thirds)
    sides = ByColumn(column="split", values={TRAIN: ("train",), "validation": ("dev",)})
    held, found = survey(manifest, sides, Wanted(needed=["emotion"], classes=["speaker", "emotion"]))
    assert held == sides
    assert {side: facts.utterances for side, facts in found.items()} == {TRAIN: 8, "validation": 8, None: 8}
    assert found[TRAIN].seconds == pytest.approx(sum(0.3 + 0.1 * number for number in range(8)), abs=1e-3)
    assert [found[side].unlabelled["emotion"] for side in (TRAIN, "validation", None)] == [1, 1, 0]
    assert found["validation"].counts_of("emotion") == {"calm": 4, "sad": 3}
    assert found[None].values["speaker"].counts == (2, 3, 3)


@pytest.mark.parametrize(
    ("sides", "needed", "told"),
    [
        (ByColumn(column="split", values={"test": ("none",)}, rest=ByHash(seed=0)), (), "no utterance for test"),
        (ByColumn(column="split", values={"test": ("test",)}), (), "no utterance for train"),
        (ByHash(seed=0), ("language",), "no language for any of the 24 utterances of train"),
    ],
)
def test_a_side_without_anything_is_refused_before_training(manifest_of, sides, needed, told):
    manifest, _ = manifest_of(thirds)
    with pytest.raises(SettingsError, match=told):
        survey(manifest, sides, Wanted(needed=needed))


# In turns, so that much stays possible for long; one after the other; and with a value in the last shard alone.
ORDERS = {
    **{
        "-".join(there): (lambda number, there=there: there[number % len(there)])
        for size in (1, 2, 3)
        for there in combinations(SPLITS, size)
    },
    "thirds": thirds,
    "late dev": lambda number: "train" if number < 22 else "dev" if number == 22 else "other",
    "late train": lambda number: None if number < 23 else "train",
}


def side_of(name, row, there, by):
    """Say on which side an utterance is, knowing what the split column holds."""
    if row["speaker"] == "s2":
        return "unseen"
    shares = {"validation": 0.4, "test": 0.3}
    if "train" in there:
        if row["split"] != "train":
            return {"dev": "validation", "test": "test"}.get(row["split"])
        shares = {side: part for side, part in shares.items() if {"validation": "dev"}.get(side, side) not in there}
    value = name if by == "utterance" else row["speaker"]
    if shares and value is None:
        return None
    place, until = share(1, value) if shares else 1.0, 0.0
    for side, part in shares.items():
        until += part
        if place < until:
            return side
    return TRAIN


@pytest.mark.parametrize("split", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("by", ["utterance", "speaker"])
def test_one_pass_finds_the_division_that_the_whole_split_column_says_and_its_facts(manifest_of, split, by):
    manifest, labels = manifest_of(split)
    settings = DivisionSettings(valid_fraction=0.4, test_fraction=0.3, divide_by=by, unseen_speakers=("s2",))
    parts = (Parts(name="letters", column="text", of=set), Parts(name="words", column="text", of=str.split))
    there = {row["split"] for row in labels.values()}
    expected = {name: side_of(name, row, there, by) for name, row in labels.items()}
    if absent := {"train", "validation", "test", "unseen"} - set(expected.values()):
        with pytest.raises(SettingsError, match=f"no utterance for ({'|'.join(absent)})"):
            divide(manifest, settings, seed=1, label="text", parts=parts, unheard=False)
        return
    found = divide(manifest, settings, seed=1, label="text", parts=parts, unheard=False)
    assert {name: found.sides.side(name, row) for name, row in labels.items()} == expected
    assert set(found.facts) == set(expected.values())
    for side, facts in found.facts.items():
        rows = [labels[name] for name in expected if expected[name] == side]
        texts = [row["text"] for row in rows if row["text"] is not None]
        assert facts.utterances == len(rows)
        assert facts.unlabelled == {"text": len(rows) - len(texts)}
        assert facts.counts_of("letters") == Counter("".join(texts))
        assert facts.counts_of("words") == Counter(texts)


def test_a_corpus_that_is_only_tested_is_on_one_side_and_needs_no_training(manifest_of):
    manifest, labels = manifest_of(thirds)
    sides = Whole(side_name="all")
    assert {sides.side(name, row) for name, row in labels.items()} == {"all"} == set(sides.held_out)
    held, found = survey(manifest, sides, Wanted(needed=["emotion"], classes=["speaker"]))
    assert (held, set(found)) == (sides, {"all"})
    assert found["all"].utterances == 24
    assert found["all"].unlabelled == {"emotion": 2}
    assert found["all"].values["speaker"].counts == (8, 8, 7)
