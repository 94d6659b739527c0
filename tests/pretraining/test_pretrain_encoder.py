"""The stage on Ray Train: from tokens of MFCC to an encoder that every job opens, however the run is placed or hit."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_tokens import speak, write_corpus_of_tones
from made_training import changed, config_of

from pipeline.batches.sides import share
from pipeline.errors import CorruptDatasetError, DatasetError, PlanMismatchError, SettingsError, TrainingError
from pipeline.faults import VARIABLE
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.pretraining.export import LINEAGE
from pipeline.pretraining.settings import PretrainEncoderConfig
from pipeline.pretraining.stage import prepare, pretrain_encoder
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

ROOT = Path(__file__).parents[2]
TINY = {"num_layers": 2, "width": 24, "conv_dim": [12] * 7, "num_conv_pos_embeddings": 16}
FLAGS = {
    "num_steps": 6,
    "warmup_steps": 1,
    "lr": 1e-3,
    "head": "linear",
    "batch_seconds": 3.0,
    "batches_per_step": 2,
    "crop_seconds": 1.0,
    "min_frames": 32,
    "valid_fraction": 0.2,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "threads_per_worker": 1,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    """A corpus with its tokens of MFCC, made by the stages before this one, and a tiny HuBERT to begin with."""
    folder = tmp_path_factory.mktemp("base")
    speak(folder / "audio", [0.6 + 0.1 * number for number in range(14)], rates=(16_000, 22_050))
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(folder / "audio"),
            layout="folder",
            output=str(folder),
            encoder="mfcc",
            layers=(0,),
            num_clusters=8,
            max_iterations=4,
            shard_minutes=0.1,
            runner="here",
        )
    )
    return folder, small_encoder(kind="hubert", **TINY)


def settings_for(base, output, **changes):
    folder, encoder = base
    inputs = {"manifest": str(folder / "manifest"), "tokens": str(folder / "tokens"), "init_encoder": encoder}
    return config_of(PretrainEncoderConfig, **{**inputs, **FLAGS, "output": str(output), **changes})


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A run in this process: its config and its report."""
    config = settings_for(base, tmp_path_factory.mktemp("trained") / "encoder", runner="here")
    return config, pretrain_encoder(config)


def history(output):
    return [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]


def assert_alike(found, expected, within=1e-5):
    assert len(found) == len(expected)
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=within, abs=1e-7)


def test_an_encoder_is_trained_and_its_folder_holds_nothing_of_the_way(base, trained):
    config, report = trained
    names = {path.name for path in Path(config.output).iterdir()}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "metrics.jsonl", "tensorboard"} < names
    assert not {"_checkpoints", "_ray_train", "_progress.json", "_attempts"} & names
    steps = [line["step"] for line in history(config.output) if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in history(config.output) if "validation_loss" in line] == [3, 6]
    assert (report.stage, report.num_steps) == ("encoder", 6)
    assert 0 < report.audio_hours * 3600 <= 6 * 2 * 3.0
    # The first utterance, 0.6 s, has 29 frames, the second 34; validation would not count it.
    assert share(config.training.seed, "u000") >= config.valid_fraction
    assert report.too_short == 1
    assert ("too short, left out", "1") in report.lines()
    assert [point["step"] for point in report.curve if "loss" in point] == steps
    assert report.curve[-1]["validation_loss"] > 0
    assert ("workers", "this process, 1 thread(s)") in report.lines()
    assert verify_dataset(VerifyDatasetConfig(dataset=config.output)).faults == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json", "metrics.jsonl"])
def test_a_changed_byte_of_the_folder_is_found(trained, name):
    path = Path(trained[0].output) / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
        with pytest.raises(CorruptDatasetError, match=f"{name} is not what was committed"):
            verify_dataset(VerifyDatasetConfig(dataset=trained[0].output))
    finally:
        path.write_bytes(whole)


def test_transformers_and_our_encoder_open_it_and_features_can_be_made_with_it(base, trained, tmp_path):
    from transformers import HubertModel

    config, report = trained
    network, said = HubertModel.from_pretrained(config.output, output_loading_info=True)
    assert (said["missing_keys"], said["unexpected_keys"]) == (set(), set())
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == report.num_parameters
    first = HubertModel.from_pretrained(base[1]).state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())
    assert not torch.equal(network.state_dict()["encoder.layer_norm.weight"], first["encoder.layer_norm.weight"])
    assert SslEncoder.from_pretrained(config.output, layers=(2,)).dim == 24
    made = extract_features(
        ExtractFeaturesConfig.of(
            manifest=config.manifest, encoder=config.output, layers=(1, 2), output=str(tmp_path / "features")
        )
    )
    assert (made.rows, made.rejects) == (14, 0)


