"""train_vocoder whole, in this process: what it writes, that it goes on where it was, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_tokens import write_corpus_of_tones
from made_training import assert_alike, run, stopped, together
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.batches.sides import VALIDATION
from pipeline.errors import CodebookMismatchError, DatasetError, PlanMismatchError, SettingsError
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.training.checkpoint import published, read_checkpoint
from pipeline.vocoder.saved import load_vocoder, read_spec
from pipeline.vocoder.spectra import MelDistance
from pipeline.vocoder.training.recipe import DISCRIMINATOR, GENERATOR
from pipeline.vocoder.training.source import VocoderSource
from pipeline.vocoder.training.stage import prepare, train_vocoder

SETS = ("all", *COLUMNS, "lower", "upper")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("train_vocoder")
    seconds = np.random.default_rng(3).uniform(0.25, 1.4, 24)
    labels = {f"u{number:03d}": {"speaker": "ab"[number % 2]} for number in range(24)}
    write_corpus_of_tones(root, seconds, columns=COLUMNS, labels=labels)
    return root


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run that never stopped, its checkpoints still there."""
    output = tmp_path_factory.mktemp("whole")
    prepared = prepare(vocoder_config(folder, output / "out", num_steps=4, validate_every=2))
    return prepared, output, run(prepared.recipe, prepared.training, output / "run")


def lines_with(history, name):
    return [line for line in history if name in line]


@pytest.mark.parametrize("step", [1, 3], ids=["without discriminators", "with them"])
def test_a_run_stopped_and_resumed_has_the_losses_and_weights_of_one_that_was_not(whole, tmp_path, monkeypatch, step):
    prepared, output, progress = whole
    assert (
        stopped(prepared.recipe, prepared.training, tmp_path / "parts", monkeypatch, step).history == progress.history
    )
    states = [read_checkpoint(open_store(str(path)), 4).states for path in (output / "run", tmp_path / "parts")]
    names = {GENERATOR, DISCRIMINATOR, f"ema.{GENERATOR}", f"optimizer.{GENERATOR}", f"optimizer.{DISCRIMINATOR}"}
    assert set(states[0]) == set(states[1]) == names
    for name, tensors in states[0].items():
        assert all(torch.equal(states[1][name][weight], tensor) for weight, tensor in tensors.items())


@pytest.mark.nightly
def test_two_workers_train_the_vocoder_of_one(folder, tmp_path):
    prepared = prepare(vocoder_config(folder, tmp_path / "out", batches_per_step=2, num_steps=3, validate_every=3))
    one = run(prepared.recipe, prepared.training, tmp_path / "one")
    assert_alike(together(prepared.recipe, prepared.training, tmp_path / "two"), one, within=2e-3)


def test_discriminators_and_their_losses_come_from_their_step_on(whole):
    prepared, _, progress = whole
    weights = prepared.recipe.weights
    lines = lines_with(progress.history, "generator_loss")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["discriminator_loss" in line for line in lines] == [False, False, True, True]
    for line in lines:
        wanted = weights.mel_weight * line["generator_mel_loss"]
        if line["step"] > 2:
            assert line["generator_adversarial_loss"] > 0 < line["generator_feature_loss"]
            wanted += weights.adversarial_weight * line["generator_adversarial_loss"]
            wanted += weights.feature_weight * line["generator_feature_loss"]
        assert line["generator_loss"] == pytest.approx(wanted)


def test_validation_speaks_fixed_sets_with_the_averaged_weights_and_drops_no_layer(whole):
    """By hand: the published weights, all layers or one of them given, over the crops of validation."""
    prepared, output, progress = whole
    recipe = prepared.recipe
    checkpoint = published(open_store(str(output / "run")))
    modules = recipe.build()
    vocoder = modules[GENERATOR].eval()
    vocoder.load_state_dict(checkpoint.weights(GENERATOR))
    weights = checkpoint.states[GENERATOR]
    assert any(not torch.equal(weights[name], tensor) for name, tensor in vocoder.state_dict().items())
    distance = MelDistance(16_000, (512,), (40,))
    source = VocoderSource(recipe.data)
    batches = [source.load(ticket, -1) for ticket in source.validation()[VALIDATION]]
    source.close()
    line = lines_with(progress.history, "validation_loss")[-1]
    assert {name for name in line if name.endswith("_mel")} == {f"validation_{name}_mel" for name in SETS}
    for name, chosen in (("all", COLUMNS), ("layer_04", ("layer_04",)), ("lower", COLUMNS[:2]), ("upper", COLUMNS[1:])):
        present = torch.tensor([column in chosen for column in COLUMNS])
        total, frames = 0.0, 0
        for batch in batches:
            with torch.no_grad():
                spoken = vocoder(batch["frames"], batch["frames_mask"], present)
            lengths = batch["frames_lengths"]
            total += float(distance(spoken, batch["waveform"], 320 * lengths)) * int(lengths.sum())
            frames += int(lengths.sum())
        assert line[f"validation_{name}_mel"] == pytest.approx(total / frames, rel=1e-5)
    losses = [line[f"validation_{name}_loss"] for name in SETS]
    assert line["validation_loss"] == pytest.approx(sum(losses) / len(losses))
    assert sum(line[f"validation_weight_{column}"] for column in COLUMNS) == pytest.approx(1, abs=1e-5)


