from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kmeans.cards.counts import NUM_BINS, CodeCounts, bin_edges, distance_bins, run_starts
from pipeline.kmeans.search.assignment import nearest

K, D, V = 6, 5, 4
UNIT = 2.0**-24


def speech(seed, utterances=7):
    """Give features (T, D) and labels (T,) of each utterance, and centroids."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 400, utterances)
    features = [rng.normal(3, 2, (n, D)).astype(np.float16) for n in lengths]
    return features, [rng.integers(-1, V, n) for n in lengths], rng.normal(3, 2, (K, D)).astype(np.float32)


def counted(features, labels, centroids):
    found = CodeCounts(K, D, {"label": V})
    for cell, of_cell in zip(features, labels, strict=True):
        tokens = nearest(cell, centroids).tokens
        found.add_frames(cell, centroids, tokens)
        found.add_labels("label", tokens, of_cell)
        found.add_runs(tokens)
        found.utterances += 1
    return found


def content(counts):
    values = {name: getattr(counts, name) for name in ("codes", "runs", "distances", "high", "low")}
    numbers = (counts.squared_distance, counts.squared_norm, counts.utterances, dict(counts.run_lengths))
    return [numbers, *({k: v.tolist() for k, v in {**values, **counts.tables}.items()}.items())]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 7), max_size=5), st.randoms())
def test_counts_are_the_same_for_any_shards_merged_in_any_order(seed, cuts, shuffler):
    features, labels, centroids = speech(seed)
    whole = counted(features, labels, centroids)
    bounds = [0, *sorted(cuts), 7]
    parts = [counted(features[a:b], labels[a:b], centroids) for a, b in zip(bounds, bounds[1:], strict=False)]
    shuffler.shuffle(parts)
    while len(parts) > 1:
        # Trees of merges as well as chains: any two parts may meet.
        one, other = parts.pop(shuffler.randrange(len(parts))), parts.pop(shuffler.randrange(len(parts)))
        one.merge(other)
        parts.append(one)
    assert content(parts[0]) == content(whole)


def test_counts_equal_slow_definitions():
    features, labels, centroids = speech(1)
    found = counted(features, labels, centroids)
    frames = np.concatenate(features)
    wide = frames.astype(np.float64)
    squares = ((wide[:, None] - centroids) ** 2).sum(-1)
    tokens = squares.argmin(1)
    assert found.frames == len(frames)
    assert found.codes.tolist() == [int((tokens == code).sum()) for code in range(K)]
    sums = [(h << 32) + x for h, x in zip(found.high.tolist(), found.low.tolist(), strict=True)]
    assert sums == [sum(map(Fraction, column)) * 2**24 for column in wide.T.tolist()]
    assert abs(found.squared_distance * UNIT - squares.min(1).sum()) <= len(frames) * UNIT
    assert abs(found.squared_norm * UNIT - (wide**2).sum()) <= len(frames) * UNIT
    for code in range(K):
        for label in range(V):
            pair = (tokens == code) & (np.concatenate(labels) == label)
            assert found.tables["label"][code, label] == pair.sum()
    lengths = []
    for cell in features:
        ids = nearest(cell, centroids).tokens.tolist()
        lengths += [len(run) for run in slow_runs(ids)]
    assert sorted(found.run_lengths.elements()) == sorted(lengths)
    assert found.runs.sum() == len(lengths)


def slow_runs(ids):
    found = [[ids[0]]]
    for token in ids[1:]:
        if token == found[-1][-1]:
            found[-1].append(token)
        else:
            found.append([token])
    return found


def test_runs_end_with_their_utterance():
    counts = CodeCounts(2, 1)
    for tokens in ([0, 0, 1], [1, 1, 1, 0], [0]):
        counts.add_runs(np.array(tokens))
    assert dict(counts.run_lengths) == {2: 1, 1: 3, 3: 1}
    assert counts.runs.tolist() == [3, 2]
    assert run_starts(np.zeros(0, int)).tolist() == []


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 2.0**52))
def test_a_squared_distance_lies_between_the_edges_of_its_bin(square):
    edges = bin_edges()
    (place,) = distance_bins(np.array([square]))
    assert edges[place] <= square < edges[place + 1]


def test_bins_are_narrow_and_cover_all_that_is_counted():
    edges = bin_edges()
    assert len(edges) == NUM_BINS + 1
    assert (edges[2:] / edges[1:-1] <= 1 + 1 / 32).all()
    assert distance_bins(np.array([0.0, 2.0**-25, 2.0**-24, np.nextafter(2.0**53, 0)])).tolist() == [
        0,
        0,
        1,
        NUM_BINS - 1,
    ]


def test_counts_of_other_codebooks_or_labels_are_not_merged():
    for other in (CodeCounts(3, 1), CodeCounts(2, 2), CodeCounts(2, 1, {"label": 3})):
        with pytest.raises(ValueError, match="cannot merge"):
            CodeCounts(2, 1).merge(other)
    with pytest.raises(ValueError, match="0 to 1"):
        CodeCounts(2, 1).add_runs(np.array([0, 2]))
