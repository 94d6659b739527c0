import numpy as np
import pytest

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.kmeans.codebook import Codebook
from pipeline.tokens.quantize import check_codebooks, quantize


def book(layer=2, seed=0, num_clusters=5, dim=4, encoder="a"):
    centroids = np.random.default_rng(seed).standard_normal((num_clusters, dim)).astype(np.float32)
    return Codebook(
        layer=layer,
        centroids=centroids,
        counts=np.zeros(num_clusters, np.int64),
        inertia=np.zeros(1),
        lineage={"encoder_sha256": encoder, "encoder": "small"},
    )


def test_tokens_are_the_nearest_centroid_of_each_layer():
    books = [book(2, 0), book(5, 1)]
    features = {b.layer: b.centroids[[3, 0, 4]].astype(np.float16) for b in books}
    found = quantize(features, books).tokens
    assert sorted(found) == [2, 5]
    for tokens in found.values():
        assert tokens.dtype == np.uint16
        assert tokens.tolist() == [3, 0, 4]


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
