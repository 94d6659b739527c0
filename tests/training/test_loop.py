"""The training loop in one process: what a step is, what is logged, and that a resumed run is the run not stopped."""

import json
import math

import pytest
import torch
from made_tokens import data_settings, write_corpus_of_tones
from made_training import NoiseRecipe, optimizer_of, run, settings_of
from safetensors.torch import load

from pipeline.errors import DatasetError, TrainingError
from pipeline.faults import VARIABLE
from pipeline.pretraining.recipe import PretrainRecipe
from pipeline.seeds import torch_seed
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import file_of, folder_of, latest, read_checkpoint, steps_saved
from pipeline.training.progress import read_standing
from pipeline.training.schedules import learning_rate

STATES = (file_of("model"), file_of("optimizer.model"))
TINY = {"num_layers": 2, "width": 24, "conv_dim": [12] * 7, "num_conv_pos_embeddings": 16}


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory, small_encoder):
    """A recipe of pretraining: a tiny HuBERT on a dozen utterances, dropout on."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + 0.15 * number for number in range(12)])
    encoder = small_encoder(kind="hubert", **TINY)

    def recipe(data=(), **changes):
        given = {"shape": "small", "init": encoder, "revision": None, "head": "linear", "unmasked_weight": 0.5}
        given |= {"dropout": 0.1, "layerdrop": 0.0, "num_clusters": (8,), "optimizer": optimizer_of()}
        source = data_settings(folder, **{"max_samples": 32_000, "noise": str(folder / "manifest"), **dict(data)})
        return PretrainRecipe(data=source, **{**given, **changes})

    return recipe


def stop_after(monkeypatch, step):
    fault = {"point": "after_step", "match": f"rank 0 step {step}", "action": "error"}
    monkeypatch.setenv(VARIABLE, json.dumps([fault]))


def files(folder, step):
    return [open_store(str(folder)).read(f"{folder_of(step)}/{name}") for name in STATES]


def losses(progress, name="loss"):
    return [line[name] for line in progress.history if name in line]


@pytest.mark.parametrize("stopped", [1, 5, 7])
@pytest.mark.parametrize("kind", ["noise", "skipping", "pretraining", "layerdrop"])
def test_a_run_stopped_and_resumed_is_the_run_that_never_stopped(tmp_path, pretraining, monkeypatch, kind, stopped):
    """Bit for bit, though windows of logging and checkpoints end at other steps."""
    if kind in ("noise", "skipping"):
        recipe = NoiseRecipe(skip=0.6 if kind == "skipping" else 0.0)
    else:
        recipe = pretraining(
            layerdrop=0.6 if kind == "layerdrop" else 0.0,
            data={"speed_range": 0.2, "noise_probability": 0.5, "shuffle_hours": 0.001},
        )
    settings = settings_of(num_steps=8, log_every=3, checkpoint_every=2, validate_every=4)
    expected = run(recipe, settings, tmp_path / "whole")
    stop_after(monkeypatch, stopped)
    with pytest.raises(OSError, match="fault injected"):
        run(recipe, settings, tmp_path / "stopped")
    monkeypatch.delenv(VARIABLE)
    assert latest(open_store(str(tmp_path / "stopped"))) == (stopped // 2 * 2 or None)
    assert run(recipe, settings, tmp_path / "stopped") == expected
    assert files(tmp_path / "stopped", 8) == files(tmp_path / "whole", 8)
    assert [line["step"] for line in expected.history if "loss" in line] == [2, 3, 4, 6, 8]
    assert [line["step"] for line in expected.history if "validation_loss" in line] == [4, 8]


def test_a_finished_run_does_nothing_when_it_is_run_again(tmp_path):
    settings = settings_of(num_steps=4, checkpoint_every=2)
    expected = run(NoiseRecipe(), settings, tmp_path)
    before = files(tmp_path, 4)
    assert run(NoiseRecipe(), settings, tmp_path) == expected
    assert files(tmp_path, 4) == before


def by_hand(recipe, settings):
    """Train as written in the books: each step one batch of all its rows, torch's own AdamW; no dropout."""
    torch.manual_seed(torch_seed(settings.seed, "weights"))
    model, source, given = recipe.build()["model"], recipe.source(), recipe.optimizer
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": given.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(given.beta1, given.beta2), eps=1e-6)
    tickets, logged = source.tickets(None), []
    for step in range(settings.num_steps):
        batches = [source.load(next(tickets)[0], step) for _ in range(settings.batches_per_step)]
        error = sum(model(batch["x"], batch["y"], batch["few"])["error"] for batch in batches)
        size = sum(model(batch["x"], batch["y"], batch["few"])["size"] for batch in batches)
        counts = [sum(len(batch["x"]) for batch in batches), sum(int(batch["few"]) for batch in batches)]
        loss = error / counts[0] + 0.1 * size / counts[1]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), given.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(given, settings.num_steps, step)
        optimizer.step()
        logged.append((loss.item(), error.item() / counts[0], size.item() / counts[1], norm.item()))
    return model, logged