def test_utterances_of_validation_are_heard_and_seen_as_recorded_and_as_each_set_speaks_them(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole[1] / "run" / "tensorboard"), size_guidance={"audio": 0, "images": 0}).Reload()
    wanted = {f"validation/{row}/{name}" for row in (0, 1) for name in ("original", *SETS)}
    assert set(events.Tags()["audio"]) == wanted
    assert set(events.Tags()["images"]) == {"validation/0/spectrograms", "validation/1/spectrograms"}
    assert [event.step for event in events.Audio("validation/0/all")] == [2, 4]
    first = events.Audio("validation/0/original")
    assert first[0].encoded_audio_string == first[1].encoded_audio_string


def test_a_finished_folder_is_a_vocoder_bound_to_its_codebooks(folder, tmp_path):
    config = vocoder_config(folder, tmp_path / "out", num_steps=2, warmup_steps=0, weights_dtype="float16")
    report = train_vocoder(config)
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).faults == []
    vocoder = load_vocoder(str(tmp_path / "out"))
    tokens = torch.randint(8, (1, 9, 3), generator=torch.Generator().manual_seed(0))
    assert vocoder(tokens, torch.ones(1, 9, dtype=torch.bool)).shape == (1, 9 * 320)
    assert report.num_parameters == sum(weight.numel() for weight in vocoder.state_dict().values())
    assert set(report.metrics) >= {f"validation_{name}_loss" for name in SETS}
    saved = read_spec(str(tmp_path / "out"))
    assert saved.spec.columns == report.layers == COLUMNS
    assert (saved.spec.sample_rate, saved.spec.hop_length) == (16_000, 320)
    assert saved.training["metrics"] == report.metrics
    assert saved.training["seed"] == 0
    config_json = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config_json["codebooks"] == dict.fromkeys(COLUMNS, "c" * 64)
    assert config_json["num_clusters"] == dict.fromkeys(COLUMNS, 8)
    with pytest.raises(CodebookMismatchError, match="codebook of layer_04"):
        saved.spec.check_tokens({"encoder_sha256": "e" * 64, "codebooks": {"layer_04": "d" * 64}})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not {"_checkpoints", "_ray_train", "_progress.json"} & names
    again = train_vocoder(config)
    assert again == replace(report, workers="no worker, all was there", wall_seconds=again.wall_seconds)
    for changes, key in (({"ema_decay": 0.5}, "ema_decay"), ({"layers": (2,)}, "layers"), ({"mel_weight": 1.0}, "mel")):
        with pytest.raises(PlanMismatchError, match=rf"\n  {key}\w*: folder has "):
            prepare(vocoder_config(folder, tmp_path / "out", num_steps=2, warmup_steps=0, **changes))


def test_a_single_layer_vocoder_is_the_same_job(folder, tmp_path):
    changes = {"num_steps": 2, "warmup_steps": 0, "layers": (6,), "ema_decay": 0.0}
    report = train_vocoder(vocoder_config(folder, tmp_path / "out", **changes))
    assert report.layers == ("layer_06",)
    assert [name for name in report.metrics if name.endswith("_loss")] == ["validation_all_loss", "validation_loss"]
    vocoder = load_vocoder(str(tmp_path / "out"))
    assert vocoder(torch.zeros(1, 5, 1).long(), torch.ones(1, 5, dtype=torch.bool)).shape == (1, 1600)


def test_speakers_and_durations_are_learned_where_they_are_asked_for(folder, tmp_path):
    changes = {"num_steps": 3, "speaker_input": "table", "duration_predictor": True, "duration_channels": 8}
    config = vocoder_config(folder, tmp_path / "out", stft_weight=1.0, discriminators_from=9, **changes)
    train_vocoder(config)
    vocoder = load_vocoder(str(tmp_path / "out"))
    assert vocoder.spec.speakers == ("a", "b")
    tokens, mask = torch.zeros(2, 5, 3).long(), torch.ones(2, 5, dtype=torch.bool)
    spoken = vocoder(tokens, mask, None, torch.tensor([0, 1]))
    assert not torch.equal(spoken[0], spoken[1])
    assert vocoder.log_durations(tokens, mask, None, torch.tensor([0, 1])).shape == (2, 5)
    history = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    lines = lines_with(history, "generator_loss")
    assert all(line["generator_stft_loss"] > 0 for line in lines)
    durations = [line["generator_duration_loss"] for line in lines_with(history, "generator_duration_loss")]
    assert durations
    assert all(loss > 0 for loss in durations)
    assert not lines_with(history, "discriminator_loss")


