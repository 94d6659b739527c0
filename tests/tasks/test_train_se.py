"""train_task --task se whole, in this process: pairs, crops, what it learns, that it goes on, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_enhancement import SPLIT, se_config, with_noise, write_pairs, write_side
from made_tasks import COLUMNS
from made_tokens import speak, write_tokens
from made_training import assert_alike, run, stopped, together
from safetensors.torch import load_file

from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN
from pipeline.errors import CodebookMismatchError, DatasetError, PipelineError, PlanMismatchError, SettingsError
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.se.metrics import measure
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import prepare, train_task
from pipeline.training.checkpoint import latest_checkpoint


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    return root, write_pairs(root)


def expected_tokens(one, columns=COLUMNS):
    """Give the tokens (T, L) that ``write_tokens`` wrote of an utterance."""
    return np.stack([(one.tokens + place) % 8 for place in range(len(columns))], axis=1)


def test_a_finished_folder_holds_the_weights_of_the_lowest_token_error_rate(pairs, tmp_path):
    folder, _ = pairs
    report = train_task(se_config(folder, tmp_path / "out"))
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).faults == []
    history = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line for line in history if "validation_token_error_rate" in line}
    best = min(line["validation_token_error_rate"] for line in found.values())
    assert report.metrics["validation_token_error_rate"] == best
    assert found[report.kept_step]["validation_token_error_rate"] == best
    noisy = {line["validation_noisy_token_error_rate"] for line in found.values()}
    assert len(noisy) == 1
    assert all(f"validation_token_error_rate_{name}" in report.metrics for name in COLUMNS)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"fuser", "head"}
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [target["column"] for target in told["targets"]] == list(COLUMNS)
    again = train_task(se_config(folder, tmp_path / "out"))
    assert again == replace(report, workers=again.workers, wall_seconds=again.wall_seconds)


@pytest.mark.parametrize("crop_seconds", [None, 0.3])
def test_clean_tokens_are_those_of_the_partner_at_the_same_frames(pairs, tmp_path, crop_seconds):
    folder, made = pairs
    source = prepare(se_config(folder, tmp_path / "out", crop_seconds=crop_seconds)).recipe.source()
    tickets, first = source.tickets(None), set()
    for step in range(12):
        ticket, _ = next(tickets)
        batch = source.load(ticket, step)
        for row, (piece, length) in enumerate(zip(ticket.pieces, ticket.lengths, strict=True)):
            noisy, clean = (expected_tokens(one) for one in made[piece.utterance_id])
            given = batch["frames"][row, :length].numpy()
            places = [
                start for start in range(len(noisy) - length + 1) if (noisy[start : start + length] == given).all()
            ]
            found = batch["clean"][row, :length].numpy()
            assert any((clean[start : start + length] == found).all() for start in places)
            first |= set(places)
    assert (first == {0}) == (crop_seconds is None)
    (held,) = source.validation().values()
    for ticket in held:
        batch = source.load(ticket, 0)
        for row, piece in enumerate(ticket.pieces):
            clean = expected_tokens(made[piece.utterance_id][1])
            assert (batch["clean"][row, : len(clean)].numpy() == clean).all()


def test_the_noisy_rate_of_validation_is_the_share_of_tokens_that_were_replaced(pairs, tmp_path):
    folder, made = pairs
    prepared = prepare(se_config(folder, tmp_path / "out"))
    recipe = prepared.recipe
    source, modules = recipe.source(), {name: each.eval() for name, each in recipe.build().items()}
    rows = []
    for ticket in source.validation()["validation"]:
        with torch.inference_mode():
            judged = recipe.judge(modules, source.load(ticket, 0))
        rows += judged.rows
        for row, piece in zip(judged.rows, ticket.pieces, strict=True):
            noisy, clean = made[piece.utterance_id]
            assert row["noisy_token_error_rate"] == pytest.approx(float((noisy.tokens != clean.tokens).mean()))
    assert 0.1 < measure(rows)["noisy_token_error_rate"] < 0.3


def test_a_run_stopped_and_resumed_has_the_losses_and_weights_of_one_that_was_not(pairs, tmp_path, monkeypatch):
    folder, _ = pairs
    prepared = prepare(se_config(folder, tmp_path / "out", crop_seconds=0.4))
    whole = run(prepared.recipe, prepared.training, tmp_path / "whole")
    assert stopped(prepared.recipe, prepared.training, tmp_path / "parts", monkeypatch, 4) == whole
    states = [latest_checkpoint(open_store(str(tmp_path / name))).states for name in ("whole", "parts")]
    for name, tensors in states[0].items():
        assert all(torch.equal(states[1][name][weight], tensor) for weight, tensor in tensors.items())


def test_two_workers_train_to_the_losses_of_one(pairs, tmp_path):
    folder, _ = pairs
    prepared = prepare(se_config(folder, tmp_path / "out", batches_per_step=2, batch_seconds=3.0))
    alone = run(prepared.recipe, prepared.training, tmp_path / "one")
    assert_alike(together(prepared.recipe, prepared.training, tmp_path / "two"), alone, within=1e-4)


def test_replaced_tokens_are_told_from_those_around_them(pairs, tmp_path):
    folder, _ = pairs
    changes = {"num_steps": 150, "validate_every": 50, "checkpoint_every": 150, "lr": 1e-2, "warmup_steps": 10}
    report = train_task(se_config(folder, tmp_path / "out", **changes, conformer_dropout=0.0))
    rate, noisy = (report.metrics[f"validation_{name}token_error_rate"] for name in ("", "noisy_"))
    print(f"se: token error rate {rate:.3f} of the output, {noisy:.3f} of the noisy tokens")
    assert rate < 0.5 * noisy


def test_one_layer_goes_in_and_others_come_out(pairs, tmp_path):
    folder, _ = pairs
    report = train_task(se_config(folder, tmp_path / "out", layers=(3,), target_layers=(6, 3)))
    assert "validation_noisy_token_error_rate_layer_03" in report.metrics
    assert "validation_noisy_token_error_rate" not in report.metrics
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [target["column"] for target in told["targets"]] == ["layer_06", "layer_03"]
    assert told["fuser"]["columns"] == ["layer_03"]
    with pytest.raises(PlanMismatchError, match=r"\n  targets: folder has "):
        prepare(se_config(folder, tmp_path / "out", layers=(3,), target_layers=(3,)))


def test_utterances_without_a_partner_are_left_out_counted_and_told(tmp_path, caplog):
    alone = ("nu000", "nu001", "nu002", "nu005")
    write_pairs(tmp_path, 20, change=lambda name, labels: labels | ({"clean_uri": None} if name in alone else {}))
    config = se_config(tmp_path, tmp_path / "out")
    sides = prepare(config).division.sides
    trained = [name for name in alone if sides.side(name, {"split": "train"}) == TRAIN]
    assert trained
    report = train_task(config)
    assert dict(report.lines())["without a label, left out"] == str(len(trained))
    assert any("has 4 utterances without a clean_uri" in record.getMessage() for record in caplog.records)


def test_utterances_whose_clean_recording_has_no_tokens_are_left_out_and_counted(tmp_path):
    made = write_pairs(tmp_path, 20)
    # The encoder rejected two of the clean ones.
    kept = [clean for _, clean in list(made.values())[::-1] if clean.utterance_id not in ("u001", "u007")]
    digest = success(Dataset.open(f"{tmp_path}/clean/manifest"))["dataset_sha256"]
    parts = [[one for one in kept if one.utterance_id in names] for names in shards_of(f"{tmp_path}/clean/manifest")]
    write_tokens(f"{tmp_path}/rejected", kept, parts=parts, input_sha256=digest, columns=COLUMNS)
    config = se_config(tmp_path, tmp_path / "out", clean_tokens=f"{tmp_path}/rejected", valid_fraction=0.0)
    report = train_task(config.but(num_steps=12, validate_every=0))
    assert dict(report.lines())["without tokens or features, left out"] == "2"


def shards_of(uri):
    """Give the ids of each shard of a manifest."""
    return [set(rows["utterance_id"].to_pylist()) for _, rows in Manifest(uri).scan(["utterance_id"])]


def test_a_run_on_other_clean_tokens_is_another_run(tmp_path):
    write_pairs(tmp_path, 20)
    train_task(se_config(tmp_path, tmp_path / "out"))
    clean = speak(tmp_path / "audio", np.random.default_rng(0).uniform(0.6, 1.6, 20), seed=0)
    rng = np.random.default_rng(5)
    write_side(tmp_path / "other", [replace(one, tokens=with_noise(one.tokens, 0.5, rng)) for one in clean])
    other = {"clean_tokens": f"{tmp_path}/other/tokens", "clean_manifest": f"{tmp_path}/other/manifest"}
    with pytest.raises(PlanMismatchError, match=r"\n  clean_manifest_sha256: folder has "):
        prepare(se_config(tmp_path, tmp_path / "out", **other))


def on(number, **values):
    return lambda name, labels: labels | (values if name == f"nu{number:03d}" else {})


BAD = {
    "absent": (on(3, clean_uri="/nowhere.wav"), {}, r"1 utterances .* no partner .*nu003: /nowhere.wav \(not there"),
    "none": (lambda name, labels: labels | {"clean_uri": None}, {}, "no utterance has a clean_uri"),
    "layer": (on(0), {"target_layers": (9,)}, "has the layers layer_00, layer_03, layer_06, not layer_09"),
    "layer of the input": (on(0), {"layers": (9,), "target_layers": (3,)}, "not layer_09"),
}


@pytest.mark.parametrize(("change", "settings", "said"), BAD.values(), ids=BAD)
def test_it_is_refused_in_one_sentence_before_anything_is_written(tmp_path, change, settings, said):
    write_pairs(tmp_path, 12, change=change)
    with pytest.raises(SettingsError, match=said) as caught:
        train_task(se_config(tmp_path, tmp_path / "out", **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_partner_of_another_length_is_refused_by_name_on_the_driver(tmp_path):
    made = write_pairs(tmp_path, 12)
    shorter = [replace(clean, waveform=clean.waveform[:-4_000], tokens=clean.tokens) for _, clean in made.values()]
    refused_by_name(tmp_path, shorter)


def test_a_partner_of_as_many_hops_and_a_frame_less_is_refused_by_name_on_the_driver(tmp_path):
    # A frame hears 400 samples, a hop is 320: 16,080 samples give 50 frames, 16,079 give 49.
    noisy = speak(tmp_path / "audio", [16_080.5 / 16_000] * 12)
    labels = {one.utterance_id: {"clean_uri": one.path, "split": SPLIT[n % 5]} for n, one in enumerate(noisy)}
    write_side(tmp_path / "noisy", noisy, labels=labels)
    write_side(tmp_path / "clean", noisy)
    refused_by_name(tmp_path, [replace(one, waveform=one.waveform[:-1], tokens=one.tokens[:-1]) for one in noisy])


def refused_by_name(tmp_path, shorter):
    write_side(tmp_path / "short", shorter)
    short = {"clean_tokens": f"{tmp_path}/short/tokens", "clean_manifest": f"{tmp_path}/short/manifest"}
    with pytest.raises(SettingsError, match=r"12 utterances of .* have no partner of equal length .*u000: ") as caught:
        train_task(se_config(tmp_path, tmp_path / "out", **short))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_sha256": "f" * 64}, "encoder eeeeeeeeeeee there, ffffffffffff here"),
        (
            {"codebooks": {"layer_00": "c" * 64, "layer_03": "d" * 64, "layer_06": "c" * 64}},
            "codebook of layer_03 cccccccccccc there, dddddddddddd here",
        ),
        (
            {"num_clusters": {"layer_00": 8, "layer_03": 8, "layer_06": 9}},
            "K of layer_06 8 there, 9 here",
        ),
    ],
    ids=["encoder", "codebook", "K"],
)
def test_clean_tokens_of_another_encoder_or_codebook_are_refused_by_name(tmp_path, changes, said):
    write_pairs(tmp_path, 12)
    uri = f"{tmp_path}/clean/tokens"
    plan = open_store(uri).read("_plan.json").decode()
    told = json.loads(plan)
    told["lineage"] |= changes
    open_store(uri).write("_plan.json", json.dumps(told).encode())
    assert Dataset.open(uri).plan.lineage["encoder"] == "made"
    with pytest.raises(CodebookMismatchError, match=said) as caught:
        train_task(se_config(tmp_path, tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_clean_tokens_of_another_manifest_are_refused(pairs, tmp_path):
    folder, _ = pairs
    with pytest.raises(DatasetError, match="made from another manifest"):
        prepare(se_config(folder, tmp_path / "out", clean_manifest=f"{folder}/noisy/manifest"))


def test_settings_of_enhancement_are_of_no_other_task_and_it_needs_them(pairs, tmp_path):
    folder, _ = pairs
    config = se_config(folder, tmp_path / "out")
    for changes, said in (
        ({"clean_tokens": None}, "se needs --clean-tokens and --clean-manifest"),
        ({"task": "sid"}, "clean_tokens, clean_manifest and target_layers are settings of se, and the task is sid"),
        ({"target_layers": (3, 3)}, "target_layers must be different numbers"),
        ({"task": "odd"}, "task must be one of asr, sid, er, se"),
    ):
        with pytest.raises(PipelineError, match=said):
            TrainTaskConfig.of(**{**config.flat(), **changes})