@pytest.mark.parametrize("batches_per_step", [1, 2, 3])
def test_a_step_is_one_batch_of_all_rows_however_they_are_divided(tmp_path, batches_per_step):
    """Micro-batches of 1 to 23 rows: a mean of their means would weigh rows differently."""
    recipe = NoiseRecipe(dropout=0.0, optimizer=optimizer_of(clip_norm=2.0))
    settings = settings_of(num_steps=6, batches_per_step=batches_per_step)
    progress = run(recipe, settings, tmp_path)
    model, logged = by_hand(recipe, settings)
    for line, (loss, error, size, norm) in zip(progress.history, logged, strict=True):
        assert line["loss"] == pytest.approx(loss, rel=1e-5)
        assert line["error_loss"] == pytest.approx(error, rel=1e-5)
        assert line["size_loss"] == pytest.approx(size, rel=1e-5)
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert line["lr"] == pytest.approx(learning_rate(recipe.optimizer, 6, line["step"] - 1))
    assert max(norm for *_, norm in logged) > 2
    for name, tensor in load(files(tmp_path, 6)[0]).items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_a_logged_loss_is_the_mean_over_the_rows_of_its_steps(tmp_path):
    single = run(NoiseRecipe(), settings_of(num_steps=6), tmp_path / "single")
    joined = run(NoiseRecipe(), settings_of(num_steps=6, log_every=3, checkpoint_every=100), tmp_path / "joined")
    rows = [sum(1 + (7 * (2 * step + n)) % 23 for n in range(2)) for step in range(6)]
    for place, line in enumerate(joined.history):
        part = slice(3 * place, 3 * place + 3)
        pairs = list(zip(losses(single, "error_loss")[part], rows[part], strict=True))
        assert line["error_loss"] == pytest.approx(sum(loss * n for loss, n in pairs) / sum(rows[part]), rel=1e-6)
        assert line["gradient_norm"] == pytest.approx(sum(losses(single, "gradient_norm")[part]) / 3, rel=1e-6)
    assert joined.amount == pytest.approx(0.1 * sum(rows))
    assert joined.amount == pytest.approx(single.amount)


def test_validation_is_by_the_model_as_it_is_without_dropout_and_changes_no_step(tmp_path):
    recipe = NoiseRecipe(validation=3)
    seen = run(recipe, settings_of(validate_every=4), tmp_path / "seen")
    unseen = run(recipe, settings_of(), tmp_path / "unseen")
    assert losses(seen) == losses(unseen)
    assert files(tmp_path / "seen", 10) == files(tmp_path / "unseen", 10)
    lines = [line for line in seen.history if "validation_loss" in line]
    assert [line["step"] for line in lines] == [4, 8, 10]
    model, source = recipe.build()["model"].eval(), recipe.source()
    model.load_state_dict(load(files(tmp_path / "seen", 10)[0]))
    batches = [source.load(ticket, -1) for ticket in source.validation()["validation"]]
    with torch.no_grad():
        found = [model(batch["x"], batch["y"], batch["few"]) for batch in batches]
    rows = sum(len(batch["x"]) for batch in batches)
    assert lines[-1]["validation_error_loss"] == pytest.approx(float(sum(f["error"] for f in found)) / rows, rel=1e-5)
    assert lines[-1]["validation_near_share"] == pytest.approx(float(sum(f["near_share"].value for f in found)) / rows)


