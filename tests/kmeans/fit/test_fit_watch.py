"""What the fits of a run tell a meter is what their log says, and an iteration is the sign that a run goes on."""

import logging
from functools import partial

import numpy as np
import pytest
from made_features import write_features
from made_meters import Recorded

from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.fit.state import Fit, Target
from pipeline.kmeans.fit.watching import FitWatch
from pipeline.work import meters
from pipeline.work.here import Here

TARGETS = [Target(layer=3, num_clusters=2), Target(layer=7, num_clusters=2)]
UNITS = [target.unit for target in TARGETS]


def fit(*inertia, warm=()):
    return Fit(
        centroids=np.zeros((2, 1)),
        counts=np.zeros(2),
        inertia=list(inertia),
        empty=[0] * len(inertia),
        warm_iterations=list(warm),
    )


def test_each_fit_is_told_of_by_layer_and_codebook_also_one_that_ends_or_widens():
    meter, clock = Recorded(), iter(range(100, 200))
    with FitWatch("s3://key:secret@bucket/books", UNITS, meter, now=partial(next, clock)) as watch:
        watch.begun(TARGETS[0])
        watch.stepped(1000, 0, {TARGETS[0]: fit(8.0), TARGETS[1]: fit(5.0, 4.0, warm=[6])})
        watch.stepped(1000, 1, {TARGETS[0]: fit(8.0, 6.0), TARGETS[1]: fit(warm=[6, 2])})
    assert meter.values(meters.STARTED) == [100]
    assert meter.values(meters.LAST_COMMIT) == [100, 101, 102, 103]
    assert meter.values(meters.UNITS_DONE) == [0, 1]
    assert meter.values(meters.UNITS_PENDING) == [2, 2, 1]
    assert meter.values(meters.KMEANS_FRAMES) == [1000, 1000]
    assert meter.values(meters.KMEANS_ITERATION, layer="3", codebook="layer_03_k2") == [1, 2]
    assert meter.values(meters.KMEANS_INERTIA, layer="3") == [8, 6]
    assert meter.values(meters.KMEANS_IMPROVEMENT, layer="3") == [0.25]
    assert meter.values(meters.KMEANS_ITERATION, layer="7") == [8, 8]
    assert meter.values(meters.KMEANS_INERTIA, layer="7") == [4]
    assert {tags["output"] for _, _, tags in meter.told} == {"s3://...@bucket/books"}
    assert meter.closed


def test_a_fit_without_an_iteration_for_long_is_a_stall_that_names_the_fits(monkeypatch, caplog):
    monkeypatch.setattr("pipeline.work.stalls.STALL_SECONDS", 0.0)
    caplog.set_level(logging.WARNING)
    meter = Recorded()
    watch = FitWatch("out", UNITS, meter)
    watch._stalls.look()
    watch.stepped(1000, 0, {TARGETS[0]: fit(8.0)})
    watch._stalls.look()
    begin, goes_on, again = caplog.messages
    assert begin.startswith("codebooks is stalled: no iteration ended for 0.0 minutes, since ")
    assert begin.endswith("2 codebooks pending: layer_03_k2, layer_07_k2")
    assert goes_on.endswith("with an iteration of layer_03_k2")
    assert again.endswith("the last iterations were of: layer_03_k2 iteration 1, inertia 8")
    assert meter.values(meters.STALLED) == [1, 0, 1]


@pytest.mark.parametrize("quantizers", [1, 2])
def test_a_run_tells_of_every_iteration_with_the_inertia_that_its_codebook_has(tmp_path, monkeypatch, quantizers):
    meter = Recorded()
    monkeypatch.setattr(Here, "meter", lambda self: meter)
    rng = np.random.default_rng(0)
    rows = [("a", np.arange(60), rng.standard_normal((60, 4)).astype(np.float16))]
    write_features(tmp_path / "features", [rows])
    report = fit_kmeans(
        FitKmeansConfig.of(
            features=(str(tmp_path / "features"),),
            output=str(tmp_path / "books"),
            num_clusters=(5,),
            num_quantizers=quantizers,
            runner="here",
        )
    )
    assert report.units == quantizers
    for file in (tmp_path / "books").glob("*.safetensors"):
        book = Codebook.from_bytes(file.read_bytes(), file.name)
        inertia = meter.values(meters.KMEANS_INERTIA, layer="3", codebook=file.stem)
        assert inertia == book.inertia.tolist()
        assert meter.values(meters.KMEANS_ITERATION, codebook=file.stem) == list(range(1, len(inertia) + 1))
    assert meter.values(meters.UNITS_DONE)[-1] == quantizers
    assert meter.values(meters.UNITS_PENDING)[-1] == 0
    assert meter.closed
