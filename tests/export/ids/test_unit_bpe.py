import json
import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.bpe import MAX_UNITS, PIECE, UnitBpe, train
from pipeline.export.ids.patterns import Pattern, decode, encode
from pipeline.export.ids.vocabulary import EMPTY, Block, Vocabulary

SIZES = {"layer_07": 5, "layer_12": 3}
BARE = Vocabulary.build(SIZES, text_size=10)
UNITS = 8


def babble(length, *, seed=0, vocabulary=BARE):
    """Units that often repeat and often follow each other in the same way."""
    rng = np.random.default_rng(seed)
    words = [rng.integers(vocabulary.units_start, vocabulary.layers[-1].end, n) for n in rng.integers(2, 9, 12)]
    return np.concatenate([words[number] for number in rng.integers(0, 12, length)])[:length]


@pytest.fixture(scope="module")
def trained():
    bpe = train([babble(400, seed=seed) for seed in range(6)], BARE, 40)
    return bpe, bpe.added_to(BARE)


def test_the_pair_that_is_most_frequent_is_merged_first():
    bpe = train([np.array([10, 11, 12, 10, 11, 13, 10, 11]), np.array([12, 13, 12, 13])], BARE, 2)
    assert bpe.encode(np.array([10, 11, 12, 13, 11])).tolist() == [18, 19, 11]
    assert bpe.lengths.tolist() == [1] * UNITS + [2, 2]


def test_of_pairs_equally_frequent_the_lower_ids_are_merged_first():
    sequences = [np.array([high, low]) for high, low in ((17, 10), (12, 13), (12, 11), (14, 14))] * 3
    for order in (sequences, sequences[::-1]):
        bpe = train(order, BARE, 3)
        assert [bpe.decode(np.array([number])).tolist() for number in (18, 19, 20)] == [[12, 11], [12, 13], [14, 14]]


def test_every_unit_is_in_the_alphabet_though_none_was_seen():
    bpe = train([np.array([14, 14, 14, 14, 14])], BARE, 1)
    everything = np.arange(BARE.units_start, BARE.layers[-1].end)
    assert bpe.encode(everything).tolist() == everything.tolist()
    assert bpe.added_to(BARE).bpe == Block(name="bpe", start=18, size=1)


@settings(max_examples=80)
@given(data=st.data())
def test_decoding_undoes_encoding_whatever_stands_between_units(trained, data):
    bpe, vocabulary = trained
    units = st.integers(vocabulary.units_start, vocabulary.units_start + UNITS - 1)
    others = st.one_of(st.integers(0, 9), st.integers(vocabulary.units_end, vocabulary.used - 1))
    parts = data.draw(st.lists(st.lists(st.one_of(units, units, units, others), max_size=30), max_size=6))
    sequences = [np.array(part, vocabulary.dtype) for part in parts]
    merged = bpe.encode_many(sequences)
    assert len(merged) == len(sequences)
    for before, after in zip(sequences, merged, strict=True):
        assert bpe.decode(after).tolist() == before.tolist()
        assert len(after) <= len(before)
        assert after.tolist() == bpe.encode(before).tolist()
        kept = [number for number in before.tolist() if not 0 <= number - vocabulary.units_start < UNITS]
        assert [number for number in after.tolist() if not 10 <= number < vocabulary.units_end] == kept


def test_what_is_no_unit_is_never_merged_nor_merged_across(trained):
    bpe, vocabulary = trained
    pair = bpe.decode(np.array([vocabulary.bpe.start]))
    empty = vocabulary.special(EMPTY)
    assert bpe.encode(pair).tolist() == [vocabulary.bpe.start]
    for between in (empty, 3):
        split = np.array([pair[0], between, pair[1]])
        assert bpe.encode(split).tolist() == split.tolist()
    assert [ids.tolist() for ids in bpe.encode_many([pair[:1], pair[1:]])] == [[pair[0]], [pair[1]]]


