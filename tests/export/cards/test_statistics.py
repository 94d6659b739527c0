import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sequences import sequences, stretch

from pipeline.errors import CorruptDatasetError
from pipeline.export.cards.statistics import LENGTH_EDGES, Statistics, read_ids
from pipeline.export.ids.bpe import train
from pipeline.export.ids.interleaving import Interleaver, Words
from pipeline.export.ids.patterns import Pattern, encode
from pipeline.export.ids.vocabulary import EMPTY, SPEECH, TEXT, Vocabulary

VOCABULARY = Vocabulary.build({"layer_01": 4, "layer_02": 3}, text_size=10)
PLAIN = Pattern(columns=("layer_01", "layer_02"), delays=(0, 0))
SHORT = Pattern(columns=("layer_01", "layer_02"), delays=(0, 1), deduplicate=True)


def tokens(first, second):
    return {"layer_01": first, "layer_02": second}


def by_hand(pattern):
    """Speaker s says two utterances, one of them in two rows; somebody unknown says one of the validation side."""
    return sequences(
        [
            stretch("a", tokens([0, 0, 3], [2, 2, 2]), pattern, VOCABULARY, speaker="s", language="en"),
            stretch("b", tokens([1, 1], [0, 1]), pattern, VOCABULARY, speaker="s", language="de"),
            stretch("c", tokens([2], [1]), pattern, VOCABULARY, valid=True),
            stretch("b", tokens([1], [1]), pattern, VOCABULARY, first_frame=2, speaker="s", language="de"),
        ]
    )


def test_counts_are_those_counted_by_hand():
    found = Statistics.of(by_hand(SHORT), VOCABULARY, SHORT, "part")
    train_side, valid_side = found.train, found.valid
    assert (train_side.utterances, train_side.rows, train_side.frames) == (2, 3, 6)
    assert train_side.microseconds == 120_000
    # a loses one of its three frames; a row of r frames has r + 1 delayed ones of two ids.
    assert train_side.kept_frames == 5
    assert train_side.ids == train_side.ids_before_bpe == 2 * (3 + 3 + 2)
    assert train_side.groups == {
        "speaker": {"s": (120_000, 16)},
        "language": {"en": (60_000, 6), "de": (60_000, 10)},
        "corpus": {"part": (120_000, 16)},
    }
    assert (valid_side.utterances, valid_side.rows, valid_side.frames, valid_side.ids) == (1, 1, 1, 4)
    assert valid_side.groups["speaker"] == {None: (20_000, 4)}
    uses = {number: count for number, count in enumerate(train_side.uses.tolist()) if count}
    # Ids of layer_01 begin at 10, those of layer_02 at 14.
    empty = VOCABULARY.special(EMPTY)
    assert uses == {10: 1, 13: 1, 11: 3, 16: 2, 14: 1, 15: 2, empty: 6}


def test_an_utterance_in_two_rows_has_one_length():
    train_side = Statistics.of(by_hand(PLAIN), VOCABULARY, PLAIN, "part").train
    # Both utterances of the training side last 60 ms.
    place = int(np.searchsorted(LENGTH_EDGES, 60_000, "right"))
    assert train_side.lengths.sum() == train_side.lengths[place] == 2


def test_a_length_on_an_edge_is_in_the_bin_above_it():
    rows = [stretch("a", tokens([0], [0]), PLAIN, VOCABULARY, seconds=1.0)]
    lengths = Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part").train.lengths
    place = int(np.flatnonzero(lengths)[0])
    assert LENGTH_EDGES[place - 1] == 1_000_000


def test_an_utterance_on_both_sides_counts_where_it_begins():
    rows = [
        stretch("a", tokens([0], [0]), PLAIN, VOCABULARY, first_frame=1, valid=False),
        stretch("a", tokens([1], [1]), PLAIN, VOCABULARY, first_frame=0, valid=True),
    ]
    found = Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part")
    assert (found.train.utterances, found.valid.utterances) == (0, 1)
    assert (found.train.rows, found.valid.rows) == (1, 1)
    assert found.valid.lengths.sum() == 1
    assert found.train.lengths.sum() == 0


def test_ids_before_bpe_are_those_of_the_pattern():
    pattern = Pattern(columns=("layer_01", "layer_02"), delays=(0, 2))
    plain = [stretch(name, tokens([0, 1] * 5, [0, 1] * 5), pattern, VOCABULARY) for name in "ab"]
    bpe = train([read_ids(sequences(plain), VOCABULARY)], VOCABULARY, 3)
    vocabulary = bpe.added_to(VOCABULARY)
    merged = [stretch(name, tokens([0, 1] * 5, [0, 1] * 5), pattern, vocabulary, bpe=bpe) for name in "ab"]
    found = Statistics.of(sequences(merged), vocabulary, pattern, "part").train
    assert found.ids_before_bpe == 2 * pattern.num_ids(10)
    assert found.ids == sum(row["num_ids"] for row in merged) < found.ids_before_bpe


def test_text_between_units_is_counted_as_it_is():
    vocabulary = VOCABULARY.extended([TEXT])
    row = stretch("a", tokens([0, 1], [0, 1]), PLAIN, vocabulary)
    ids = np.r_[vocabulary.special(TEXT), 3, 7, np.frombuffer(row["ids"], vocabulary.dtype)]
    row |= {"ids": vocabulary.check(ids).tobytes(), "num_ids": len(ids)}
    found = Statistics.of(sequences([row]), vocabulary, PLAIN, "part").train
    assert found.ids == found.ids_before_bpe == 7
    assert found.uses[[3, 7]].tolist() == [1, 1]


