import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline import schema
from pipeline.errors import CorruptDatasetError, PipelineError, SchemaMismatchError
from pipeline.kmeans.codebook import Codebook

ROOT = Path(__file__).parents[2]
MAKE = """
import hashlib, numpy as np
from pipeline.kmeans.codebook import Codebook
book = Codebook(layer=7, centroids=np.arange(6, dtype=np.float32).reshape(3, 2), counts=np.array([1, 2, 3]),
                inertia=np.array([9.5, 4.25]), lineage={k: k for k in ("encoder_sha256", "b", "a", "z", "dim")})
print(book.sha256)
"""


def book():
    centroids = np.arange(6, dtype=np.float32).reshape(3, 2)
    lineage = {"encoder_sha256": "e" * 64, "encoder": "small"}
    return Codebook(
        layer=7, centroids=centroids, counts=np.array([1, 2, 3]), inertia=np.array([9.5, 4.25]), lineage=lineage
    )


def test_what_is_written_is_read_back():
    back = Codebook.from_bytes(book().to_bytes(), "x")
    assert (back.layer, back.num_clusters, back.dim, back.encoder) == (7, 3, 2, "e" * 64)
    np.testing.assert_array_equal(back.centroids, book().centroids)
    assert back.inertia.tolist() == [9.5, 4.25]
    assert back.to_bytes() == book().to_bytes()


def test_a_residual_stage_names_itself_and_those_before_it():
    after = dataclasses.replace(
        book(), quantizer=2, lineage={**book().lineage, "prior_sha256": [book().sha256, "p" * 64]}
    )
    back = Codebook.from_bytes(after.to_bytes(), "x")
    assert (back.quantizer, back.prior_sha256) == (2, [book().sha256, "p" * 64])
    assert (back.unit, back.column) == ("layer_07_k3_q2", "layer_07_q2")
    assert (book().unit, book().column, book().prior_sha256) == ("layer_07_k3", "layer_07", [])
    assert back.to_bytes() == after.to_bytes()


def test_a_codebook_of_stage_0_is_the_file_it_always_was():
    # Of the version before there were residual stages.
    assert book().sha256 == "79abfc79f8045282a6e1f341e3930ba662f15e651b5b98b4d78a73133c917078"
    assert b"quantizer" not in book().to_bytes()


def test_bytes_are_the_same_in_every_process():
    hashes = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", MAKE], env=environment, capture_output=True, text=True, check=True)
        hashes.add(done.stdout)
    assert len(hashes) == 1


@pytest.mark.parametrize("cut", [0, 7, 40, -1])
def test_truncated_bytes_are_refused_by_name(cut):
    with pytest.raises(PipelineError, match="books/layer_07"):
        Codebook.from_bytes(book().to_bytes()[:cut], "books/layer_07")


def test_other_safetensors_are_refused():
    with pytest.raises(SchemaMismatchError, match="no codebook of Strata"):
        Codebook.from_bytes(save({"weight": np.zeros(3, np.float32)}), "model.safetensors")


def header(lineage):
    return {"strata": json.dumps(lineage)}


TENSORS = {"centroids": np.ones((3, 2), np.float32), "counts": np.ones(3, np.int64), "inertia": np.ones(1)}
LINEAGE = {"schema_version": schema.SCHEMA_VERSION, "layer": 7, "encoder_sha256": "e"}


@pytest.mark.parametrize(
    ("tensors", "lineage", "error"),
    [
        ({"counts": np.ones(2, np.int64)}, {}, SchemaMismatchError),
        ({"centroids": np.ones((3, 2))}, {}, SchemaMismatchError),
        ({"centroids": np.ones(3, np.float32)}, {}, SchemaMismatchError),
        ({"centroids": np.full((3, 2), np.nan, np.float32)}, {}, CorruptDatasetError),
        ({"inertia": np.full(1, np.inf)}, {}, CorruptDatasetError),
        ({}, {"schema_version": 99}, SchemaMismatchError),
        ({}, {"layer": "7"}, SchemaMismatchError),
        ({}, {"encoder_sha256": None}, SchemaMismatchError),
        ({}, {"quantizer": "1", "prior_sha256": ["p"]}, SchemaMismatchError),
        ({}, {"quantizer": -1}, SchemaMismatchError),
        ({}, {"quantizer": 1}, SchemaMismatchError),
        ({}, {"quantizer": 1, "prior_sha256": "p"}, SchemaMismatchError),
        ({}, {"prior_sha256": ["p"]}, SchemaMismatchError),
    ],
)
def test_files_that_are_not_as_written_are_refused_by_name(tensors, lineage, error):
    Codebook.from_bytes(save(TENSORS, metadata=header(LINEAGE)), "x")
    with pytest.raises(error, match="books/layer_07"):
        Codebook.from_bytes(save({**TENSORS, **tensors}, metadata=header({**LINEAGE, **lineage})), "books/layer_07")


def test_tensors_of_later_versions_are_ignored():
    extra = save({**TENSORS, "more": np.ones(1)}, metadata=header(LINEAGE))
    assert Codebook.from_bytes(extra, "x").num_clusters == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 8, "lineage": LINEAGE}, "its lineage says 7"),
        ({"lineage": {}}, "names no encoder"),
        ({"quantizer": 1}, "stage 1 follows 1 codebook"),
        ({"lineage": {**LINEAGE, "quantizer": 1, "prior_sha256": ["p"]}}, "quantizer is 0, its lineage says 1"),
        ({"lineage": {**LINEAGE, "prior_sha256": ["p"]}}, "stage 0 follows 0 codebook"),
        ({"counts": np.ones(2, np.int64)}, "do not belong"),
        ({"centroids": np.full((3, 2), np.nan, np.float32)}, "not finite"),
    ],
)
def test_a_codebook_that_contradicts_itself_is_not_made(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(book(), **change)
