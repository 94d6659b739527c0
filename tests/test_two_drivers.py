"""Two drivers with the same command at the same time: the data is right, and both end well (--runner here)."""

import json
from pathlib import Path

import pytest
import s3fs
from made_corpus import data_bytes, write_corpus
from made_drivers import WELL, overtaken, side_by_side, start, stop_at
from made_export import config_of as export_of
from made_export import tree
from made_kills import KILLED
from made_tokens import write_corpus_of_tones
from made_training import config_of as training_of

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.export.stage import export_tokens
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.kmeans.sweep.stage import SweepCodebooksConfig, sweep_codebooks
from pipeline.pretraining.settings import PretrainEncoderConfig
from pipeline.pretraining.stage import pretrain_encoder
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

NUM_FILES = 12
STAGES = ("manifest", "features", "codebooks", "tokens")
SCRATCH = ("_probed", "_attempts", "_checkpoints", "_probe", "_ray_train", "_progress.json")


def run_config(folder, encoder, output):
    return RunPipelineConfig.of(
        corpus=str(folder / "audio"),
        layout="folder",
        output=str(output),
        encoder=encoder,
        layers=(1, 3),
        num_clusters=8,
        max_iterations=4,
        shard_minutes=0.05,
        runner="here",
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    """A run that was alone: what two drivers make is compared with it."""
    folder = tmp_path_factory.mktemp("base")
    write_corpus(folder / "audio", num_files=NUM_FILES)
    # One that cannot be read: rejects are what a driver without its scratch dataset would lose.
    (folder / "audio" / "broken.wav").write_bytes(b"RIFF")
    encoder = small_encoder(kind="hubert", stem="layer")
    run_pipeline(run_config(folder, encoder, folder / "alone"))
    return folder, encoder


def manifest_of(base, output):
    return BuildManifestConfig.of(
        corpus=str(base[0] / "audio"), layout="folder", output=str(output), shard_minutes=0.05, runner="here"
    )


def check(alone, output):
    """See that a dataset is what one driver alone made, and that nothing of the way is left."""
    assert data_bytes(output) == data_bytes(alone)
    rejects = [sorted(path.name for path in Path(folder, "_rejects").glob("*")) for folder in (alone, output)]
    assert rejects[0] == rejects[1]
    verify_dataset(VerifyDatasetConfig(dataset=str(output)))
    assert [name for name in SCRATCH if (Path(output) / name).exists()] == []


@pytest.mark.parametrize(
    ("point", "match"),
    [
        ("after_plan", "manifest"),
        ("after_plan", "_probed"),
        ("before_load", ""),
        ("after_announce_before_data", "shard-"),
        ("after_data_before_commit", "shard-"),
        ("driver_after_commit", ""),
        ("before_shard_table", "_probed"),
        ("after_shard_table_before_success", "_probed"),
        ("after_success_before_cleanup", "_probed"),
        ("after_announce_before_data", "manifest-"),
        ("after_data_before_commit", "manifest-"),
        ("after_publish", "manifest-"),
        ("before_shard_table", "manifest"),
    ],
)
def test_a_manifest_that_another_driver_finishes_at_any_point_is_found_finished(base, tmp_path, point, match):
    config = manifest_of(base, tmp_path / "manifest")
    assert overtaken(build_manifest, config, stop_at(tmp_path, point, match)) == (WELL, WELL)
    check(base[0] / "alone" / "manifest", tmp_path / "manifest")


def test_what_a_killed_probe_of_the_store_leaves_is_cleared_by_the_next_run(base, tmp_path):
    config = manifest_of(base, tmp_path / "manifest")
    kill = {"point": "during_probe", "action": "kill"}
    assert start(build_manifest, config, [kill]).ended()[0] == KILLED
    assert len(list((tmp_path / "manifest" / "_probe").iterdir())) == 1
    assert start(build_manifest, config).ended() == WELL
    check(base[0] / "alone" / "manifest", tmp_path / "manifest")


def test_a_probe_whose_name_another_driver_clears_is_tried_again(base, tmp_path):
    config = manifest_of(base, tmp_path / "manifest")
    assert overtaken(build_manifest, config, stop_at(tmp_path, "during_probe", "manifest")) == (WELL, WELL)
    check(base[0] / "alone" / "manifest", tmp_path / "manifest")


@pytest.mark.parametrize("offset", [0.0, 0.15, 0.4, 1.0])
def test_two_runs_of_all_stages_started_together_end_well_with_the_bytes_of_one(base, tmp_path, offset):
    config = run_config(*base, tmp_path / "run")
    assert side_by_side(run_pipeline, config, offset) == (WELL, WELL)
    for stage in STAGES:
        check(base[0] / "alone" / stage, tmp_path / "run" / stage)
    assert data_bytes(tmp_path / "run" / "tokenizer") == data_bytes(base[0] / "alone" / "tokenizer")


@pytest.mark.nightly
def test_two_runs_started_together_on_s3_end_well_with_the_bytes_of_one(base, bucket, tmp_path):
    config = run_config(*base, f"{bucket}/run")
    assert side_by_side(run_pipeline, config, 0.3) == (WELL, WELL)
    s3fs.S3FileSystem().get(f"{bucket}/run", str(tmp_path / "run"), recursive=True)
    for stage in STAGES:
        assert data_bytes(tmp_path / "run" / stage) == data_bytes(base[0] / "alone" / stage)
        assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/run/{stage}")).faults == []


@pytest.mark.ray
@pytest.mark.nightly
def test_two_runs_started_together_on_ray_end_well_with_the_bytes_of_one(base, tmp_path, monkeypatch):
    """Each with a Ray of its own, as two people who start the same command on two machines."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    config = run_config(*base, tmp_path / "run").but(runner="ray", num_workers=1)
    assert side_by_side(run_pipeline, config, 1.0) == (WELL, WELL)
    for stage in STAGES:
        check(base[0] / "alone" / stage, tmp_path / "run" / stage)


@pytest.mark.parametrize("point", ["after_plan", "kmeans_step", "after_checkpoint", "after_data_before_commit"])
def test_codebooks_that_another_driver_finishes_are_found_finished(base, tmp_path, point):
    config = FitKmeansConfig.of(
        features=(str(base[0] / "alone" / "features"),),
        output=str(tmp_path / "codebooks"),
        num_clusters=(8,),
        layers=(1, 3),
        max_iterations=4,
        runner="here",
    )
    assert overtaken(fit_kmeans, config, stop_at(tmp_path, point)) == (WELL, WELL)
    check(base[0] / "alone" / "codebooks", tmp_path / "codebooks")


@pytest.mark.parametrize("point", ["after_plan", "encode", "after_data_before_commit", "before_shard_table"])
def test_tokens_that_another_driver_finishes_are_found_finished(base, tmp_path, point):
    alone = base[0] / "alone"
    config = TokenizeCorpusConfig.of(
        manifest=str(alone / "manifest"),
        codebooks=str(alone / "codebooks"),
        encoder=base[1],
        output=str(tmp_path / "tokens"),
        runner="here",
    )
    assert overtaken(tokenize_corpus, config, stop_at(tmp_path, point)) == (WELL, WELL)
    check(alone / "tokens", tmp_path / "tokens")


@pytest.mark.parametrize("point", ["after_plan", "after_part", "after_layout", "after_publish", "before_card"])
def test_an_export_that_another_driver_finishes_is_found_finished(base, tmp_path, point):
    # Shuffled, so that rows pass through a dataset between; merges, because they are trained once.
    settings = {"formats": ("megatron", "parquet"), "order": "shuffled", "bpe_merges": 4, "layers": (3,)}
    alone = export_of(base[0] / "alone", base[0] / "exported", **settings)
    if not Path(alone.output).exists():
        export_tokens(alone)
    config = export_of(base[0] / "alone", tmp_path / "exported", **settings)
    assert overtaken(export_tokens, config, stop_at(tmp_path, point)) == (WELL, WELL)
    assert tree(tmp_path / "exported") == tree(base[0] / "exported")
    verify_dataset(VerifyDatasetConfig(dataset=config.output))


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_two_sweeps_started_together_end_well(base, tmp_path, offset):
    config = SweepCodebooksConfig.of(
        features=str(base[0] / "alone" / "features"),
        output=str(tmp_path),
        num_clusters=(4, 8),
        layers=(3,),
        sweep=(0.5, 1.0),
        num_workers=1,
        runner="here",
    )
    assert side_by_side(sweep_codebooks, config, offset) == (WELL, WELL)
    for share in ("fraction_0.5", "fraction_1"):
        verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / share)))
    assert len(json.loads((tmp_path / "sweep.json").read_bytes())["points"]) == 4


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    write_corpus_of_tones(folder, [0.6 + 0.1 * number for number in range(10)])
    return folder


def pretraining(spoken, output):
    return training_of(
        PretrainEncoderConfig,
        manifest=str(spoken / "manifest"),
        tokens=str(spoken / "tokens"),
        output=str(output),
        shape="small",
        num_steps=4,
        warmup_steps=1,
        lr=1e-3,
        batch_seconds=2.0,
        batches_per_step=1,
        crop_seconds=1.0,
        min_frames=20,
        valid_fraction=0.2,
        checkpoint_every=1,
        keep_checkpoints=1,
        log_every=1,
        threads_per_worker=1,
        runner="here",
    )


@pytest.mark.parametrize(
    ("point", "match"), [("after_step", "step 2"), ("after_checkpoint_state", "00000003"), ("before_shard_table", "")]
)
def test_an_encoder_that_another_driver_finishes_is_found_finished(spoken, tmp_path, point, match):
    config = pretraining(spoken, tmp_path / "encoder")
    assert overtaken(pretrain_encoder, config, stop_at(tmp_path, point, match)) == (WELL, WELL)
    verify_dataset(VerifyDatasetConfig(dataset=config.output))
    assert [name for name in SCRATCH if (Path(config.output) / name).exists()] == []
    steps = [json.loads(line)["step"] for line in (Path(config.output) / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 4]  # the last also validates