def test_ids_and_merges_are_those_of_textbook_byte_pair_encoding():
    sequences = [babble(60, seed=seed) for seed in range(4)]
    words = [list((number,) for number in ids.tolist()) for ids in sequences]
    bpe = train(sequences, BARE, 25)
    for merge in range(25):
        counts = {}
        for word in words:
            for pair in zip(word, word[1:], strict=False):
                counts[pair] = counts.get(pair, 0) + 1
        # Pairs such as aaa overlap themselves, and counts of them are a matter of taste; others are not.
        units = tuple(bpe.decode(np.array([BARE.units_end + merge])).tolist())
        pair = next(pair for pair in counts if pair[0] + pair[1] == units)
        if pair[0] != pair[1]:
            assert counts[pair] == max(count for (a, b), count in counts.items() if a != b)
        words = [joined(word, pair) for word in words]
    for ids, word in zip(sequences, words, strict=True):
        assert [tuple(bpe.decode(np.array([number])).tolist()) for number in bpe.encode(ids)] == word


def joined(word, pair):
    """Replace a pair wherever it stands, from the left."""
    found, place = [], 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            found.append(pair[0] + pair[1])
            place += 2
        else:
            found.append(word[place])
            place += 1
    return found


SCRIPT = """
import hashlib, sys
import numpy as np
from pipeline.export.ids.bpe import train
from pipeline.export.ids.vocabulary import Vocabulary
rng = np.random.default_rng(0)
flat = np.repeat(rng.zipf(1.3, 6000) % 50, rng.integers(1, 4, 6000))
bpe = train([flat[n : n + 70] for n in range(0, len(flat), 70)], Vocabulary.build({"layer_07": 60}), 500)
sys.stdout.write(f"{bpe.num_merges} {hashlib.sha256(bpe.to_bytes()).hexdigest()}")
"""


