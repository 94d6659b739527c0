import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CodebookMismatchError, FeatureError, SettingsError
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.residual import residual
from pipeline.tokens.quantize import check_codebooks, quantize


def book(layer=2, seed=0, num_clusters=5, dim=4, encoder="a", prior=()):
    centroids = np.random.default_rng(seed).standard_normal((num_clusters, dim)).astype(np.float32)
    return Codebook(
        layer=layer,
        centroids=centroids,
        counts=np.zeros(num_clusters, np.int64),
        inertia=np.zeros(1),
        quantizer=len(prior),
        lineage={
            "encoder_sha256": encoder,
            "encoder": "small",
            **({"prior_sha256": [stage.sha256 for stage in prior]} if prior else {}),
        },
    )


def test_tokens_are_the_nearest_centroid_of_each_layer():
    books = [book(2, 0), book(5, 1)]
    features = {b.layer: b.centroids[[3, 0, 4]].astype(np.float16) for b in books}
    found = quantize(features, books).tokens
    assert sorted(found) == [2, 5]
    for tokens in found.values():
        assert tokens.dtype == np.uint16
        assert tokens.tolist() == [3, 0, 4]


def make_chain(num_stages, layer=2, seed=0, **settings):
    books = []
    for stage in range(num_stages):
        books.append(book(layer, seed=10 * seed + stage, prior=books, **settings))
    return books


@given(seed=st.integers(0, 50), num_stages=st.integers(2, 4), num_clusters=st.sampled_from([1, 2, 17]))
@settings(deadline=None, max_examples=20)
def test_tokens_of_a_chain_are_those_of_plain_numpy(seed, num_stages, num_clusters):
    books = make_chain(num_stages, seed=seed, num_clusters=num_clusters)
    features = np.random.default_rng(seed).normal(0, 2, (30, 4)).astype(np.float16)
    left, expected = features, []
    for stage in books:
        gaps = left.astype(np.float64)[:, None] - stage.centroids[None]
        expected.append((gaps**2).sum(axis=2).argmin(axis=1))
        left = (left.astype(np.float64) - stage.centroids[expected[-1]]).astype(np.float16)
    alone = book(5, seed=99)
    found = quantize({2: features, 5: features}, [*books[::-1], alone])
    assert found.tokens[2].shape == (30, num_stages)
    assert found.tokens[2].dtype == np.uint16
    np.testing.assert_array_equal(found.tokens[2].T, expected)
    assert found.tokens[5].shape == (30,)
    assert list(found.columns) == ["layer_02", *(f"layer_02_q{n}" for n in range(1, num_stages)), "layer_05"]
    np.testing.assert_array_equal(found.columns["layer_02_q1"], expected[1])
    # The first stage gives the tokens it gives alone.
    np.testing.assert_array_equal(quantize({2: features}, books[:1]).tokens[2], expected[0])


def test_broken_chains_are_refused():
    first, second, third = make_chain(3)
    other = make_chain(1, seed=7)[0]
    frames = {2: np.zeros((1, 4), np.float16)}
    for books, message in [
        ([first, third], "layer_02_k5 has stage 2 but not stage 1"),
        ([second], "has stage 1 but not stage 0"),
        ([first, second, second], "layer 2 has 2 codebooks of stage 1, there must be one"),
        ([other, second], "stage 1 of layer_02_k5 was fitted after other codebooks"),
        ([first, book(num_clusters=7)], "layer 2 has 2 codebooks of stage 0, there must be one"),
    ]:
        with pytest.raises(CodebookMismatchError, match=message):
            check_codebooks(books, encoder_sha256="a", dim=4)
        with pytest.raises(CodebookMismatchError, match=message):
            quantize(frames, books)


def test_a_residual_that_float16_cannot_hold_is_refused_by_layer_and_row():
    far = make_chain(2, num_clusters=1)
    far[0] = dataclasses.replace(far[0], centroids=np.full((1, 4), -60_000, np.float32))
    far[1] = book(prior=far[:1], num_clusters=1)
    features = np.array([[0, 0, 0, 0], [0, 65504, 0, 0]], np.float16)
    with pytest.raises(FeatureError, match="layer 2, stage 0: row 1"):
        quantize({2: features}, far)
    assert np.isfinite(residual(features[:1], far[0].centroids, np.zeros(1, int))).all()


