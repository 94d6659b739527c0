import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.patterns import Pattern, UnitSequence, decode, deduplicate, delay, encode, repeat, undelay
from pipeline.export.ids.vocabulary import EMPTY, Vocabulary

COLUMNS = ("layer_12", "layer_03", "layer_03_q1")
SIZES = {"layer_12": 5, "layer_03": 3, "layer_03_q1": 4}


@st.composite
def utterances(draw):
    columns = COLUMNS[: draw(st.integers(1, 3))]
    num_frames = draw(st.integers(0, 30))
    tokens = {
        name: np.array(
            draw(st.lists(st.integers(0, SIZES[name] - 1), min_size=num_frames, max_size=num_frames)), np.uint16
        )
        for name in columns
    }
    delays = draw(st.lists(st.integers(0, 4), min_size=len(columns), max_size=len(columns)))
    delays[draw(st.integers(0, len(columns) - 1))] = 0
    return tokens, Pattern(columns=columns, delays=tuple(delays), deduplicate=draw(st.booleans()))


@settings(max_examples=300, deadline=None)
@given(utterances(), st.integers(0, 1_000))
def test_decoding_undoes_encoding(utterance, text_size):
    tokens, pattern = utterance
    vocabulary = Vocabulary.build(SIZES, text_size=text_size, specials=["<|speech|>"])
    sequence = encode(tokens, pattern, vocabulary)
    found = decode(sequence, pattern, vocabulary)
    assert list(found) == list(pattern.columns)
    for column, ids in tokens.items():
        np.testing.assert_array_equal(found[column], ids)
    kept = len(tokens[pattern.columns[0]]) if sequence.durations is None else len(sequence.durations)
    assert len(sequence.ids) == pattern.num_ids(kept)
    if kept:
        assert pattern.num_frames(len(sequence.ids)) == kept
    vocabulary.check(sequence.ids)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 3))
def test_a_deduplicated_sequence_repeats_nothing_and_lasts_as_long(values, num_layers):
    tokens_TL = np.array(values * num_layers).reshape(num_layers, -1).T if values else np.zeros((0, num_layers), int)
    kept, durations = deduplicate(tokens_TL)
    assert durations.sum() == len(tokens_TL)
    assert not (kept[1:] == kept[:-1]).all(axis=1).any()
    assert (durations > 0).all()
    np.testing.assert_array_equal(repeat(kept, durations), tokens_TL)


def test_the_patterns_are_those_of_the_papers():
    vocabulary = Vocabulary.build({"layer_12": 10, "layer_03": 10})
    tokens = {"layer_12": np.array([0, 1, 2]), "layer_03": np.array([5, 6, 7])}
    flat = Pattern(columns=("layer_12", "layer_03"), delays=(0, 0))
    assert flat.name == "flatten"
    assert encode(tokens, flat, vocabulary).ids.tolist() == [0, 15, 1, 16, 2, 17]
    late = Pattern(columns=("layer_12", "layer_03"), delays=(0, 1))
    empty = vocabulary.special(EMPTY)
    assert late.name == "delay"
    assert encode(tokens, late, vocabulary).ids.tolist() == [0, empty, 1, 15, 2, 16, empty, 17]
    one = Pattern(columns=("layer_03",), delays=(0,), deduplicate=True)
    assert one.name == "single"
    sequence = encode({"layer_03": np.array([4, 4, 4, 1, 1, 4])}, one, vocabulary)
    assert sequence.ids.tolist() == [14, 11, 14]
    assert sequence.durations.tolist() == [3, 2, 1]


def test_a_frame_is_left_out_only_where_all_layers_repeat():
    vocabulary = Vocabulary.build({"layer_12": 10, "layer_03": 10})
    tokens = {"layer_12": np.array([1, 1, 1, 1]), "layer_03": np.array([2, 2, 3, 3])}
    found = encode(tokens, Pattern(columns=("layer_12", "layer_03"), delays=(0, 0), deduplicate=True), vocabulary)
    assert found.ids.tolist() == [1, 12, 1, 13]
    assert found.durations.tolist() == [2, 2]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_a_delay_moves_each_layer_by_its_frames(num_frames, delays):
    tokens_TL = np.arange(num_frames * len(delays)).reshape(num_frames, -1)
    moved = delay(tokens_TL, delays, -1)
    for layer, frames in enumerate(delays):
        np.testing.assert_array_equal(moved[frames : frames + num_frames, layer], tokens_TL[:, layer])
    assert (moved == -1).sum() == max(delays) * len(delays)
    np.testing.assert_array_equal(undelay(moved, delays), tokens_TL)


@pytest.mark.parametrize(
    ("columns", "delays"), [((), ()), (("a", "a"), (0, 0)), (("a", "b"), (0,)), (("a",), (1,)), (("a", "b"), (0, -1))]
)
def test_a_pattern_that_cannot_be_is_refused(columns, delays):
    with pytest.raises(SettingsError):
        Pattern(columns=columns, delays=delays)


def test_a_pattern_is_stored_with_its_name_and_parameters():
    pattern = Pattern(columns=("layer_12", "layer_03"), delays=(0, 2), deduplicate=True)
    assert pattern.to_json()["name"] == "delay"
    assert Pattern.from_json(pattern.to_json()) == pattern


def test_what_is_no_sequence_is_refused_when_it_is_decoded():
    vocabulary = Vocabulary.build({"layer_12": 10, "layer_03": 10})
    flat = Pattern(columns=("layer_12", "layer_03"), delays=(0, 0))
    for ids in ([0], [0, 5], [30, 15]):
        with pytest.raises(CorruptDatasetError):
            decode(UnitSequence(ids=np.array(ids), durations=None), flat, vocabulary)
    short = Pattern(columns=("layer_12",), delays=(0,), deduplicate=True)
    with pytest.raises(CorruptDatasetError, match="needs a duration"):
        decode(UnitSequence(ids=np.array([1, 2]), durations=np.array([1])), short, vocabulary)
    with pytest.raises(CorruptDatasetError, match="holds token 10, its codebook has 10"):
        encode({"layer_12": np.array([10])}, Pattern(columns=("layer_12",), delays=(0,)), vocabulary)
