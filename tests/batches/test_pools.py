"""Pools: one order for all workers, each utterance once an epoch, exact cursors, and a count of what is left out."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from made_tokens import CLOCK, speak, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.batches.augment import AugmentSettings
from pipeline.batches.pieces import PieceSettings
from pipeline.batches.pools import (
    NO_LABEL,
    NO_SIDE,
    REASONS,
    TOO_LONG,
    TOO_SHORT,
    UNMATCHED,
    Pools,
    PoolSettings,
    left_out_lines,
)
from pipeline.batches.sides import TRAIN, ByColumn, ByHash, share
from pipeline.batches.utterances import Utterances
from pipeline.errors import DatasetError, SettingsError

SECONDS = [0.1, *np.linspace(0.3, 2.5, 29).tolist(), 5.0]
LABELS = {
    f"u{number:03d}": {
        "speaker": f"s{number % 4}" if number % 10 else None,
        "text": None if number in (3, 8) else f"text {number}",
        "split": "dev" if number % 7 == 2 else "train",
    }
    for number in range(len(SECONDS))
}
SPLIT = ByColumn(column="split", values={TRAIN: ("train",), "validation": ("dev",)})
SPEEDS = AugmentSettings(speed_range=0.2, speed_probability=0.7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """31 labelled utterances in 8 shards, of 0.1 to 5 s."""
    root = tmp_path_factory.mktemp("pools")
    write_corpus_of_tones(root, SECONDS, labels=LABELS)
    return root


def pools_of(folder, sides=None, augment=None, labels=("speaker", "text", "split"), max_seconds=None, **settings):
    """Open a corpus; three pools an epoch, micro-batches of 4 s."""
    pieces = PieceSettings(
        manifest=str(folder / "manifest"),
        clock=CLOCK,
        tokens=str(folder / "tokens"),
        columns=("layer_00",),
        labels=labels,
        max_seconds=max_seconds,
    )
    given = {"seed": 0, "shuffle_hours": sum(SECONDS) / 3600 / 3, "max_samples": 64_000, "longest": 130, "pad": True}
    return Pools(
        Utterances(pieces),
        sides or ByHash(seed=0, shares={"validation": 0.2}),
        PoolSettings(**given | settings),
        augment,
    )


def epochs(pools, count=1):
    found = []
    for ticket, after in pools.tickets(None):
        if after["epoch"] >= count:
            return found
        found.append((ticket, after))


def names(tickets):
    return [piece.utterance_id for ticket in tickets for piece in ticket.pieces]


def plain(ticket):
    keys = [piece.key for piece in ticket.pieces]
    return ticket.key, keys, ticket.speeds, ticket.lengths, ticket.training


@pytest.mark.parametrize("pad", [False, True])
def test_two_workers_share_the_micro_batches_that_one_would_draw(folder, pad):
    """Each worker opens the corpus for itself, draws all tickets, and loads every second."""
    alone = [plain(ticket) for ticket, _ in islice(pools_of(folder, augment=SPEEDS, pad=pad).tickets(None), 60)]
    drawn = [
        [plain(ticket) for ticket, _ in islice(pools_of(folder, augment=SPEEDS, pad=pad).tickets(None), 60)][rank::2]
        for rank in range(2)
    ]
    assert [ticket for pair in zip(*drawn, strict=True) for ticket in pair] == alone


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("place", [0, 1, 13, 40])
def test_a_cursor_goes_on_exactly_where_it_was(folder, place, pad):
    run = list(islice(pools_of(folder, SPLIT, SPEEDS, pad=pad).tickets(None), place + 50))
    assert run[-1][1]["epoch"] >= 1
    again = list(islice(pools_of(folder, SPLIT, SPEEDS, pad=pad).tickets(run[place][1]), 49))
    assert [plain(ticket) for ticket, _ in again] == [plain(ticket) for ticket, _ in run[place + 1 :]]
    assert [after for _, after in again] == [after for _, after in run[place + 1 :]]


def test_a_padded_micro_batch_holds_whole_utterances_and_their_lengths(folder):
    for ticket, _ in epochs(pools_of(folder), 2):
        assert ticket.lengths == tuple(piece.num_frames for piece in ticket.pieces)
        assert all(piece.whole for piece in ticket.pieces)
        assert ticket.num_frames == max(ticket.lengths) <= 1.2 * min(ticket.lengths)
        assert len(ticket.pieces) == 1 or len(ticket.pieces) * CLOCK.num_samples(ticket.num_frames) <= 64_000


def test_every_utterance_of_the_training_side_comes_once_an_epoch(folder):
    found = epochs(pools_of(folder), 3)
    expected = {name for number, name in enumerate(LABELS) if share(0, name) >= 0.2 and SECONDS[number] < 2.6}
    for epoch in range(3):
        own = Counter(names(ticket for ticket, _ in found if ticket.key.startswith(f"{epoch}/")))
        assert own == dict.fromkeys(expected, 1)


def test_everything_is_trained_on_held_out_or_counted(folder):
    """Of 31 utterances: too short, too long, without text, without speaker (so on no side), each once."""
    sides = ByColumn(column="speaker", values={"test": ("s1",)}, rest=ByHash(seed=0, column="speaker"))
    pools = pools_of(folder, sides, min_frames=10, needed=("text",))
    trained = epochs(pools, 2)
    counts = {reason: trained[-1][1][reason] for reason in REASONS}
    held = pools.held_out("test")
    first = [ticket for ticket, _ in trained if ticket.key.startswith("0/")]
    # u000, of 0.1 s, has no speaker; u030, of 5 s, neither.
    assert counts == {TOO_SHORT: 0, TOO_LONG: 0, NO_LABEL: 2, NO_SIDE: 4, UNMATCHED: 0}
    assert held.left_out == {UNMATCHED: 0, NO_SIDE: 4}
    assert len(names(first)) + len(names(held.tickets)) + counts[NO_LABEL] + counts[NO_SIDE] == 31
    by_hash = pools_of(folder, ByHash(seed=0), min_frames=10, needed=("text",))
    counts = epochs(by_hash, 2)[-1][1]
    assert [counts[reason] for reason in REASONS] == [1, 1, 2, 0, 0]


def test_utterances_without_tokens_are_counted_as_unmatched_once(tmp_path):
    made = speak(tmp_path / "audio", [0.5 + 0.1 * number for number in range(9)])
    write_manifest(tmp_path / "manifest", made, per_shard=9)
    write_tokens(tmp_path / "tokens", [made[n] for n in (0, 1, 3, 4, 5, 6, 8)], per_shard=9)
    pools = pools_of(tmp_path, ByHash(seed=0), shuffle_hours=1)
    found = epochs(pools, 3)
    assert {after[UNMATCHED] for _, after in found} == {2}
    assert sorted(names(ticket for ticket, _ in found)) == sorted(3 * [f"u{n:03d}" for n in (0, 1, 3, 4, 5, 6, 8)])


def test_pieces_of_a_cut_utterance_are_too_long_to_be_padded_and_fit_to_be_cropped(folder):
    padded = pools_of(folder, ByHash(seed=0), max_seconds=3.0)
    assert epochs(padded, 2)[-1][1][TOO_LONG] == 2
    cut = pools_of(folder, ByHash(seed=0), max_seconds=3.0, pad=False)
    found = epochs(cut)
    assert names(ticket for ticket, _ in found).count("u030") == 2
    assert found[-1][1][TOO_LONG] == 0


def test_each_held_out_side_has_its_own_micro_batches_always_the_same(folder):
    sides = ByColumn(
        column="speaker", values={"test": ("s1",)}, rest=ByHash(seed=0, shares={"validation": 0.3}, column="text")
    )
    pools = pools_of(folder, sides, SPEEDS)
    validation, test = (pools.held_out(side) for side in ("validation", "test"))
    assert [plain(t) for t in test.tickets] == [plain(t) for t in pools_of(folder, sides).held_out("test").tickets]
    assert set(names(test.tickets)) == {name for name, row in LABELS.items() if row["speaker"] == "s1"}
    trained = set(names(ticket for ticket, _ in epochs(pools, 2)))
    assert trained & set(names(test.tickets)) == trained & set(names(validation.tickets)) == set()
    assert len(names(validation.tickets)) > 0
    for ticket in (*validation.tickets, *test.tickets):
        assert not ticket.training
        assert set(ticket.speeds) == {1.0}
    keys = [ticket.key for ticket in (*validation.tickets, *test.tickets)]
    assert len(set(keys)) == len(keys)


def test_a_held_out_side_takes_no_more_audio_than_asked_and_one_that_is_not_there_none(folder):
    pools = pools_of(folder, ByHash(seed=0, shares={"validation": 0.8}))
    some, every = pools.held_out("validation", minutes=0.03), pools.held_out("validation")
    assert 0 < len(names(some.tickets)) < len(names(every.tickets))
    assert set(names(some.tickets)) < set(names(every.tickets))
    assert pools.held_out("test").tickets == ()


def test_a_report_says_what_was_left_out_and_nothing_of_what_was_not(folder, caplog):
    caplog.set_level("INFO")
    pools = pools_of(folder, ByColumn(column="speaker", values={"test": ("s1",)}, rest=ByHash(seed=0)), longest=60)
    (_, cursor) = epochs(pools, 2)[-1]
    short = sum(CLOCK.num_frames(int(seconds * 16_000)) <= 60 for seconds in SECONDS)
    held = pools.held_out("test")
    lines = left_out_lines(cursor)
    assert [label for label, _ in lines] == ["too long, left out"]
    assert int(lines[0][1]) + held.left_out[TOO_LONG] == 31 - short
    assert f"test: {len(held.tickets)} micro-batches" in caplog.text
    assert f"too long, left out {held.left_out[TOO_LONG]}" in caplog.text


def test_labels_that_are_looked_at_must_come_with_the_pieces(folder):
    with pytest.raises(SettingsError, match="speaker, text, which the pieces"):
        pools_of(folder, ByHash(seed=0, column="speaker"), labels=("split",), needed=("text",))


@pytest.mark.parametrize("wrong", [{"shuffle_hours": 0}, {"max_samples": 0}, {"longest": 0}, {"min_frames": 0}])
def test_settings_out_of_range_are_refused_by_name(folder, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        pools_of(folder, **wrong)


def test_a_corpus_with_nothing_to_train_on_says_why(folder):
    with pytest.raises(DatasetError, match="left out were: too_short 31"):
        next(pools_of(folder, ByHash(seed=0), min_frames=500).tickets(None))
