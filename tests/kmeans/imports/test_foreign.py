"""Codebooks of scikit-learn, numpy and faiss: what is read, that tokens are equal, and what is refused."""

import bz2
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

from pipeline.errors import ForeignCodebookError
from pipeline.kmeans.imports.foreign import read_foreign
from pipeline.kmeans.search.assignment import nearest

NUM_CLUSTERS, DIM = 24, 12
COMPRESSIONS = [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)]


def points(num_rows, seed):
    centres = np.random.default_rng(5).normal(scale=2, size=(NUM_CLUSTERS, DIM))
    random = np.random.default_rng(seed)
    chosen = random.integers(NUM_CLUSTERS, size=num_rows)
    return (centres[chosen] + random.normal(size=(num_rows, DIM))).astype(np.float16)


def fitted(kind, dtype):
    rows = points(3000, 1).astype(dtype)
    if kind == "KMeans":
        return KMeans(NUM_CLUSTERS, n_init=1, random_state=0).fit(rows)
    if kind == "MiniBatchKMeans":
        # As fairseq's learn_kmeans.py has it.
        return MiniBatchKMeans(NUM_CLUSTERS, n_init=2, random_state=0, compute_labels=False).fit(rows)
    # As SpeechBrain has it; the model then carries a random generator.
    model = MiniBatchKMeans(NUM_CLUSTERS, n_init=2, random_state=np.random.RandomState(0))
    return model.partial_fit(rows[:1500]).partial_fit(rows[1500:])


@pytest.fixture(scope="module", params=["KMeans", "MiniBatchKMeans", "partial_fit"])
def model(request):
    return fitted(request.param, np.float32)


def joblib_bytes(value, compress=0, protocol=None):
    file = io.BytesIO()
    joblib.dump(value, file, compress=compress, protocol=protocol)
    return file.getvalue()


def near_ties(rows, centroids, ours, theirs):
    """Count differing tokens, each proved to lie within float32 rounding of two centroids."""
    differ = np.flatnonzero(ours != theirs)
    exact = rows[differ].astype(np.float64), centroids.astype(np.float64)
    for row, mine, other in zip(exact[0], ours[differ], theirs[differ], strict=True):
        gap = abs(((row - exact[1][mine]) ** 2).sum() - ((row - exact[1][other]) ** 2).sum())
        assert gap <= 64 * 2.0**-24 * (row @ row + (exact[1] ** 2).sum(axis=1).max())
    return len(differ)


def check_tokens(model, found, dtype):
    rows = points(20_000, 2)
    theirs = model.predict(rows.astype(dtype))
    assert near_ties(rows, found.centroids, nearest(rows, found.centroids).tokens, theirs) == 0


@pytest.mark.parametrize("compress", COMPRESSIONS, ids=str)
def test_tokens_of_a_joblib_dump_are_those_of_predict(model, compress):
    found = read_foreign(joblib_bytes(model, compress), "km.bin")
    np.testing.assert_array_equal(found.centroids, model.cluster_centers_)
    assert found.origin["class"] == type(model).__name__
    assert found.origin["format"].startswith("joblib")
    check_tokens(model, found, np.float32)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_opens_from_pickle_and_joblib(model, protocol):
    for data in (pickle.dumps(model, protocol), joblib_bytes(model, 0, protocol)):
        found = read_foreign(data, "km.pkl")
        np.testing.assert_array_equal(found.centroids, model.cluster_centers_)
        assert found.inertia.tolist() == ([model.inertia_] if hasattr(model, "inertia_") else [])
    check_tokens(model, found, np.float32)


def test_float64_centroids_are_rounded_once_and_tokens_stay():
    model = fitted("KMeans", np.float64)
    found = read_foreign(joblib_bytes(model), "km.bin")
    assert found.origin["dtype"] == "float64"
    np.testing.assert_array_equal(found.centroids, model.cluster_centers_.astype(np.float32))
    check_tokens(model, found, np.float64)


def test_counts_and_inertia_are_kept_where_they_are_whole():
    model = fitted("partial_fit", np.float32)
    found = read_foreign(joblib_bytes(model), "km.bin")
    assert found.counts.sum() == 3000
    np.testing.assert_array_equal(found.counts, model._counts)
    assert found.inertia.tolist() == [model.inertia_]
    model._counts = model._counts + 0.5
    model.inertia_ = float("nan")
    found = read_foreign(joblib_bytes(model), "km.bin")
    assert found.counts.tolist() == [0] * NUM_CLUSTERS
    assert found.inertia.shape == (0,)


def test_names_of_older_versions_open_too(model):
    """A pickle of protocol 2 names its classes in plain text, so the names of old versions can be put there."""
    data = pickle.dumps(model, 2)
    old = data.replace(b"csklearn.cluster._kmeans\n", b"csklearn.cluster.k_means_\n")
    old = old.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert old != data
    np.testing.assert_array_equal(read_foreign(old, "km.pkl").centroids, model.cluster_centers_)


