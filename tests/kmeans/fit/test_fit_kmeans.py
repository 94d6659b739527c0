"""The whole job: the same bytes however it runs, and what it refuses."""

import json

import numpy as np
import pytest
from made_features import LINEAGE, write_features
from sklearn.cluster import KMeans

from pipeline.errors import CorruptDatasetError, PlanMismatchError, SettingsError
from pipeline.faults import VARIABLE
from pipeline.kmeans.fit import stage
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans, prepare
from pipeline.kmeans.read_codebooks import read_codebooks, read_units
from pipeline.kmeans.residual import reduce_by
from pipeline.kmeans.search.assignment import nearest
from pipeline.store.dataset import Dataset


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Two layers of the same 6,000 clustered rows, in six shards; the rows float16 (N, 8) in order."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((40, 8))
    rows = (centers[rng.integers(0, 40, 6000)] + rng.standard_normal((6000, 8))).astype(np.float16)
    shards = [[(f"u{n}", np.arange(1000), rows[1000 * n : 1000 * n + 1000])] for n in range(6)]
    folder = tmp_path_factory.mktemp("features")
    write_features(folder, shards, layers=(3, 5))
    return folder, rows


def config(features, output, **settings):
    return FitKmeansConfig.of(
        features=(str(features[0]),), output=str(output), **{"num_clusters": (8,), "max_iterations": 6, **settings}
    )


def codebook_bytes(folder):
    return {unit: book.to_bytes() for unit, book in read_units(Dataset.open(str(folder), kind="codebooks")).items()}


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_workers_and_memory_change_no_byte(features, tmp_path, init):
    """Several K, two layers, residual stages; one, two and three workers, in memory and on disk."""
    settings = {"num_clusters": (8, 20), "num_quantizers": 2, "init": init}
    fit_kmeans(config(features, tmp_path / "1", num_workers=1, **settings))
    expected = codebook_bytes(tmp_path / "1")
    names = [f"layer_{layer:02d}_k{size}{stage}" for layer in (3, 5) for size in (8, 20) for stage in ("", "_q1")]
    assert list(expected) == names
    for count in (2, 3) if init == "k-means++" else (2,):
        fit_kmeans(config(features, tmp_path / f"{count}", num_workers=count, **settings))
        assert codebook_bytes(tmp_path / f"{count}") == expected
    report = fit_kmeans(config(features, tmp_path / "disk", num_workers=2, memory_per_worker=1e-6, **settings))
    assert codebook_bytes(tmp_path / "disk") == expected
    assert report.notes["iterations"] == sum(len(book.inertia) for book in read_units_of(tmp_path / "1"))


def test_a_fit_that_begins_on_fewer_rows_is_the_same_however_it_runs(features, tmp_path):
    settings = {"num_clusters": (8, 20), "num_quantizers": 2, "warm_start": (0.05, 0.3), "max_iterations": 4}
    report = fit_kmeans(config(features, tmp_path / "1", num_workers=1, **settings))
    expected = codebook_bytes(tmp_path / "1")
    for book in read_units_of(tmp_path / "1"):
        assert len(book.lineage["warm_iterations"]) == 2
        assert book.counts.sum() == len(features[1])
    assert report.notes["warm_iterations"] == sum(
        sum(book.lineage["warm_iterations"]) for book in read_units_of(tmp_path / "1")
    )
    fit_kmeans(config(features, tmp_path / "2", num_workers=2, memory_per_worker=1e-6, **settings))
    assert codebook_bytes(tmp_path / "2") == expected
    # The last iterations begin from better centroids than the first ones of a fit that saw all rows at once.
    fit_kmeans(config(features, tmp_path / "cold", **{**settings, "warm_start": ()}))
    pairs = zip(read_units_of(tmp_path / "1"), read_units_of(tmp_path / "cold"), strict=True)
    assert all(warm.inertia[0] < cold.inertia[0] for warm, cold in pairs if warm.quantizer == 0)


