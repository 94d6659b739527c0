import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.vocabulary import BEGIN, EMPTY, END, Vocabulary

sizes = st.dictionaries(st.sampled_from(["layer_01", "layer_07", "layer_07_q1"]), st.integers(1, 3_000), min_size=1)


@settings(max_examples=200, deadline=None)
@given(sizes, st.integers(0, 200_000), st.integers(0, 5_000), st.sets(st.text("abc", min_size=1), max_size=5))
def test_ids_never_overlap_and_fill_a_multiple_of_128(num_clusters, text_size, merges, specials):
    vocabulary = Vocabulary.build(num_clusters, text_size=text_size, num_merges=merges, specials=sorted(specials))
    ranges = [(0, text_size), *((block.start, block.end) for block in vocabulary.layers)]
    if vocabulary.bpe:
        ranges.append((vocabulary.bpe.start, vocabulary.bpe.end))
    ranges.append((vocabulary.units_end, vocabulary.used))
    assert all(end == start for (_, end), (start, _) in zip(ranges, ranges[1:], strict=False))
    assert {vocabulary.special(name) for name in vocabulary.specials} == set(
        range(vocabulary.units_end, vocabulary.used)
    )
    assert vocabulary.size % 128 == 0
    assert 0 <= vocabulary.size - vocabulary.used < 128
    names = vocabulary.names()
    assert len(names) == len(set(names)) == vocabulary.size - text_size
    assert names[vocabulary.special(END) - text_size] == END
    assert vocabulary.dtype == ("<u2" if vocabulary.size <= 65_536 else "<i4")
    assert Vocabulary.from_json(json.loads(vocabulary.to_bytes()), "here") == vocabulary


def test_new_special_tokens_move_no_id():
    before = Vocabulary.build({"layer_07": 500}, specials=["<|en|>"])
    after = before.extended(["<|de|>", "<|fr|>"])
    assert {name: after.special(name) for name in before.specials} == {
        name: before.special(name) for name in before.specials
    }
    assert after.layers == before.layers
    with pytest.raises(SettingsError, match="must differ"):
        after.extended(["<|en|>"])


@pytest.mark.parametrize(("num_clusters", "dtype"), [(65_536 - 3, "<u2"), (65_536 - 2, "<i4")])
def test_a_vocabulary_past_65536_is_int32(num_clusters, dtype):
    vocabulary = Vocabulary.build({"layer_07": 1}, text_size=num_clusters - 1)
    assert vocabulary.dtype == dtype
    last = np.array([vocabulary.special(EMPTY)])
    assert vocabulary.check(last).tolist() == last.tolist()


def test_an_id_that_stands_for_nothing_is_an_error():
    vocabulary = Vocabulary.build({"layer_07": 500})
    for wrong in (-1, vocabulary.used, 70_000):
        with pytest.raises(SettingsError, match="must lie in"):
            vocabulary.check(np.array([3, wrong]))
    assert vocabulary.check(np.zeros(0, np.int64)).dtype == np.uint16


def test_the_begin_and_end_of_documents_have_ids_of_their_own():
    vocabulary = Vocabulary.build({"layer_07": 500}, text_size=100)
    assert [vocabulary.special(name) for name in (BEGIN, END, EMPTY)] == [600, 601, 602]
    assert vocabulary.layer("layer_07").start == 100
    with pytest.raises(SettingsError, match="has layer_07, not layer_09"):
        vocabulary.layer("layer_09")
    with pytest.raises(SettingsError, match="no special token"):
        vocabulary.special("<|nothing|>")


def test_a_vocabulary_that_contradicts_itself_is_refused():
    found = Vocabulary.build({"layer_07": 500}).to_json()
    for change in ({"size": 640}, {"layers": [{"name": "layer_07", "start": 0, "size": 499}]}, {"specials": {}}):
        with pytest.raises(CorruptDatasetError, match="contradicts itself|no vocabulary"):
            Vocabulary.from_json(found | change, "here")
    with pytest.raises(CorruptDatasetError, match="no vocabulary"):
        Vocabulary.from_json({}, "here")


@pytest.mark.parametrize("name", ["<|layer_07_3|>", "<|layer_07_q1_3|>", "<|bpe_0|>", "<|unused_9|>"])
def test_a_special_token_may_not_be_spelled_like_a_unit(name):
    with pytest.raises(SettingsError, match="may stand for a unit"):
        Vocabulary.build({"layer_01": 5}, specials=[name])


def test_a_vocabulary_needs_a_layer():
    with pytest.raises(SettingsError):
        Vocabulary.build({})