def test_any_number_of_threads_gives_the_same_bytes():
    found = set()
    for parallel, threads in (("false", "1"), ("true", "2"), ("true", "7")):
        environment = os.environ | {"TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().startswith(b"500 ")


def test_the_order_of_the_sequences_changes_nothing():
    sequences = [babble(50, seed=seed) for seed in range(30)]
    assert train(sequences, BARE, 60).to_bytes() == train(sequences[::-1], BARE, 60).to_bytes()


def test_saved_merges_come_back_and_open_as_a_tokenizer(trained):
    bpe, vocabulary = trained
    content = bpe.to_bytes()
    again = UnitBpe.from_bytes(content, vocabulary, "here")
    ids = babble(500, seed=77)
    assert again.to_bytes() == content
    assert again.encode(ids).tolist() == bpe.encode(ids).tolist()
    assert again.decode(again.encode(ids)).tolist() == ids.tolist()
    text = "".join(chr(0xF0000 + number - 10) for number in ids.tolist())
    plain = Tokenizer.from_str(content.decode()).encode(text).ids
    assert [number + 10 for number in plain] == bpe.encode(ids).tolist()


def test_merges_of_another_vocabulary_are_refused(trained):
    bpe, vocabulary = trained
    content = bpe.to_bytes()
    for other in (
        BARE,
        Vocabulary.build(SIZES, text_size=10, num_merges=bpe.num_merges + 1),
        Vocabulary.build({"layer_07": 9}, text_size=10, num_merges=bpe.num_merges - 1),
    ):
        with pytest.raises(CorruptDatasetError, match=r"tokenizer\.json.*belong to different exports"):
            UnitBpe.from_bytes(content, other, "s3://x/bpe/tokenizer.json")
    for damaged in (content[:-9], b"\xff", b"[]"):
        with pytest.raises(CorruptDatasetError, match="here is no unit BPE"):
            UnitBpe.from_bytes(damaged, vocabulary, "here")
    lowered = json.loads(content) | {"normalizer": {"type": "Lowercase"}}
    with pytest.raises(CorruptDatasetError, match="does more than merge"):
        UnitBpe.from_bytes(json.dumps(lowered).encode(), vocabulary, "here")


def test_ids_that_are_merged_already_are_refused(trained):
    bpe, vocabulary = trained
    with pytest.raises(CorruptDatasetError, match="merged already"):
        bpe.encode(np.array([10, vocabulary.bpe.start]))


def test_units_of_both_private_planes_come_back():
    sizes = {"layer_07": 65_000, "layer_12": MAX_UNITS - 65_000}
    vocabulary = Vocabulary.build(sizes)
    edges = np.array([0, 65_532, 65_533, 65_534, 65_535, MAX_UNITS - 1])
    bpe = train([edges, edges], vocabulary, 2)
    assert len(bpe.encode(edges)) == 4
    assert bpe.decode(bpe.encode(edges)).tolist() == edges.tolist()
    single = np.array([65_533, 0, 65_534, 0, MAX_UNITS - 1, MAX_UNITS - 2])
    assert bpe.encode(single).tolist() == single.tolist()
    with pytest.raises(SettingsError, match="at most 131,068"):
        train([edges], Vocabulary.build(sizes | {"layer_24": 1}), 2)


def test_fewer_merges_than_asked_for_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        bpe = train([np.array([10, 11, 12, 13])] * 2, BARE, 100)
    assert bpe.num_merges == 3
    assert "3 merges, not 100" in caplog.text
    assert bpe.added_to(BARE).size == 128


def test_nothing_to_merge_is_an_error():
    with pytest.raises(SettingsError, match="nothing to merge"):
        train([np.array([10, 11, 12]), np.array([10, 3, 11])], BARE, 5)
    with pytest.raises(SettingsError, match="at least 1 merge"):
        train([np.array([10, 11])], BARE, 0)


def test_an_error_among_the_sequences_comes_through():
    def sequences():
        yield babble(50)
        raise CorruptDatasetError("shard-00001 is damaged")

    with pytest.raises(CorruptDatasetError, match="shard-00001"):
        train(sequences(), BARE, 5)


def test_a_long_recording_is_learned_in_pieces_and_encoded_whole():
    recording = np.tile([10, 11], 2 * PIECE)[: 3 * PIECE + 6]
    bpe = train([recording], BARE, 50)
    assert bpe.lengths.max() == PIECE
    assert bpe.decode(bpe.encode(recording)).tolist() == recording.tolist()
    assert len(bpe.encode(recording)) <= 5


def test_frames_of_delayed_layers_come_back_through_merges():
    pattern = Pattern(columns=("layer_07", "layer_12"), delays=(0, 2), deduplicate=True)
    rng = np.random.default_rng(3)
    tokens = [{name: np.repeat(rng.integers(0, k, 40), 3) for name, k in SIZES.items()} for _ in range(5)]
    bpe = train([encode(each, pattern, BARE).ids for each in tokens], BARE, 20)
    vocabulary = bpe.added_to(BARE)
    sequences = [encode(each, pattern, vocabulary) for each in tokens]
    merged = bpe.encode_many([sequence.ids for sequence in sequences])
    for each, sequence, ids in zip(tokens, sequences, merged, strict=True):
        assert len(ids) < len(sequence.ids)
        assert vocabulary.special(EMPTY) in ids
        back = type(sequence)(ids=bpe.decode(ids), durations=sequence.durations)
        for name, column in decode(back, pattern, vocabulary).items():
            assert column.tolist() == each[name].tolist()


def test_merges_compress_what_repeats_and_bits_are_counted(trained):
    bpe, _ = trained
    ids = babble(1000, seed=5)
    found = bpe.compression(num_units=1000, num_ids=len(bpe.encode(ids)), seconds=20.0)
    assert found.units_per_id == pytest.approx(1000 / len(bpe.encode(ids)))
    assert found.bits_per_second_before == pytest.approx(50 * 3)
    assert found.bits_per_second_after == pytest.approx(len(bpe.encode(ids)) / 20 * math.log2(UNITS + bpe.num_merges))
    with pytest.raises(SettingsError, match="seconds"):
        bpe.compression(num_units=1, num_ids=1, seconds=0.0)
