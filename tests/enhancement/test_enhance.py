"""Noisy tokens become clean speech: each utterance as alone, the same bytes on every way, what does not fit refused."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_enhancement import enhance_config, hardly_trained, write_spoken_pairs
from made_export import config_of as export_config
from made_fusion import make_books
from made_kills import KILLED, in_child
from made_speech import (
    COLUMNS,
    LENGTHS,
    RATE,
    config_of,
    rows_of,
    samples_of,
    shards,
    write_small_vocoder,
    write_spoken_corpus,
)
from made_tasks import task_config
from made_vocoder import HOP

from pipeline.audio.flac import sixteen_bits
from pipeline.audio.loading import Manifest
from pipeline.enhancement.settings import EnhanceConfig
from pipeline.enhancement.stage import enhance
from pipeline.errors import CodebookMismatchError, CorruptDatasetError, DatasetError, PlanMismatchError, SettingsError
from pipeline.export.stage import export_tokens
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.stage import synthesize
from pipeline.tasks.stage import train_task
from pipeline.tasks.trained import open_trained
from pipeline.vocoder.pieces import speak_in_pieces
from pipeline.vocoder.saved import load_vocoder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhanced")
    tokens = write_spoken_pairs(folder)
    hardly_trained(folder, folder / "one", layers=(3,), target_layers=(1, 3, 6))
    return folder, tokens


def clean_tokens(task, tokens):
    """Give the clean tokens of one utterance (T, 3) as the whole network says them at once."""
    trained = open_trained(str(task))
    model = trained.model(trained.task())
    frames = np.stack([tokens[column].astype(np.int64) for column in trained.fuser.columns], axis=1)
    with torch.no_grad():
        _, logits = model(
            {"frames": torch.from_numpy(frames)[None], "frames_mask": torch.ones(1, len(frames), dtype=torch.bool)}
        )
    return torch.stack([each[0].argmax(dim=1) for each in logits], dim=1)


def spoken(folder, clean, columns):
    present = torch.tensor([column in columns for column in COLUMNS])
    network = load_vocoder(str(folder / "bundle" / "vocoder"))
    return sixteen_bits(speak_in_pieces(network, clean, present).numpy()).samples


@pytest.mark.parametrize(("task", "layers"), [("bundle/se", ()), ("bundle/se", (3,)), ("one", (6, 1))])
def test_each_utterance_is_enhanced_and_spoken_as_alone(pairs, tmp_path, task, layers):
    folder, tokens = pairs
    # Batches of the vocoder of 64 frames: utterances are spoken alone and side by side.
    how = {"batch_seconds": 64 * HOP / RATE, "layers": layers, "task": str(folder / task)}
    report = enhance(enhance_config(folder, tmp_path / "out", manifest=str(folder / "noisy" / "manifest"), **how))
    assert (report.rows, report.rejects, report.units) == (len(LENGTHS), 0, 3)
    heard = [f"layer_{layer:02d}" for layer in layers] or COLUMNS
    found, changed = rows_of(tmp_path / "out"), 0
    assert list(found) == list(tokens)
    for name, row in found.items():
        clean = clean_tokens(folder / task, tokens[name])
        changed += int((clean.numpy()[:, 0] != tokens[name]["layer_01"]).sum())
        assert row["num_samples"] == HOP * len(clean)
        assert np.abs(samples_of(row).astype(int) - spoken(folder, clean, heard)).max() <= 4
        assert row["text"] == f"words {int(name[-3:])}"
    assert changed > 0.3 * sum(LENGTHS)
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).rows == len(LENGTHS)
    (state,) = run_status(str(tmp_path / "out"))
    assert (state.kind, state.finished) == ("speech", True)
    manifest = Manifest(str(tmp_path / "out" / "_manifest"))
    ids = [name for _, rows in manifest.scan(["utterance_id"]) for name in rows["utterance_id"].to_pylist()]
    assert ids == list(tokens)


def test_killed_at_each_step_a_rerun_ends_with_the_same_bytes(pairs, tmp_path):
    folder, _ = pairs
    enhance(enhance_config(folder, tmp_path / "whole"))
    config = enhance_config(folder, tmp_path / "out")
    points = ("after_plan", "speak", "after_data_before_commit", "after_commit_before_publish")
    for number, point in enumerate(points):
        match = f"u{4 * number:03d}" if point == "speak" else ""
        ended = in_child(enhance, config, [{"point": point, "match": match, "action": "kill"}])
        assert ended.code == KILLED, point
    enhance(config)
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")
    assert enhance(config).units_done_now == 0


def test_an_export_is_enhanced_as_the_tokens_it_was_made_from(pairs, tmp_path):
    folder, _ = pairs
    export_tokens(export_config(folder / "noisy", tmp_path / "export", shard_ids=1_000, deduplicate=True))
    enhance(enhance_config(folder, tmp_path / "of_tokens"))
    enhance(enhance_config(folder, tmp_path / "of_export", export=str(tmp_path / "export")))
    first, second = rows_of(tmp_path / "of_tokens"), rows_of(tmp_path / "of_export")
    assert {name: row["audio"] for name, row in first.items()} == {name: row["audio"] for name, row in second.items()}
    assert len(first) == len(LENGTHS)


def test_another_task_is_another_dataset_and_so_is_no_task(pairs, tmp_path):
    folder, _ = pairs
    enhance(enhance_config(folder, tmp_path / "out"))
    with pytest.raises(PlanMismatchError, match="task_sha256: folder has "):
        enhance(enhance_config(folder, tmp_path / "out", task=str(folder / "one")))
    with pytest.raises(PlanMismatchError, match="task_sha256"):
        synthesize(config_of(folder / "noisy", tmp_path / "out", vocoder=str(folder / "bundle" / "vocoder")))


def test_parts_that_are_named_give_the_bytes_of_the_bundle(pairs, tmp_path):
    folder, _ = pairs
    enhance(enhance_config(folder, tmp_path / "bundle"))
    parts = {"task": str(folder / "bundle" / "se"), "vocoder": str(folder / "bundle" / "vocoder"), "bundle": None}
    enhance(enhance_config(folder, tmp_path / "parts", **parts))
    assert shards(tmp_path / "parts") == shards(tmp_path / "bundle")


def test_an_utterance_without_a_frame_is_a_reject_and_the_others_are_there(tmp_path):
    write_spoken_pairs(tmp_path)
    write_spoken_corpus(tmp_path / "empty", lengths=(20, 0, 7))
    tokens = str(tmp_path / "empty" / "tokens")
    report = enhance(enhance_config(tmp_path, tmp_path / "out", tokens=tokens, max_reject_fraction=1.0))
    assert (report.rows, report.rejects) == (2, 1)
    (reject,) = pq.read_table(tmp_path / "out" / "_rejects").to_pylist()
    assert (reject["utterance_id"], reject["reason"]) == ("spk.1_u001", "too_short")


def test_an_id_past_the_codebook_ends_the_run_with_its_utterance_and_layer(pairs, tmp_path):
    folder, _ = pairs
    write_spoken_corpus(tmp_path, past=5)
    with pytest.raises(CorruptDatasetError, match="spk.1_u005 of .*: layer_03 has ids from 0 to 6, and was given 7"):
        enhance(enhance_config(folder, tmp_path / "out", tokens=str(tmp_path / "tokens")))


def test_what_does_not_fit_is_refused_before_anything_is_written(pairs, tmp_path):
    folder, _ = pairs
    write_spoken_corpus(tmp_path / "other", books=make_books(seed=9))
    write_small_vocoder(tmp_path / "moved", books=make_books(seed=9))
    write_small_vocoder(tmp_path / "whole", layer_dropout=False)
    hardly_trained(folder, tmp_path / "three", target_layers=(3,))
    given = {name: f"{folder}/noisy/{name}" for name in ("manifest", "tokens")}
    emotionless = {"num_steps": 1, "warmup_steps": 0, "validate_every": 0, "valid_fraction": 0.0, "units": "characters"}
    asr = {"train_splits": ("test",), "test_splits": (), **emotionless}
    train_task(task_config(folder, tmp_path / "asr", "asr", **given, **asr))
    out = tmp_path / "out"
    refused = [
        ({"tokens": f"{tmp_path}/other/tokens"}, CodebookMismatchError, "codebook of layer_01 .* there"),
        ({"vocoder": f"{tmp_path}/moved"}, CodebookMismatchError, "codebook of layer_01: .* there"),
        ({"vocoder": f"{tmp_path}/whole", "layers": (3,)}, SettingsError, "never saw layer_03 alone"),
        ({"task": f"{tmp_path}/three", "layers": (1,)}, SettingsError, "the tokens have layer_03, not layer_01"),
        ({"task": f"{tmp_path}/asr"}, SettingsError, "is of the task asr; enhancement needs one of the task se"),
        ({"task": f"{folder}/nowhere"}, DatasetError, "nowhere"),
        ({"bundle": f"{tmp_path}/nowhere"}, DatasetError, "nowhere/se"),
        ({"manifest": f"{tmp_path}/other/manifest"}, DatasetError, "another manifest"),
        ({"bundle": None}, SettingsError, "--tokens needs --bundle, or --task and --vocoder beside what is given"),
        ({"bundle": None, "task": "t"}, SettingsError, "--tokens needs --bundle, or --vocoder beside what is given"),
        ({"tokenizer": "t"}, SettingsError, "--tokenizer goes with --file, not with --tokens"),
        ({"bundle": "encoder-small"}, SettingsError, "encoder-small ships without an enhancement; give --task"),
        ({"file": "noisy.wav"}, SettingsError, "give one of"),
    ]
    for settings, error, message in refused:
        with pytest.raises(error, match=message) as told:
            enhance(enhance_config(folder, out, **settings))
        assert "\n" not in str(told.value)
        assert not out.exists()
    with pytest.raises(SettingsError, match="--file needs --bundle, or --tokenizer beside what is given"):
        EnhanceConfig.of(file="noisy.wav", output="clean.wav")


@pytest.mark.ray
def test_two_workers_on_ray_give_the_bytes_of_this_process(local_ray, pairs, tmp_path):
    folder, _ = pairs
    enhance(enhance_config(folder, tmp_path / "here"))
    report = enhance(enhance_config(folder, tmp_path / "ray", runner="ray", num_workers=2))
    assert (report.rows, report.rejects, report.units_done_now) == (len(LENGTHS), 0, 3)
    assert shards(tmp_path / "ray") == shards(tmp_path / "here")
