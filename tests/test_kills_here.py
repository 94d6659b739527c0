"""Promises R2 and R4 in one process: SIGKILL at every named point, other runs beside it, the same bytes in the end."""

import random
import threading
import time
from pathlib import Path

import pytest
from made_corpus import data_bytes, write_corpus
from made_kills import KILLED, in_child, one_after_the_other

from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.read_codebooks import read_units
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

DRIVER_POINTS = (
    "after_plan",
    "driver_after_commit",
    "before_shard_table",
    "after_shard_table_before_success",
    "after_success_before_cleanup",
)
UNIT_POINTS = (
    "load",
    "encode",
    "after_announce_before_data",
    "after_data_before_commit",
    "after_commit_before_publish",
    "after_publish",
)
NUM_FILES = 24


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    """A finished run whose tokens are the truth; tests below make them again under fire."""
    folder = tmp_path_factory.mktemp("base")
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(write_corpus(folder / "audio", num_files=NUM_FILES)),
            layout="folder",
            output=str(folder),
            encoder=str(encoder),
            layers=(1, 3),
            num_clusters=8,
            max_iterations=4,
            shard_minutes=0.05,
            runner="here",
        )
    )
    return folder, encoder


def tokens_of(base, output):
    folder, encoder = base
    return TokenizeCorpusConfig.of(
        manifest=str(folder / "manifest"),
        codebooks=str(folder / "codebooks"),
        encoder=encoder,
        output=str(output),
        runner="here",
    )


def check(base, output):
    assert data_bytes(output) == data_bytes(base[0] / "tokens")
    found = verify_dataset(VerifyDatasetConfig(dataset=str(output)))
    assert (found.rows, found.rejects) == (NUM_FILES, 0)


def commits(output):
    return {path.stem for path in (Path(output) / "_commits").glob("*.json")}


def test_killed_at_one_point_after_the_other_a_run_makes_no_unit_twice_and_ends_with_the_same_bytes(base, tmp_path):
    """Each run dies one step later than the one before; what was committed is never made again."""
    output = tmp_path / "tokens"
    points = [("after_plan", ""), *((point, "") for point in DRIVER_POINTS[1:])]
    # Units are killed in between, each at a step of its own, while those after it wait.
    points[1:1] = [(point, f"shard-{number:05d}") for number, point in enumerate(UNIT_POINTS)]
    for point, unit in points:
        done = commits(output)
        kill = {"point": point, "match": "" if point == "encode" else unit, "action": "kill"}
        held = one_after_the_other(unit) if unit else []
        ended = in_child(tokenize_corpus, tokens_of(base, output), [*held, kill])
        assert (ended.code, ended.message) == (KILLED, None), (point, unit)
        assert done.isdisjoint(ended.announced), (point, unit)
        truth = data_bytes(base[0] / "tokens")
        assert {name: truth.get(name) for name in data_bytes(output)} == data_bytes(output), (point, unit)
    ended = in_child(tokenize_corpus, tokens_of(base, output))
    assert (ended.code, ended.message, ended.announced) == (0, None, [])
    check(base, output)


def test_a_unit_that_died_twice_is_made_in_a_child_process_to_the_same_bytes(base, tmp_path):
    output = tmp_path / "tokens"
    for point in ("after_data_before_commit", "after_announce_before_data"):
        fault = {"point": point, "match": "shard-00002", "action": "kill"}
        assert in_child(tokenize_corpus, tokens_of(base, output), [fault]).code == KILLED
    ended = in_child(tokenize_corpus, tokens_of(base, output))
    assert (ended.code, ended.message) == (0, None)
    assert "shard-00002" in ended.announced
    check(base, output)


def test_killed_at_a_random_moment_a_run_ends_with_the_same_bytes(base, tmp_path):
    seed = time.time_ns()
    print(f"random moments of seed {seed}")
    number = random.Random(seed).randint(0, 8)
    fault = {"point": random.Random(seed).choice(UNIT_POINTS[2:]), "match": f"{number:05d}", "action": "kill"}
    assert in_child(tokenize_corpus, tokens_of(base, tmp_path / "tokens"), [fault]).code == KILLED
    assert in_child(tokenize_corpus, tokens_of(base, tmp_path / "tokens")).code == 0
    check(base, tmp_path / "tokens")


def test_two_runs_side_by_side_write_every_row_once(base, tmp_path):
    ended = []
    runs = [
        threading.Thread(target=lambda: ended.append(in_child(tokenize_corpus, tokens_of(base, tmp_path / "tokens"))))
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [(run.code, run.message) for run in ended] == [(0, None)] * 2
    assert all(run.announced for run in ended)
    check(base, tmp_path / "tokens")


def test_kmeans_killed_between_iterations_goes_on_to_the_same_bytes(base, tmp_path):
    config = FitKmeansConfig.of(
        features=(str(base[0] / "features"),),
        output=str(tmp_path / "codebooks"),
        num_clusters=(8,),
        max_iterations=4,
        runner="here",
    )
    log = {"point": "after_checkpoint", "match": "layer_03", "action": "log", "path": str(tmp_path / "iterations")}
    kill = {"point": "after_checkpoint", "match": "layer_03", "action": "kill"}
    assert in_child(fit_kmeans, config, [log, kill]).code == KILLED
    assert len((tmp_path / "iterations").read_text().splitlines()) == 1
    assert in_child(fit_kmeans, config, [log]).code == 0
    assert data_bytes(tmp_path / "codebooks") == data_bytes(base[0] / "codebooks")
    # Together they made as many iterations as the fit that was never killed.
    book = read_units(Dataset.open(str(base[0] / "codebooks"), kind="codebooks"))["layer_03_k8"]
    assert len((tmp_path / "iterations").read_text().splitlines()) == len(book.inertia) > 1