def rows_of(draw):
    name, frames, speaker, valid = draw
    column = [frame % 3 for frame in range(frames)]
    return stretch(name, tokens(column, column[::-1]), PLAIN, VOCABULARY, speaker=speaker, valid=valid)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 2), st.booleans())
def test_interleaved_and_merged_rows_amount_to_what_was_there_before_merging(seed, delay, repeats_left_out):
    vocabulary = Vocabulary.build({"layer_01": 4, "layer_02": 3}, text_size=128, specials=[SPEECH, TEXT])
    pattern = Pattern(columns=("layer_01", "layer_02"), delays=(0, delay), deduplicate=repeats_left_out)
    interleave = Interleaver(
        pattern=pattern,
        vocabulary=vocabulary,
        frame_rate=50.0,
        text_ids=lambda text: [ord(letter) for letter in text],
        mean_span_words=1.5,
        seed=seed,
    )
    times = np.arange(7) / 10
    words = Words(starts=times[:-1], ends=times[1:], labels=("one", "two", "three", "four", "five", "six"))
    heard = {name: np.arange(30) // 2 % size for name, size in (("layer_01", 4), ("layer_02", 3))}
    spans = interleave("a", heard, words)
    ids = np.concatenate([span.ids for span in spans])
    bpe = train([encode(heard, Pattern(columns=pattern.columns, delays=(0, 0)), vocabulary).ids], vocabulary, 2)
    after = bpe.added_to(vocabulary)
    merged = bpe.encode(moved(ids, vocabulary, after))
    row = {
        "num_kept": sum(span.num_kept for span in spans),
        "num_ids": len(merged),
        "ids": after.check(merged).tobytes(),
    }
    plain = stretch("a", {name: values.tolist() for name, values in heard.items()}, pattern, after)
    found = Statistics.of(sequences([plain | row]), after, pattern, "part").train
    assert (found.ids_before_bpe, found.ids) == (len(ids), len(merged))


def moved(ids, before, after):
    """Special tokens lie behind the merges."""
    return np.where(ids >= before.units_end, ids + after.units_end - before.units_end, ids)


ROWS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=4),
        st.integers(1, 9),
        st.one_of(st.none(), st.sampled_from(["s", "t"])),
        st.booleans(),
    ).map(rows_of),
    max_size=12,
    unique_by=lambda row: row["utterance_id"],
)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms())
def test_parts_in_any_order_add_up_to_all_at_once(rows, random):
    whole = Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part")
    parts = [Statistics.of(sequences([row]), VOCABULARY, PLAIN, "part") for row in rows]
    random.shuffle(parts)
    summed = sum(parts[1:], parts[0]) if parts else Statistics.total([])
    assert summed.to_json() == Statistics.total(iter(parts)).to_json() == whole.to_json()


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_every_division_amounts_to_the_whole(rows):
    counts = Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part").all
    assert counts.uses.sum() == counts.ids == 2 * counts.frames
    assert counts.lengths.sum() == counts.utterances == len(rows)
    for found in counts.groups.values():
        assert sum(ids for _, ids in found.values()) == counts.ids
        assert sum(lasting for lasting, _ in found.values()) == counts.microseconds


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_json_gives_the_same_statistics_again(rows):
    found = Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part")
    text = json.dumps(found.to_json())
    again = Statistics.from_json(json.loads(text), "x")
    assert json.dumps(again.to_json()) == text
    assert again.train.uses.tolist() == found.train.uses.tolist()


def test_rows_of_several_chunks_and_slices_are_counted_alike():
    table = by_hand(PLAIN)
    cut = pa.concat_tables([table.slice(3, 1), table.slice(0, 2), table.slice(2, 1)])
    expected = Statistics.of(table, VOCABULARY, PLAIN, "part").to_json()
    assert Statistics.of(cut, VOCABULARY, PLAIN, "part").to_json() == expected
    assert Statistics.of(table.combine_chunks(), VOCABULARY, PLAIN, "part").to_json() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_ids": 3}, "a has 8 bytes of ids, which is not num_ids times 2"),
        ({"num_kept": 3}, "a has 4 ids, its kept frames and layers say 6"),
        ({"seconds": float("nan")}, "a lasts nan seconds"),
        ({"seconds": -1.0}, "a lasts -1.0 seconds"),
        ({"ids": np.full(4, 99, "<u2").tobytes()}, "id 99 stands for nothing"),
    ],
)
def test_a_row_that_contradicts_itself_is_named(change, message):
    rows = [stretch("a", tokens([0, 1], [0, 1]), PLAIN, VOCABULARY, **change)]
    with pytest.raises(CorruptDatasetError, match=message):
        Statistics.of(sequences(rows), VOCABULARY, PLAIN, "part")


@pytest.mark.parametrize("broken", [{}, {"version": 0}, {"version": 1, "train": {}, "valid": {}}])
def test_what_are_no_statistics_is_refused(broken):
    with pytest.raises(CorruptDatasetError, match="unit.json holds no statistics"):
        Statistics.from_json(broken, "unit.json")


def test_statistics_of_an_hour_of_five_layers_are_small():
    columns = {f"layer_{layer:02d}": 1000 for layer in range(5)}
    vocabulary = Vocabulary.build(columns)
    pattern = Pattern(columns=tuple(columns), delays=(0,) * 5)
    rng = np.random.default_rng(0)
    rows = [
        stretch(
            f"utterance-{number}",
            {column: rng.integers(0, 1000, 500).tolist() for column in columns},
            pattern,
            vocabulary,
            speaker=f"speaker-{number % 40}",
            valid=number % 50 == 0,
        )
        for number in range(360)
    ]
    found = Statistics.of(sequences(rows), vocabulary, pattern, "part")
    assert found.all.microseconds == 3600 * 1_000_000
    assert len(json.dumps(found.to_json(), separators=(",", ":"))) < 60_000
