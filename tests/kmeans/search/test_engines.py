"""The engine is chosen by a setting, from the job to the product, and no bit changes by it."""

import faiss
import numpy as np
import pytest
from made_features import make_codebook, write_codebooks, write_features

from pipeline.errors import SettingsError
from pipeline.gpu_check import engine_figures
from pipeline.kmeans.fit.lloyd import update
from pipeline.kmeans.fit.partition import Budget, Partition, Request, RowSet, Share
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.search import engines
from pipeline.kmeans.search.assignment import nearest
from pipeline.kmeans.search.screening import is_exact
from pipeline.tokens.makers import FeatureTokenMaker
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import prepare

HERE = ["auto", "faiss", "torch", *(["int8"] if is_exact() else [])]
TOO_WIDE = 4097
"""Columns that the engine int8 takes on no processor."""


def rows_of(num_rows, dim, seed=0):
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((num_rows, dim))).astype(np.float16)


@pytest.fixture
def gpu_of_faiss(monkeypatch):
    """What faiss-gpu has beside faiss-cpu, on this CPU; gives the calls."""
    calls = []

    class Resources:
        def setTempMemory(self, size):
            calls.append(size)

    def knn_gpu(resources, rows, table, number, *, metric):
        assert isinstance(resources, Resources)
        assert rows.dtype == table.dtype == np.float32
        calls.append(len(rows))
        return faiss.knn(rows, table, number, metric=metric)

    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "knn_gpu", knn_gpu, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    engines._gpu_resources.cache_clear()
    yield calls
    engines._gpu_resources.cache_clear()


def fitted(folder, dim, engine, iterations=3):
    """Centroids after some iterations over 600 rows, the second stage of a residual quantiser."""
    rows = rows_of(600, dim)
    dataset = write_features(folder, [[("u", np.arange(600), rows)]])
    share = Share(uri=dataset.uri, unit=dataset.plan.units[0], begin=0, num_rows=600)
    budget = Budget(num_bytes=1 << 30, num_fits=1, num_clusters=300)
    part = Partition([share], [3], budget, 0, 1, engine=engine)
    source = RowSet(layer=3, prior=(rows[:5].astype(np.float32),), name="second")
    centroids = rows[:300].astype(np.float32) / 2
    for _ in range(iterations):
        step = part.step({"fit": Request(source=source, centroids=centroids)})["fit"]
        centroids = update(step.sums, centroids).centroids
    return centroids.tobytes(), step.squares


def test_a_fit_has_the_same_bits_by_every_engine(tmp_path):
    found = {engine: fitted(tmp_path / engine, 64, engine) for engine in HERE}
    assert len(set(found.values())) == 1


def maker_of(folder, dim, **settings):
    rows = rows_of(40, dim)
    write_features(folder / "features", [[("u", np.arange(40), rows)]])
    first = make_codebook(3, rows[:9])
    second = make_codebook(3, rows[20:29] / 4, prior=(first,))
    write_codebooks(folder / "codebooks", [first, second])
    config = TokenizeCorpusConfig.of(
        features=str(folder / "features"),
        codebooks=str(folder / "codebooks"),
        output=str(folder / "tokens"),
        **settings,
    )
    prepared = prepare(config)
    return FeatureTokenMaker(prepared.config, "cpu", prepared.plan), prepared.plan.units[0], prepared.plan


def test_tokens_and_their_plan_are_the_same_by_every_engine(tmp_path):
    found = set()
    for engine in HERE:
        maker, unit, plan = maker_of(tmp_path / engine, 16, engine=engine)
        found.add((bytes(maker.make(unit, []).data), str(plan.content)))
    assert len(found) == 1


def test_the_setting_of_a_job_reaches_its_search(tmp_path):
    maker, unit, _ = maker_of(tmp_path / "tokens", TOO_WIDE, engine="int8")
    with pytest.raises(SettingsError, match="int8 cannot search 4,097 columns"):
        maker.make(unit, [])
    with pytest.raises(SettingsError, match="int8 cannot search 4,097 columns"):
        fitted(tmp_path / "fit", TOO_WIDE, "int8", iterations=1)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="faiss-gpu is installed here")
@pytest.mark.parametrize(
    "settings",
    [lambda: FitKmeansConfig.of(features=("f",), output="o", num_clusters=(2,), engine="faiss-gpu")]
    + [lambda: TokenizeCorpusConfig.of(features="f", codebooks="c", output="o", engine="faiss-gpu")],
)
def test_faiss_without_gpus_is_refused_before_any_work(settings):
    with pytest.raises(SettingsError, match=r'needs faiss with GPU support.*pip install "strata-tokens\[gpu\]"'):
        settings()


def test_faiss_with_gpu_support_but_no_gpu_is_refused(gpu_of_faiss, monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with pytest.raises(SettingsError, match="finds no GPU"):
        nearest(rows_of(5, 4), rows_of(3, 4).astype(np.float32), engine="faiss-gpu")


def test_the_gpu_of_faiss_is_given_float32_rows_and_shared_by_all_tables(gpu_of_faiss):
    features, centroids = rows_of(500, 24), rows_of(30, 24, seed=1).astype(np.float32)
    found = nearest(features, centroids, engine="faiss-gpu").tokens
    np.testing.assert_array_equal(found, nearest(features, centroids, engine="torch").tokens)
    nearest(features[:7], centroids[:9], engine="faiss-gpu")
    scratch, *searched = gpu_of_faiss
    assert scratch < 1 << 30
    assert searched == [500, 7]


def test_check_gpu_tells_engines_that_are_wrong_or_cannot_run():
    features, centroids = {3: rows_of(200, 8)}, {3: rows_of(10, 8, seed=1).astype(np.float32)}
    right = nearest(features[3], centroids[3]).tokens
    wrong = np.where(np.arange(200) < 50, right + 1, right)
    for engine in HERE:
        found = engine_figures(engine, features, centroids, {3: right})
        assert found.token_agreement == {3: 1.0}
        assert found.rows_per_second > 0
        assert engine_figures(engine, features, centroids, {3: wrong}).token_agreement == {3: 0.75}
    if not hasattr(faiss, "StandardGpuResources"):
        assert "GPU support" in engine_figures("faiss-gpu", features, centroids, {3: right}).fault