@pytest.mark.parametrize("end", [1, 6])
def test_a_fit_that_begins_on_fewer_rows_resumes(features, tmp_path, monkeypatch, end):
    """Stopped in the first share, and after the rows became more."""
    settings = {"warm_start": (0.05, 0.3), "max_iterations": 3, "tolerance": 0, "layers": (3,)}
    fit_kmeans(config(features, tmp_path / "whole", **settings))
    advanced = []

    def stop(self, target, fit, step):
        if len(advanced) == end:
            raise KeyboardInterrupt
        advanced.append(target)
        advance(self, target, fit, step)

    advance = stage._Fitting._advance
    with monkeypatch.context() as patch:
        patch.setattr(stage._Fitting, "_advance", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_kmeans(config(features, tmp_path / "stopped", **settings))
    fit_kmeans(config(features, tmp_path / "stopped", **settings))
    assert codebook_bytes(tmp_path / "stopped") == codebook_bytes(tmp_path / "whole")


def test_a_fit_that_stopped_between_the_commit_of_a_codebook_and_its_file_goes_on(features, tmp_path, monkeypatch):
    settings = {"max_iterations": 3, "layers": (3,), "num_quantizers": 2}
    fit_kmeans(config(features, tmp_path / "whole", **settings))
    fault = {"point": "after_commit_before_publish", "action": "error"}
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, json.dumps([fault]))
        with pytest.raises(OSError, match="fault injected"):
            fit_kmeans(config(features, tmp_path / "stopped", **settings))
    assert not list((tmp_path / "stopped").glob("*.safetensors"))
    fit_kmeans(config(features, tmp_path / "stopped", **settings))
    assert codebook_bytes(tmp_path / "stopped") == codebook_bytes(tmp_path / "whole")


def read_units_of(folder):
    return read_units(Dataset.open(str(folder), kind="codebooks")).values()


def test_a_fit_is_as_good_as_scikit_learns_from_the_same_centroids(features, tmp_path):
    rows = features[1]
    fit_kmeans(config(features, tmp_path / "seeds", num_clusters=(40,), layers=(3,), max_iterations=1))
    (seeds,) = read_codebooks(str(tmp_path / "seeds"))
    again = {"num_clusters": (40,), "layers": (3,), "max_iterations": 20, "tolerance": 0}
    fit_kmeans(config(features, tmp_path / "warm", init_codebooks=str(tmp_path / "seeds"), **again))
    (book,) = read_codebooks(str(tmp_path / "warm"))
    theirs = KMeans(40, init=seeds.centroids.astype(np.float64), n_init=1, max_iter=20, tol=0, algorithm="lloyd")
    theirs.fit(rows.astype(np.float64))
    ours = ((rows - book.centroids[nearest(rows, book.centroids).tokens].astype(np.float64)) ** 2).sum()
    assert ours == pytest.approx(theirs.inertia_, rel=0.005)
    assert book.counts.sum() == len(rows)
    assert (np.diff(book.inertia) <= 0).all()


def test_stages_reconstruct_better_and_better(features, tmp_path):
    fit_kmeans(config(features, tmp_path / "books", layers=(3,), num_quantizers=3))
    stages = read_codebooks(str(tmp_path / "books"))
    assert [book.quantizer for book in stages] == [0, 1, 2]
    rows = features[1]
    left = [float((reduce_by(stages[:count], rows).astype(np.float64) ** 2).sum()) for count in range(4)]
    assert left[3] < left[2] < left[1] < left[0]


def test_a_time_limit_ends_fits_after_their_iteration(features, tmp_path):
    report = fit_kmeans(config(features, tmp_path / "books", tolerance=0, max_iterations=500, max_minutes=1e-6))
    assert report.notes["stopped_by_time"] == 2
    assert report.notes["iterations"] == 2


def test_fewer_distinct_rows_than_clusters_are_refused(tmp_path):
    write_features(tmp_path / "features", [[("a", np.arange(900), np.full((900, 4), 0.5, np.float16))]])
    for init in ("k-means++", "k-means||", "random"):
        with pytest.raises(SettingsError, match="only 1 distinct"):
            fit_kmeans(config((tmp_path / "features",), tmp_path / init.strip("|"), init=init))


