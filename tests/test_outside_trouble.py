"""Trouble from outside over real runs: no healthy row is lost, and the bytes are those of a run left alone.

The nightly tests together make more than 200 such faults, and print how many.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs
import soundfile
from made_audio import noise
from made_corpus import data_bytes
from made_kills import KILLED, in_child
from made_trouble import KillsCareful, KillsDecoders, Refusing, TakesAway

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

NUM_FILES = 20
DATASETS = ("manifest", "features", "codebooks", "tokens")
LONG = pytest.mark.nightly
SEED = int(os.environ.get("STRATA_TROUBLE_SEED", time.time_ns() % 10**6))


@dataclass(frozen=True)
class Base:
    """A run that nothing disturbed."""

    folder: Path
    encoder: str

    @property
    def corpus(self):
        return self.folder / "share" / "corpus"


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    made = Base(tmp_path_factory.mktemp("base"), str(small_encoder(kind="hubert", stem="group", stable=False)))
    made.corpus.mkdir(parents=True)
    for number in range(NUM_FILES):
        # 48 kHz stereo of some seconds: a tenth of a second of decoding each.
        samples = noise(48_000 * (2 + number % 3), channels=2, seed=number)
        soundfile.write(made.corpus / f"{number:03d}.flac", samples, 48_000)
    run_pipeline(pipeline_of(made, made.folder / "run"))
    return made


def pipeline_of(base, output, corpus=None):
    return RunPipelineConfig.of(
        corpus=corpus or str(base.corpus),
        layout="folder",
        output=str(output),
        encoder=base.encoder,
        layers=(1, 3),
        num_clusters=8,
        max_iterations=4,
        shard_minutes=0.3,
        runner="here",
    )


def tokens_of(base, output):
    return TokenizeCorpusConfig.of(
        manifest=str(base.folder / "run" / "manifest"),
        codebooks=str(base.folder / "run" / "codebooks"),
        encoder=base.encoder,
        output=str(output),
        runner="here",
    )


def until_done(stage, config, most=60):
    """Give the same command until it succeeds; each error on the way is one sentence that blames no recording."""
    for _ in range(most):
        ended = in_child(stage, config)
        if ended.code == 0 and ended.message is None:
            return
        assert ended.code == 0, ended
        assert ended.message.startswith(("StorageError", "ManifestError", "DatasetError")), ended.message
        assert "rejected" not in ended.message
    raise AssertionError(f"not done after {most} runs: {ended.message}")


def check(base, output, names=DATASETS):
    for name in names:
        assert data_bytes(output / name) == data_bytes(base.folder / "run" / name), name
        found = verify_dataset(VerifyDatasetConfig(dataset=str(output / name)))
        assert (found.rejects, found.faults) == (0, []), name
    assert verify_dataset(VerifyDatasetConfig(dataset=str(output / "tokens"))).rows == NUM_FILES


def told(what, count):
    print(f"{count} {what}, 0 of {NUM_FILES} rows lost, the same bytes; seed {SEED}")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("least", [5, pytest.param(80, marks=LONG)])
def test_decode_children_killed_while_they_read_cost_no_row(base, tmp_path, least):
    count, number = 0, 0
    while count < least:
        output = tmp_path / f"run-{number}"
        with KillsDecoders(SEED + number, base.corpus) as kills:
            until_done(run_pipeline, pipeline_of(base, output))
        check(base, output)
        count, number = count + kills.count, number + 1
    told("kills of decode children", count)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("least", [2, pytest.param(50, marks=LONG)])
def test_careful_children_killed_at_random_moments_cost_no_row(base, tmp_path, least):
    count, number = 0, 0
    while count < least:
        output = tmp_path / f"run-{number}"
        fault = {"point": "after_plan", "action": "kill"}
        assert in_child(tokenize_corpus, tokens_of(base, output / "tokens"), [fault]).code == KILLED
        dataset = Dataset.open(str(output / "tokens"), finished=False)
        for unit in dataset.plan.units[: 2 if least < 10 else None]:
            # What two workers leave that were killed while they had it.
            dataset.announce(unit)
            dataset.announce(unit)
        with KillsCareful(SEED + number, longest=4) as kills:
            until_done(tokenize_corpus, tokens_of(base, output / "tokens"))
        check(base, output, ["tokens"])
        count, number = count + kills.count, number + 1
    told("kills of careful children", count)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("least", "away"), [(3, 1.0), pytest.param(40, 6.0, marks=LONG)])
def test_a_corpus_that_is_away_for_moments_costs_no_row(base, tmp_path, least, away):
    count, number = 0, 0
    while count < least:
        output = tmp_path / f"run-{number}"
        with TakesAway(SEED + number, base.corpus, between=2.0, away=away) as times:
            until_done(tokenize_corpus, tokens_of(base, output / "tokens"))
        check(base, output, ["tokens"])
        count, number = count + times.count, number + 1
    told("times that the corpus was away", count)


@pytest.fixture
def refusing(bucket, base, monkeypatch):
    """The corpus in a bucket, behind a proxy that refuses one request of five."""
    fs = s3fs.S3FileSystem()
    if not fs.exists(f"{bucket}/corpus"):
        fs.put(str(base.corpus), f"{bucket}/corpus", recursive=True)
    proxy = Refusing(os.environ["AWS_ENDPOINT_URL"], SEED, 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("least", [10, pytest.param(150, marks=LONG)])
def test_a_bucket_that_refuses_one_request_of_five_costs_no_row(base, bucket, refusing, tmp_path, least):
    number = 0
    while refusing.count < least:
        output = tmp_path / f"run-{number}"
        config = pipeline_of(base, output, corpus=f"{bucket}/corpus")
        if least < 50:
            config = BuildManifestConfig.of(
                corpus=f"{bucket}/corpus", layout="folder", output=str(output / "manifest"), runner="here"
            )
        until_done(build_manifest if least < 50 else run_pipeline, config)
        found = verify_dataset(VerifyDatasetConfig(dataset=str(output / "manifest")))
        assert (found.rows, found.rejects) == (NUM_FILES, 0)
        if least >= 50:
            # The same audio in another place: other lineage, the same tokens.
            assert tokens_in(output / "tokens") == tokens_in(base.folder / "run" / "tokens")
        number += 1
    told("refusals of a bucket", refusing.count)


def tokens_in(folder):
    import pyarrow.parquet as pq

    columns = ["utterance_id", "num_frames", "layer_01", "layer_03"]
    return pq.read_table(folder, columns=columns).to_pylist()