def test_a_vocoder_learns_the_tones_that_its_tokens_name(folder, tmp_path):
    changes = {"num_steps": 60, "validate_every": 30, "checkpoint_every": 60, "discriminators_from": 60, "lr": 1e-2}
    report = train_vocoder(vocoder_config(folder, tmp_path / "out", **changes))
    history = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["generator_mel_loss"] for line in lines_with(history, "generator_mel_loss")]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert report.metrics["validation_all_mel"] < 0.75 * losses[0]


def test_the_vocoder_alone_runs_in_bfloat16(whole):
    recipe = whole[0].recipe
    modules = recipe.build()
    source = VocoderSource(recipe.data)
    batch = source.load(next(iter(source.tickets(None)))[0], 3)
    source.close()
    seen = {}
    for name, part in (("vocoder", modules[GENERATOR].generator.first), ("judge", modules[DISCRIMINATOR].members[0])):
        part.register_forward_hook(lambda _, given, out, name=name: seen.setdefault(name, out))
    with torch.autocast("cpu", torch.bfloat16):
        found = recipe.losses(GENERATOR, modules, batch)
    assert seen["vocoder"].dtype == torch.bfloat16
    assert {each.values.dtype for each in seen["judge"].maps} == {torch.float32}
    assert {loss.dtype for loss in found.values()} == {torch.float32}


REFUSED = [
    ({"layers": (3,)}, "the tokens have the layers layer_02, layer_04, layer_06, not layer_03"),
    ({"layers": (2, 2)}, "layers must be different"),
    ({"n_fft": 512}, "n_fft 512 does not fit the encoder's hop of 320"),
    ({"arch": "hifigan", "upsample_rates": (5, 4), "upsample_kernels": (11, 8)}, "choose factors whose product is 320"),
    ({"embedding_dim": None}, "give embedding_dim"),
    ({"embedding_init": "centroids"}, "give codebooks"),
    ({"crop_seconds": 0.0}, "crop_seconds must be above 0"),
    ({"crop_seconds": 61.0}, "at most 60"),
    ({"crop_seconds": 0.1}, "min_frames 10"),
    ({"valid_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
    ({"splits": ("nowhere",)}, "has no utterance for train"),
    ({"speaker_input": "vector", "speaker_dim": 8}, "vectors, which are 256 wide; got speaker_dim 8"),
    ({"discriminators_from": -1}, "discriminators_from must be at least 0"),
    ({"discriminator_lr": 0.0}, "discriminator_lr must be above 0"),
    ({"ema_decay": 1.0}, "ema_decay must be in"),
    ({"valid_fraction": 0.0, "best_by": "validation_loss"}, "needs utterances to validate on"),
    ({"warmup_steps": 6}, "warmup_steps 6 must be below num_steps"),
    ({"best_by": "loss"}, "best_by loss is no metric of validation: those begin with validation_"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_what_cannot_be_trained_is_refused_in_one_sentence_before_anything_starts(folder, tmp_path, changes, said):
    with pytest.raises(SettingsError, match=said) as caught:
        prepare(vocoder_config(folder, tmp_path / "out", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tokens_of_another_manifest_are_refused(folder, tmp_path):
    write_corpus_of_tones(tmp_path / "other", [0.5] * 12, columns=COLUMNS)
    with pytest.raises(DatasetError, match="made from another manifest"):
        prepare(vocoder_config(folder, tmp_path / "out", manifest=str(tmp_path / "other" / "manifest")))


def test_a_speaker_that_training_never_hears_is_refused_by_name(tmp_path):
    labels = {f"u{number:03d}": {"speaker": f"s{number}"} for number in range(12)}
    write_corpus_of_tones(tmp_path, [0.5] * 12, columns=COLUMNS, labels=labels)
    with pytest.raises(SettingsError, match=r"has speakers that training never hears \(s\d+"):
        prepare(vocoder_config(tmp_path, tmp_path / "out", speaker_input="table"))


def test_a_run_without_validation_trains_to_its_last_weights(folder, tmp_path):
    changes = {"valid_fraction": 0.0, "num_steps": 1, "warmup_steps": 0}
    report = train_vocoder(vocoder_config(folder, tmp_path / "out", **changes))
    assert (report.kept_step, dict(report.metrics)) == (1, {})


@pytest.mark.ray
@pytest.mark.nightly
def test_on_ray_two_workers_train_the_vocoder_of_this_process(folder, tmp_path):
    same = {"batches_per_step": 2, "num_steps": 3}
    here = train_vocoder(vocoder_config(folder, tmp_path / "here", **same))
    ray = train_vocoder(vocoder_config(folder, tmp_path / "ray", runner="ray", num_workers=2, **same))
    assert "2" in ray.workers
    assert ray.metrics == pytest.approx(dict(here.metrics), rel=2e-3)
    assert load_vocoder(str(tmp_path / "ray")).spec == load_vocoder(str(tmp_path / "here")).spec