def test_the_config_tells_tokens_manifest_and_settings(base, trained):
    config, _ = trained
    lineage = json.loads((Path(config.output) / "config.json").read_text())[LINEAGE]
    digests = [
        json.loads((base[0] / name / "_SUCCESS").read_text())["dataset_sha256"] for name in ("tokens", "manifest")
    ]
    assert [lineage["tokens_sha256"], lineage["manifest_sha256"]] == digests
    assert (lineage["targets"], lineage["num_steps"], lineage["head"]) == (["layer_00"], 6, "linear")
    assert lineage["target_encoder"] == "mfcc"
    assert not any(name in lineage for name in ("output", "num_workers", "manifest", "init_encoder"))


def test_the_same_command_again_does_nothing_however_it_is_placed(base, trained):
    config, report = trained
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).glob("m*")}
    placements = (
        {},
        {"runner": "ray", "num_workers": 2, "threads_per_worker": 2, "max_failures": 0},
        {"checkpoint_every": 5, "keep_checkpoints": 1, "log_every": 3, "cache_gb": 0.0},
        {"storage_path": "s3://nowhere/ray"},
    )
    for placement in placements:
        again = pretrain_encoder(changed(config, **placement))
        assert again.workers == "no worker, all was there"
        assert again == replace(report, workers=again.workers, wall_seconds=again.wall_seconds)
    assert {path: path.stat().st_mtime_ns for path in Path(config.output).glob("m*")} == before


def test_a_run_killed_after_its_end_is_tidied_up_by_the_same_command(trained):
    config, _ = trained
    left = [Path(config.output) / "_checkpoints" / "step-00000006" / "model.safetensors"]
    left.append(Path(config.output) / "_progress.json")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left over")
    pretrain_encoder(config)
    assert not any(path.exists() for path in left)


