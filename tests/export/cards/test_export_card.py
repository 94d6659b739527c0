import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_export_card import LINEAGE, PATTERN, VOCABULARY, card_of, counted, ngrams, rows, tokens
from made_sequences import sequences, stretch

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.cards import plots
from pipeline.export.cards.markdown import render
from pipeline.export.cards.measures import MOST_VALUES, shares
from pipeline.export.cards.statistics import LENGTH_EDGES, Statistics, read_ids
from pipeline.export.ids.bpe import train


def test_measures_are_those_computed_by_hand():
    card = card_of(counted())
    both = card.amounts["all"]
    # Deduplication leaves 50 of 100 frames and all of 50.
    assert (both.microseconds, both.frames, both.kept_frames, both.ids) == (3_000_000, 150, 100, 200)
    assert (card.amounts["train"].ids, card.amounts["valid"].ids) == (100, 100)
    assert (card.rates.tokens, card.rates.kept_tokens, card.rates.ids) == pytest.approx((100, 200 / 3, 200 / 3))
    # log2 4 + log2 2 bits a frame; both layers use all their tokens alike.
    assert card.bitrate.fixed == pytest.approx(150)
    assert card.bitrate.kept_fixed == card.bitrate.kept_entropy == pytest.approx(100)
    assert card.bitrate.bpe_fixed is None
    first, second, special = card.vocabulary.blocks
    assert (first.occurrences, first.used, first.dead, first.perplexity) == (100, 4, 0, pytest.approx(4))
    assert (second.occurrences, second.perplexity) == (100, pytest.approx(2))
    assert special.occurrences == 0
    assert (card.vocabulary.used, card.vocabulary.possible, card.vocabulary.size) == (6, 9, 128)


def test_a_token_that_never_occurs_is_dead_in_its_layer_only():
    found = card_of(counted(rows()[:1])).vocabulary.blocks
    assert [(block.dead, block.used) for block in found[:2]] == [(2, 2), (1, 1)]


def test_shares_name_those_with_most_audio_and_count_the_others():
    found = shares({None: (5, 1), "b": (20, 2), "a": (20, 2), "c": (30, 3)})
    assert found.largest == [("c", 30, 3), ("a", 20, 2), ("b", 20, 2)]
    assert (found.values, found.others, found.unknown) == (3, (0, 0, 0), (5, 1))
    many = shares({f"{number:04d}": (MOST_VALUES + 2 - number, 10) for number in range(MOST_VALUES + 2)})
    assert len(many.largest) == MOST_VALUES
    assert many.values == MOST_VALUES + 2
    assert many.others == (2, 3, 20)


def test_quantiles_of_lengths_are_edges_above_them():
    lengths = card_of(counted()).lengths
    upper = {name: edge / 1e6 for name, edge in lengths.quantiles.items()}
    # One utterance of a second and one of two: a length on an edge is in the bin above it.
    assert 1 < upper["0.5"] < 1.2
    assert 2 < upper["0.95"] < 2.4
    assert [number for _, _, number in lengths.histogram] == [1, 1]


def with_bpe(merges=2):
    plain_table = sequences(rows())
    bpe = train([read_ids(plain_table, VOCABULARY)], VOCABULARY, merges)
    vocabulary = bpe.added_to(VOCABULARY)
    merged = [
        stretch("a", tokens([0, 0, 1, 1] * 25, [0] * 100), PATTERN, vocabulary, bpe=bpe),
        stretch("b", tokens([2, 3] * 25, [1] * 50), PATTERN, vocabulary, bpe=bpe, valid=True),
    ]
    return bpe, vocabulary, Statistics.of(sequences(merged), vocabulary, PATTERN, "part-000")


def test_tokens_inside_merges_count_for_their_layers():
    bpe, vocabulary, statistics = with_bpe()
    card = card_of(statistics, bpe=bpe, vocabulary=vocabulary)
    without = card_of(counted())
    assert card.vocabulary.blocks[:2] == without.vocabulary.blocks[:2]
    assert card.bitrate.kept_entropy == without.bitrate.kept_entropy
    assert card.amounts["all"].ids_before_bpe == 200
    ids = card.amounts["all"].ids
    assert ids < 200
    assert card.bpe.merges == 2
    assert card.bpe.ids_per_id == 200 / ids
    assert card.bitrate.bpe_fixed == pytest.approx(ids / 3 * math.log2(8))
    merges = card.vocabulary.blocks[2]
    assert (merges.name, merges.size) == ("bpe", 2)
    assert 0 < card.bitrate.bpe_entropy <= card.bitrate.bpe_fixed