def test_without_validation_data_nothing_is_said_of_it(tmp_path):
    progress = run(NoiseRecipe(validation=0), settings_of(validate_every=2), tmp_path)
    assert not any(name.startswith("validation") for line in progress.history for name in line)


@pytest.mark.parametrize(("log_every", "when"), [(1, "at step 6"), (4, "in steps 5 to 6"), (100, "in steps 5 to 6")])
def test_a_loss_that_is_not_finite_stops_the_run_and_spoils_no_checkpoint(tmp_path, log_every, when):
    """Micro-batch 10 belongs to step 6: whatever is logged when, no weights made of it are saved."""
    settings = settings_of(num_steps=12, checkpoint_every=2, log_every=log_every, keep_checkpoints=9)
    with pytest.raises(TrainingError, match=rf"not finite {when} .*--lr"):
        run(NoiseRecipe(broken=10), settings, tmp_path)
    store = open_store(str(tmp_path))
    assert steps_saved(store) == [2, 4]
    assert all(torch.isfinite(t).all() for t in read_checkpoint(store, 4).states["model"].values())


def test_what_reading_raises_ends_the_run(tmp_path, pretraining):
    with pytest.raises(OSError, match="no noise/4 here"):
        run(NoiseRecipe(unreadable=4), settings_of(), tmp_path / "noise")
    with pytest.raises(DatasetError, match="nothing to train on"):
        run(pretraining(data={"min_frames": 4000}), settings_of(), tmp_path / "pretraining")


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_loss_falls_when_a_few_utterances_are_learned_by_heart(tmp_path, pretraining, head):
    """Tones last longer than masked spans, so what is masked can be told from what is heard beside it."""
    data = {"valid_fraction": 0.0, "mask_length": 3, "mask_probability": 0.3, "noise": None, "crop_seconds": 0.6}
    recipe = pretraining(data=data, head=head, dropout=0.0, optimizer=optimizer_of(lr=5e-3, warmup_steps=10))
    settings = settings_of(num_steps=150, log_every=15, checkpoint_every=150)
    progress = run(recipe, settings, tmp_path)
    masked, accuracy = losses(progress, "masked_loss"), losses(progress, "masked_accuracy")
    assert masked[0] > 0.7 * math.log(8)
    assert masked[-1] < 0.6 * masked[0]
    assert accuracy[-1] > 0.6
    assert losses(progress, "unmasked_accuracy")[-1] > 0.75


def test_bfloat16_learns_alike_and_keeps_weights_and_moments_in_float32(tmp_path, pretraining):
    found = {}
    for dtype in ("float32", "bfloat16"):
        settings = settings_of(num_steps=5, dtype=dtype)
        found[dtype] = losses(run(pretraining(dropout=0.0), settings, tmp_path / dtype))
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.03)
    assert found["bfloat16"] != found["float32"]
    for data in files(tmp_path / "bfloat16", 5):
        assert {tensor.dtype for tensor in load(data).values()} == {torch.float32}


def test_what_is_told_is_what_the_checkpoint_holds(tmp_path):
    progress = run(NoiseRecipe(), settings_of(validate_every=5), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == progress.history == read_checkpoint(open_store(str(tmp_path)), 10).progress.history
    standing = read_standing(open_store(str(tmp_path)))
    assert (standing.step, standing.num_steps, standing.workers) == (10, 10, 1)
    assert standing.amount == pytest.approx(progress.amount)
    assert standing.line().startswith("step 10/10, ")
    assert list((tmp_path / "tensorboard").iterdir())
    assert steps_saved(open_store(str(tmp_path))) == [5, 10]