CHANGES = {
    "num_steps": 7, "warmup_steps": 2, "lr": 2e-3, "lr_end": 0.5, "decay": "cosine", "beta1": 0.5, "beta2": 0.5,
    "weight_decay": 0.5, "clip_norm": 2.0, "batch_seconds": 2.0, "batches_per_step": 3, "dtype": "bfloat16", "seed": 1,
    "validate_every": 2, "head": "cosine", "mask_probability": 0.5, "mask_length": 5, "unmasked_weight": 0.5,
    "crop_seconds": 0.9, "min_frames": 12, "shuffle_hours": 1.0, "valid_fraction": 0.3, "valid_minutes": 1.0,
    "dropout": 0.2, "layerdrop": 0.1, "normalize_waveform": False, "weights_dtype": "float16", "speed_range": 0.1,
    "speed_probability": 0.1, "noise_probability": 0.1, "min_snr_db": 1.0, "max_snr_db": 30.0, "room_probability": 0.1,
    "equalizer_range": 6.0, "equalizer_probability": 0.1, "narrowband_probability": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_another_setting_that_changes_the_weights_is_refused_by_its_name(trained, name):
    with pytest.raises(PlanMismatchError, match=rf"\n  {name}: folder has "):
        prepare(changed(trained[0], **{name: CHANGES[name]}))


def test_other_inputs_are_refused_by_name(base, trained, small_encoder):
    config, _ = trained
    other = small_encoder(kind="hubert", **TINY, seed=1)
    for asked, names in (
        (replace(config, init_encoder=other), ["init_sha256"]),
        (replace(config, init_encoder=None, shape="small"), ["init_sha256", "shape"]),
        (replace(config, noise=config.manifest), ["noise_sha256"]),
        (replace(config, rooms=config.manifest), ["rooms_sha256"]),
    ):
        with pytest.raises(PlanMismatchError) as caught:
            prepare(asked)
        lines = str(caught.value).splitlines()[1:]
        assert [line.split(":")[0].strip() for line in lines] == names


@pytest.mark.ray
def test_one_worker_of_ray_gives_the_bytes_of_this_process(local_ray, base, trained, tmp_path):
    report = pretrain_encoder(settings_for(base, tmp_path / "encoder", num_workers=1))
    assert report.workers == "1 worker(s) of 1 thread(s)"
    for name in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (tmp_path / "encoder" / name).read_bytes() == (Path(trained[0].output) / name).read_bytes()


@pytest.mark.ray
def test_two_workers_give_the_losses_of_one(local_ray, base, trained, tmp_path):
    report = pretrain_encoder(settings_for(base, tmp_path / "encoder", num_workers=2))
    assert report.workers == "2 worker(s) of 1 thread(s)"
    assert_alike(history(tmp_path / "encoder"), history(trained[0].output))


# Nightly: training/test_loop_workers.py changes the number of workers.
@pytest.mark.nightly
@pytest.mark.ray
def test_a_run_that_may_have_one_worker_or_two_gives_the_same_losses(local_ray, base, trained, tmp_path):
    report = pretrain_encoder(settings_for(base, tmp_path / "encoder", max_workers=2))
    assert report.workers == "1 to 2 worker(s) of 1 thread(s)"
    assert_alike(history(tmp_path / "encoder"), history(trained[0].output))


@pytest.mark.ray
def test_workers_killed_in_the_middle_cost_time_only(base, trained, tmp_path):
    """SIGKILL of rank 1 after step 3, of rank 0 while it writes the checkpoint of step 4; the job as people run it."""
    faults = [
        {"point": "after_step", "match": "rank 1 step 3", "action": "kill", "once": str(tmp_path / "first")},
        {"point": "after_checkpoint_model", "match": "00000004", "action": "kill", "once": str(tmp_path / "second")},
    ]
    config = settings_for(base, tmp_path / "encoder", num_workers=2)
    done = job(config, "--ray-address", "local", **{VARIABLE: json.dumps(faults)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()
    assert json.loads(done.stdout.splitlines()[-1])["num_steps"] == 6
    assert_alike(history(tmp_path / "encoder"), history(trained[0].output))
    # One file of events for each start: the first, and one after each loss.
    assert len(list((tmp_path / "encoder" / "tensorboard").iterdir())) == 3


@pytest.mark.ray
def test_a_fault_that_would_come_again_ends_the_run_at_once_in_its_own_words(local_ray, base, tmp_path):
    config = settings_for(base, tmp_path / "encoder", lr=1e30, num_workers=1, clip_norm=1e30, warmup_steps=0)
    with pytest.raises(TrainingError, match="the loss is not finite (at|in) step.*; lower --lr"):
        pretrain_encoder(config)
    assert len(list((tmp_path / "encoder" / "tensorboard").iterdir())) == 1


def job(config, *flags, **environment):
    """Run the job as people do."""
    given = {**vars(config), **vars(config.training), **vars(config.optimizer)}
    flags_of = (*FLAGS, "num_workers", "manifest", "tokens", "output", "init_encoder")
    given = {f"--{name.replace('_', '-')}": given[name] for name in flags_of}
    # A flag that is given twice is refused.
    changed = {flag.partition("=")[0] for flag in flags}
    words = [f"{name}={value}" for name, value in given.items() if value is not None and name not in changed]
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "pretrain_encoder.py"), *words, *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture(scope="module")
def tones(tmp_path_factory, small_encoder):
    """A manifest and tokens that no stage made, and a tiny HuBERT; for what is refused before Ray starts."""
    folder = tmp_path_factory.mktemp("tones")
    write_corpus_of_tones(folder, [0.5, 0.7])
    return folder, small_encoder(kind="hubert", **TINY)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-workers=3"], "batches_per_step is 2"),
        (["--warmup-steps=6"], "warmup_steps 6 must be below num_steps 6"),
        (["--mask-lenght=5"], "--mask-length"),
        (["--shape=huge"], "huge"),
        (["--targets", "layer_07"], "has the columns layer_00, not layer_07"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_ray_starts(tones, tmp_path, flags, said):
    done = job(settings_for(tones, tmp_path / "encoder"), *flags, RAY_ADDRESS="127.0.0.1:1", COLUMNS="200")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "encoder").exists()


def test_tokens_of_another_manifest_or_clock_and_encoders_of_another_kind_are_refused(tones, tmp_path, small_encoder):
    other = tmp_path / "other"
    write_corpus_of_tones(other, [0.5, 0.7], seed=1)
    config = settings_for(tones, tmp_path / "encoder")
    prepare(config)
    with pytest.raises(DatasetError, match="made from another manifest"):
        prepare(replace(config, manifest=str(other / "manifest"), tokens=config.tokens))
    (other / "tokens" / "_SUCCESS").unlink()
    with pytest.raises(DatasetError, match="not finished"):
        prepare(replace(config, tokens=str(other / "tokens"), manifest=str(other / "manifest")))
    wavlm = small_encoder(kind="wavlm")
    with pytest.raises(SettingsError, match="must be a HuBERT"):
        prepare(replace(config, init_encoder=wavlm))
    slow = small_encoder(kind="hubert", **{**TINY, "conv_stride": [5, 2, 2, 2, 2, 2, 4]})
    with pytest.raises(SettingsError, match="50 frames a second at 16000 Hz, the encoder 25"):
        prepare(replace(config, init_encoder=slow))
    assert not (tmp_path / "encoder").exists()
