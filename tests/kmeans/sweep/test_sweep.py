"""Curves over K and over the amount of data."""

import json

import numpy as np
import pytest
from made_corpus import data_bytes
from made_features import write_features

from pipeline.cards.plots import can_plot
from pipeline.errors import DatasetError, SettingsError
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.read_codebooks import read_units
from pipeline.kmeans.sweep.stage import SweepCodebooksConfig, sweep_codebooks
from pipeline.store.dataset import Dataset


def write_blobs(folder, rng, centers, num_rows):
    rows = (centers[rng.integers(0, len(centers), num_rows)] + rng.standard_normal((num_rows, 8))).astype(np.float16)
    shards = [[(f"u{n}", np.arange(len(part)), part)] for n, part in enumerate(np.array_split(rows, 4))]
    write_features(folder, shards, layers=(3, 5))
    return str(folder)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Features to fit on and to describe on, of the same 30 blobs."""
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((30, 8))
    folder = tmp_path_factory.mktemp("features")
    return tuple(write_blobs(folder / name, rng, centers, size) for name, size in (("train", 4000), ("dev", 1000)))


def config(datasets, output, **changes):
    given = {"features": datasets[0], "described_on": datasets[1], "output": str(output), "num_clusters": (4, 30)}
    return SweepCodebooksConfig.of(**{**given, "sweep": (1.0, 0.1), "layers": (3,), "num_workers": 2, **changes})


def test_a_sweep_fits_describes_and_draws_each_k_on_each_share(datasets, tmp_path):
    report = sweep_codebooks(config(datasets, tmp_path))
    found = json.loads((tmp_path / "sweep.json").read_bytes())
    points = {(point["num_clusters"], point["fraction"]): point for point in found["points"]}
    assert list(points) == [(4, 0.1), (4, 1.0), (30, 0.1), (30, 1.0)]
    assert report.codebooks == 4
    assert {point["frames"] for key, point in points.items() if key[1] == 1.0} == {4000}
    assert all(300 < point["frames"] < 500 for key, point in points.items() if key[1] == 0.1)
    # Speech that no codebook saw: more codes, and more frames a code, explain more of it.
    explained = {key: point["explained_variance"] for key, point in points.items()}
    assert explained[4, 1.0] < explained[30, 0.1] < explained[30, 1.0]
    text = (tmp_path / "sweep.md").read_text()
    assert f"described on `{datasets[1]}`" in text
    assert text.count("\n| 30 |") == 2
    assert (tmp_path / "layer_03.png").exists() == can_plot()
    # The codebooks of a share are those that fit_kmeans makes of it.
    alone = FitKmeansConfig.of(
        features=(datasets[0],), output=str(tmp_path / "a"), num_clusters=(30,), layers=(3,), fraction=0.1
    )
    fit_kmeans(alone)
    books = read_units(Dataset.open(str(tmp_path / "fraction_0.1"), kind="codebooks"))
    again = read_units(Dataset.open(alone.output, kind="codebooks"))
    np.testing.assert_array_equal(books["layer_03_k30"].centroids, again["layer_03_k30"].centroids)


def test_a_sweep_that_is_there_is_not_made_again(datasets, tmp_path):
    asked = config(datasets, tmp_path, num_clusters=(4,), num_quantizers=2)
    sweep_codebooks(asked)
    before = {share: data_bytes(tmp_path / f"fraction_{share}") for share in ("0.1", "1")}
    table = (tmp_path / "sweep.json").read_bytes()
    sweep_codebooks(asked)
    assert {share: data_bytes(tmp_path / f"fraction_{share}") for share in ("0.1", "1")} == before
    assert (tmp_path / "sweep.json").read_bytes() == table
    assert [point["quantizer"] for point in json.loads(table)["points"]] == [0, 0, 1, 1]


def test_settings_are_checked_before_anything_is_fitted(datasets, tmp_path):
    with pytest.raises(SettingsError, match="sweep must name different shares"):
        config(datasets, tmp_path, sweep=(0.1, 0.1))
    with pytest.raises(SettingsError, match="fraction must be more than 0"):
        config(datasets, tmp_path, sweep=(0.1, 2.0))
    with pytest.raises(SettingsError, match="read from a manifest"):
        config(datasets, tmp_path, labels=("speaker",))
    with pytest.raises(SettingsError, match="40 frames in a fraction of 0.01, fewer than num_clusters 50"):
        sweep_codebooks(config(datasets, tmp_path, num_clusters=(50,), sweep=(0.01, 1.0)))
    with pytest.raises(DatasetError):
        sweep_codebooks(config(datasets, tmp_path, described_on=str(tmp_path / "nothing")))
    assert not list(tmp_path.iterdir())