def test_features_that_are_not_finite_are_refused_by_utterance(tmp_path):
    cell = np.ones((50, 4), np.float16)
    cell[7] = np.inf
    write_features(tmp_path / "features", [[("fine", np.arange(5), cell[:5]), ("broken", np.arange(50), cell)]])
    with pytest.raises(CorruptDatasetError, match="broken"):
        fit_kmeans(config((tmp_path / "features",), tmp_path / "books"))


def test_more_clusters_than_frames_are_refused(features, tmp_path):
    with pytest.raises(SettingsError, match="6000 frames, fewer than num_clusters 7000"):
        prepare(config(features, tmp_path, num_clusters=(7000, 8)))
    with pytest.raises(SettingsError, match="600 frames in a fraction of 0.1, fewer than num_clusters 700"):
        prepare(config(features, tmp_path, num_clusters=(700,), fraction=0.1))
    with pytest.raises(SettingsError, match="300 frames in a fraction of 0.05, fewer than num_clusters 700"):
        prepare(config(features, tmp_path, num_clusters=(700,), warm_start=(0.05, 0.5)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_clusters": ()}, "num_clusters must name different numbers"),
        ({"num_clusters": (8, 8)}, "num_clusters must name different numbers"),
        ({"num_clusters": (8, 1)}, "num_clusters must be in 2 to 65536, got 1"),
        ({"fraction": 0.0}, "fraction must be more than 0"),
        ({"warm_start": (0.1, 1.0)}, "warm_start must rise and lie between 0 and 1"),
        ({"warm_start": (0.1, 0.05)}, "warm_start must rise"),
        ({"num_quantizers": 0}, "num_quantizers must be at least 1"),
        ({"max_minutes": 0.0}, "max_minutes must be more than 0"),
        ({"memory_per_worker": -1.0}, "memory_per_worker must be more than 0"),
        ({"tolerance": 1.0}, "tolerance must be in"),
    ],
)
def test_bad_settings_are_refused(features, tmp_path, settings, sentence):
    with pytest.raises(SettingsError, match=sentence):
        config(features, tmp_path, **settings)


def test_given_codebooks_must_fit(features, tmp_path):
    fit_kmeans(config(features, tmp_path / "seeds", layers=(3,), max_iterations=1))
    given = {"init_codebooks": str(tmp_path / "seeds")}
    with pytest.raises(SettingsError, match="layer_03_k8, not layer_05_k8"):
        prepare(config(features, tmp_path / "a", **given))
    with pytest.raises(SettingsError, match="not layer_03_k9"):
        prepare(config(features, tmp_path / "a", layers=(3,), num_clusters=(9,), **given))
    fit_kmeans(config(features, tmp_path / "warm", layers=(3,), **given))
    with pytest.raises(PlanMismatchError, match="init"):
        prepare(config(features, tmp_path / "warm", layers=(3,)))


def test_codebooks_say_how_waveforms_were_normalised_and_fits_of_others_do_not_begin_with_them(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float16)
    for normalized in (True, False):
        monkeypatch.setitem(LINEAGE, "normalize_waveform", normalized)
        write_features(tmp_path / str(normalized), [[("u", np.arange(200), rows)]])
    few = {"num_clusters": (8,), "max_iterations": 1}
    fit_kmeans(config((tmp_path / "True", rows), tmp_path / "books", **few))
    (book,) = read_units(Dataset.open(str(tmp_path / "books"), kind="codebooks")).values()
    assert book.normalize_waveform is True
    given = {"init_codebooks": str(tmp_path / "books"), **few}
    prepare(config((tmp_path / "True", rows), tmp_path / "again", **given))
    with pytest.raises(SettingsError, match="layer_03_k8 was fitted with --normalize-waveform, which was not so here"):
        prepare(config((tmp_path / "False", rows), tmp_path / "other", **given))