def test_arrays_of_joblib_before_1_2_have_no_padding(model):
    class Unseekable(io.BytesIO):
        def tell(self):
            raise io.UnsupportedOperation

    file = Unseekable()
    joblib.dump(model, file)
    np.testing.assert_array_equal(read_foreign(file.getvalue(), "km.bin").centroids, model.cluster_centers_)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_arrays_of_any_order_open_from_npy_pickle_and_joblib(dtype, order):
    array = np.asarray(points(8, 3), dtype, order=order)
    for data in (npy(array), pickle.dumps(array, 4), pickle.dumps(array, 5), joblib_bytes(array)):
        found = read_foreign(data, "centroids.npy").centroids
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array.astype(np.float32))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_centroids_of_faiss_open_from_its_index_and_from_npy():
    faiss = pytest.importorskip("faiss")
    rows = points(3000, 1).astype(np.float32)
    kmeans = faiss.Kmeans(DIM, NUM_CLUSTERS, niter=5, seed=1)
    kmeans.train(rows)
    from_index = read_foreign(faiss.serialize_index(kmeans.index).tobytes(), "km.index")
    from_npy = read_foreign(npy(kmeans.centroids), "km.npy")
    np.testing.assert_array_equal(from_index.centroids, kmeans.centroids)
    np.testing.assert_array_equal(from_npy.centroids, kmeans.centroids)
    tested = points(5000, 2)
    theirs = kmeans.index.search(tested.astype(np.float32), 1)[1][:, 0]
    assert near_ties(tested, from_index.centroids, nearest(tested, from_index.centroids).tokens, theirs) == 0


def test_other_indexes_of_faiss_are_refused():
    faiss = pytest.importorskip("faiss")
    for metric in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L1):
        other = faiss.IndexFlat(DIM, metric)
        other.add(points(8, 3).astype(np.float32))
        with pytest.raises(ForeignCodebookError, match="another metric than L2"):
            read_foreign(faiss.serialize_index(other).tobytes(), "km.index")
    graph = faiss.IndexHNSWFlat(DIM, 4)
    with pytest.raises(ForeignCodebookError, match="faiss index 'IHNf'"):
        read_foreign(faiss.serialize_index(graph).tobytes(), "km.index")
    flat = faiss.IndexFlatL2(DIM)
    flat.add(points(8, 3).astype(np.float32))
    data = faiss.serialize_index(flat).tobytes()
    for damaged in (data[:-1], data + b"\0", data[:20], data[:4] + b"\xff\xff\xff\xff" + data[8:]):
        with pytest.raises(ForeignCodebookError, match=r"km\.index"):
            read_foreign(damaged, "km.index")


def with_centroids(array):
    model = KMeans(NUM_CLUSTERS)
    model.cluster_centers_ = array
    return joblib_bytes(model)


GOOD = np.ones((4, 3), np.float32)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (joblib_bytes(KMeans(3)), "saved before it was fitted"),
        (pickle.dumps({"cluster_centers_": GOOD}), "of no K-means"),
        (pickle.dumps([1, 2]), "of no K-means"),
        (with_centroids([[1.0, 2.0], [3.0, 4.0]]), "are no array"),
        (with_centroids(np.array([["a"], ["b"]])), "only arrays of plain numbers"),
        (with_centroids(GOOD[:1]), "1 centroids of width 3"),
        (with_centroids(GOOD[0]), r"shape \(K, D\)"),
        (with_centroids(GOOD.astype(np.int64)), "holds int64"),
        (with_centroids(GOOD * np.nan), "not finite"),
        (with_centroids(GOOD.astype(np.float64) * 1e300), "too large for float32"),
        (npy(GOOD * np.inf), "not finite"),
        (npy(np.full((2, 2), 1e39)), "too large for float32"),
        (npy(np.zeros((65_537, 1), np.float32)), "65537 centroids"),
        (npy(np.zeros((4, 0), np.float32)), "width 0"),
        (npy(GOOD.astype(np.complex64)), "complex64, not floats"),
        (npy(np.zeros(3, [("a", "f4")])), "not floats"),
        (npy(GOOD)[:-1], "truncated or damaged"),
        (npy(GOOD)[:30], "header is damaged"),
        (npy(GOOD).replace(b"(4, 3)", b"(9, 3)"), "truncated or damaged"),
        (b"", "no pickle"),
        (b"hello, world", "no pickle"),
        (b"PK\x03\x04rest", "torch.save"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
        (b"ZF0x10", "joblib before 0.10"),
        (joblib_bytes(GOOD, 3)[:-8], "zlib compression"),
        (bz2.compress(pickle.dumps(GOOD))[:-8], "it is truncated"),
        (joblib_bytes(GOOD)[:-1], "a damaged one"),
        (joblib_bytes(GOOD)[:-10], "it is truncated"),
    ],
)
def test_what_is_no_codebook_is_refused_with_its_name_and_a_reason(data, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ForeignCodebookError, match=said) as caught:
            read_foreign(data, "books/km.bin")
    assert str(caught.value).startswith("books/km.bin cannot be imported: ")
