import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_features import make_codebook

from pipeline.errors import CodebookMismatchError, FeatureError
from pipeline.kmeans.fit.fixed_point import sum_rows
from pipeline.kmeans.residual import chain_faults, chains, left_by, reduce_by, residual

D = 6


def make_chain(features, num_clusters, num_stages, layer=3, seed=0):
    """Make codebooks of frames drawn from what the stages before leave; the first centroid is zero.

    A centroid at zero lets a stage leave a frame as it is, so no stage can make it worse.
    """
    rng = np.random.default_rng(seed)
    chain = []
    for _ in range(num_stages):
        left = reduce_by(chain, features)
        drawn = left[rng.choice(len(left), num_clusters - 1, replace=False)].astype(np.float32)
        chain.append(make_codebook(layer, np.concatenate([np.zeros((1, D), np.float32), drawn]), prior=chain))
    return chain


def frames(num=500, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (num, D)).astype(np.float16)


@given(
    arrays.arrays(np.float16, (7, 3), elements=st.floats(-60_000, 60_000, width=16)),
    arrays.arrays(np.float32, (4, 3), elements=st.floats(-5_000, 5_000, width=32)),
    arrays.arrays(np.uint16, 7, elements=st.integers(0, 3)),
)
@settings(deadline=None)
def test_a_residual_is_the_float64_difference_rounded_once(features, centroids, tokens):
    left = residual(features, centroids, tokens)
    expected = [
        [np.float16(np.float64(x) - np.float64(c)) for x, c in zip(row, centroids[token], strict=True)]
        for row, token in zip(features, tokens, strict=True)
    ]
    assert left.dtype == np.float16
    np.testing.assert_array_equal(left, np.array(expected, np.float16))
    # Fixed point of K-means holds it without rounding.
    assert sum_rows(left[:1].astype(np.float64)).tolist() == [int(float(x) * 2**24) for x in left[0]]


def test_a_residual_does_not_depend_on_how_many_rows_there_are():
    features, tokens = frames(3000), np.arange(3000) % 5
    centroids = frames(5, seed=1).astype(np.float32)
    kept = features.copy()
    whole = residual(features, centroids, tokens)
    alone = [residual(features[row : row + 1], centroids, tokens[row : row + 1])[0] for row in range(3000)]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(features, kept)
    assert residual(features[:0], centroids, tokens[:0]).shape == (0, D)


def test_what_float16_cannot_hold_is_refused_by_row_layer_and_stage():
    features = np.zeros((1500, D), np.float16)
    features[1300] = 65504
    centroids = np.full((1, D), -60_000, np.float32)
    with pytest.raises(FeatureError, match=r"^row 1300 minus its nearest centroid, 0,"):
        residual(features, centroids, np.zeros(1500, np.int32))
    with pytest.raises(FeatureError, match=r"^layer 3, stage 0: row 1300"):
        left_by(make_codebook(3, centroids), features, np.zeros(1500, np.int32))


def test_each_stage_brings_the_reconstruction_nearer():
    features = frames()
    chain = make_chain(features, 40, 4)
    errors = [float((reduce_by(chain[:n], features).astype(np.float64) ** 2).sum()) for n in range(5)]
    assert all(after < 0.9 * before for before, after in zip(errors, errors[1:], strict=False))
    total = np.zeros(features.shape)
    for stage, book in enumerate(chain):
        total += book.centroids[book.table.nearest(reduce_by(chain[:stage], features)).tokens]
    # Each stage rounds to float16, by at most half a unit in the last of 11 bits.
    np.testing.assert_allclose(features - total, reduce_by(chain, features), atol=4 * 16 * 2.0**-11)


def test_chains_are_found_in_any_order_by_layer_and_k():
    features = frames()
    small, large = make_chain(features, 5, 3), make_chain(features, 9, 2)
    other = make_chain(features, 5, 1, layer=1)
    found = chains([large[1], small[2], other[0], small[0], large[0], small[1]])
    assert list(found) == [(1, 5), (3, 5), (3, 9)]
    assert [book.quantizer for book in found[3, 5]] == [0, 1, 2]
    assert found[3, 9] == large
    assert chains([]) == {}


def test_broken_chains_are_refused_and_every_fault_is_named():
    chain, other = (make_chain(frames(), 5, 3, seed=seed) for seed in (0, 1))
    for books, message in [
        (chain[1:], "layer_03_k5 has stage 2 but not stage 0"),
        ([chain[0], chain[2]], "layer_03_k5 has stage 2 but not stage 1"),
        ([*chain, chain[1]], "layer_03_k5 has several codebooks of stage 1"),
        ([other[0], *chain[1:]], "stage 1 of layer_03_k5 was fitted after other codebooks"),
        ([*chain[:2], other[2]], "stage 2 of layer_03_k5 was fitted after other codebooks"),
    ]:
        with pytest.raises(CodebookMismatchError, match=message):
            chains(books)
    fifth = [dataclasses.replace(book, layer=5) for book in other]
    assert len(chain_faults([*chain[1:], *fifth])) == 3
    assert chain_faults(chain) == []
