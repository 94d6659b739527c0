import numpy as np
import pytest

from pipeline.errors import CodebookMismatchError
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
    with pytest.raises(CodebookMismatchError, match="fitted on the encoder"):
        check_codebooks([book()], encoder_sha256="b", dim=4)
    with pytest.raises(CodebookMismatchError, match="D = 4"):
        check_codebooks([book()], encoder_sha256="a", dim=8)
    with pytest.raises(CodebookMismatchError, match="one codebook a layer"):
        check_codebooks([book(2), book(2)], encoder_sha256="a", dim=4)