def test_the_largest_vocabulary_fits_uint16():
    centroids = np.arange(65536, dtype=np.float32)[:, None]
    wide = Codebook(
        layer=1,
        centroids=centroids,
        counts=np.zeros(65536, np.int64),
        inertia=np.zeros(1),
        lineage={"encoder_sha256": ""},
    )
    check_codebooks([wide], encoder_sha256="", dim=1)
    assert quantize({1: np.array([[65504], [0]], np.float16)}, [wide]).tokens[1].tolist() == [65504, 0]


def test_codebooks_of_another_encoder_width_or_twice_a_layer_are_refused():
    check_codebooks([book(2), book(3)], encoder_sha256="a", dim=4)
    with pytest.raises(CodebookMismatchError, match="fitted on encoder a, the features are b"):
        check_codebooks([book()], encoder_sha256="b", dim=4)
    with pytest.raises(CodebookMismatchError, match="width 4, the features have 8"):
        check_codebooks([book()], encoder_sha256="a", dim=8)
    with pytest.raises(CodebookMismatchError, match="layer 2 has 2 codebooks"):
        check_codebooks([book(2), book(2)], encoder_sha256="a", dim=4)


def test_every_difference_is_named_at_once():
    with pytest.raises(CodebookMismatchError, match=r"layer 2 was fitted.*layer 3 has width 6.*layer 3 is not among"):
        check_codebooks([book(2, encoder="b"), book(3, dim=6)], encoder_sha256="a", dim=4, layers=[2])
    with pytest.raises(CodebookMismatchError, match="no codebook"):
        check_codebooks([], encoder_sha256="a", dim=4)


@pytest.mark.parametrize("fitted", [True, False])
def test_codebooks_of_waveforms_that_were_normalised_otherwise_are_refused(fitted):
    heard = dataclasses.replace(book(), lineage={**book().lineage, "normalize_waveform": fitted})
    check_codebooks([heard], encoder_sha256="a", dim=4, normalize_waveform=fitted)
    flag = "--normalize-waveform" if fitted else "--no-normalize-waveform"
    with pytest.raises(CodebookMismatchError, match=f"layer_02_k5 was fitted with {flag}, which was not so here"):
        check_codebooks([heard], encoder_sha256="a", dim=4, normalize_waveform=not fitted)
    # One side does not say: published codebooks, and features of before.
    check_codebooks([book()], encoder_sha256="a", dim=4, normalize_waveform=fitted)
    check_codebooks([heard], encoder_sha256="a", dim=4)


def test_more_clusters_than_uint16_can_name_are_refused():
    large = book(num_clusters=65537, dim=1)
    with pytest.raises(SettingsError, match="65537 clusters"):
        check_codebooks([large], encoder_sha256="a", dim=1)
    with pytest.raises(SettingsError, match="65537 clusters"):
        quantize({2: np.zeros((1, 1), np.float16)}, [large])


def test_features_that_lack_a_layer_or_have_another_width_are_refused():
    with pytest.raises(CodebookMismatchError, match="none for the codebook of layer 2"):
        quantize({3: np.zeros((1, 4), np.float16)}, [book()])
    with pytest.raises(CodebookMismatchError, match="width 4"):
        quantize({2: np.zeros((1, 5), np.float16)}, [book()])


def test_an_utterance_without_frames_has_no_tokens():
    assert quantize({2: np.zeros((0, 4), np.float16)}, [book()]).tokens[2].shape == (0,)
    found = quantize({2: np.zeros((0, 4), np.float16)}, make_chain(2))
    assert found.tokens[2].shape == (0, 2)
    assert {name: ids.shape for name, ids in found.columns.items()} == {"layer_02": (0,), "layer_02_q1": (0,)}