def test_merges_that_are_missing_or_others_are_refused():
    bpe, vocabulary, statistics = with_bpe()
    with pytest.raises(SettingsError, match="another number of merges"):
        card_of(statistics, vocabulary=vocabulary, bpe=None)
    with pytest.raises(SettingsError, match="another number of merges"):
        card_of(counted(), bpe=bpe)


def test_ids_that_do_not_amount_to_the_frames_are_refused():
    statistics = counted()
    broken = replace(statistics, train=replace(statistics.train, kept_frames=49))
    with pytest.raises(CorruptDatasetError, match="200 tokens, frames and layers say 198"):
        card_of(broken)


NAMES = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8)


@settings(max_examples=25, deadline=None)
@given(NAMES, st.randoms())
def test_the_card_of_parts_is_that_of_all_at_once(names, random):
    table_rows = [
        stretch(
            name,
            tokens([place % 4, place % 3] * 3, [place % 2] * 6),
            PATTERN,
            VOCABULARY,
            speaker=f"s{place % 3}" if place % 4 else None,
            valid=place % 3 == 0,
        )
        for place, name in enumerate(names)
    ]
    parts = [counted([row]).to_json() for row in table_rows]
    random.shuffle(parts)
    summed = Statistics.total(Statistics.from_json(json.loads(json.dumps(part)), "unit") for part in parts)
    assert card_of(summed).to_json() == card_of(counted(table_rows)).to_json()


def test_a_second_part_adds_to_the_first():
    first, second = counted(rows()[:1], "part-000"), counted(rows()[1:], "part-001")
    together, at_once = card_of(first + second), card_of(counted())
    assert together.amounts == at_once.amounts
    assert together.vocabulary == at_once.vocabulary
    assert together.lengths == at_once.lengths
    assert together.shares["speaker"] == at_once.shares["speaker"]
    assert together.shares["corpus"].largest == [("part-000", 2_000_000, 100), ("part-001", 1_000_000, 100)]


def test_json_is_the_card():
    found = json.loads(card_of(counted(), ngrams=ngrams()).to_json())
    assert found["amounts"]["all"]["ids"] == 200
    assert found["lineage"] == LINEAGE
    assert found["formats"]["parquet"]["bytes"] == 1234
    assert found["rejects"]["manifest"] == {"too_short": 3}
    assert [entry["order"] for entry in found["ngrams"]["orders"]] == [1, 2, 3]


def test_a_card_of_nothing_is_written():
    card = card_of(Statistics.total([]), formats={}, lineage={}, rejects={})
    assert card.rates.ids == 0
    assert card.lengths.quantiles == {}
    assert "0 hours of speech" in render(card, plots=True)
    assert plots.draw(card) == {}


def test_plots_are_png_and_equal_for_equal_cards():
    card = card_of(counted(), ngrams=ngrams())
    drawn = plots.draw(card)
    assert sorted(drawn) == sorted(plots.PLOTS)
    assert all(png.startswith(b"\x89PNG\r\n") for png in drawn.values())
    assert plots.draw(card_of(counted(), ngrams=ngrams())) == drawn


def test_lengths_without_an_outer_edge_are_drawn():
    longest = int(LENGTH_EDGES[-1]) / 1e6
    table_rows = [
        stretch(name, tokens([0], [0]), PATTERN, VOCABULARY, seconds=seconds)
        for name, seconds in (("a", 0.02), ("b", 2 * longest))
    ]
    card = card_of(counted(table_rows))
    assert [edges[:2] for edges in card.lengths.histogram] == [
        (0, int(LENGTH_EDGES[0])),
        (int(LENGTH_EDGES[-1]), None),
    ]
    assert plots.draw(card)["lengths"].startswith(b"\x89PNG")
