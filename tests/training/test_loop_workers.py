"""Several workers without Ray: two processes on gloo compute the steps of one, and may take turns in a run."""

import json
import signal

import pytest
from made_tokens import data_settings, write_corpus_of_tones
from made_training import NoiseRecipe, assert_alike, finish, optimizer_of, run, settings_of, start, together
from safetensors.torch import load
from torch.testing import assert_close

from pipeline.faults import VARIABLE
from pipeline.pretraining.recipe import PretrainRecipe
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import file_of, folder_of, read_checkpoint

TINY = {"num_layers": 3, "width": 24, "conv_dim": [12] * 7, "num_conv_pos_embeddings": 16}


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory, small_encoder):
    """A recipe of pretraining: a tiny HuBERT on a dozen utterances, dropout on."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + 0.15 * number for number in range(12)])
    encoder = small_encoder(kind="hubert", **TINY)

    def recipe(layerdrop=0.0):
        return PretrainRecipe(
            data=data_settings(folder, max_samples=32_000, speed_range=0.1),
            **{"shape": "small", "init": encoder, "revision": None, "head": "linear", "unmasked_weight": 0.5},
            **{"dropout": 0.1, "layerdrop": layerdrop, "num_clusters": (8,), "optimizer": optimizer_of(lr=1e-3)},
        )

    return recipe


def progress_of(folder, step):
    return read_checkpoint(open_store(str(folder)), step).progress


# The plain case is nightly: with blocks that are skipped every step is compared as well.
@pytest.mark.parametrize("layerdrop", [pytest.param(0.0, marks=pytest.mark.nightly), 0.5])
def test_two_workers_log_the_losses_of_one(tmp_path, pretraining, layerdrop):
    recipe = pretraining(layerdrop)
    settings = settings_of(num_steps=6, validate_every=3)
    expected = run(recipe, settings, tmp_path / "one")
    together(recipe, settings, tmp_path / "two")
    assert len({line["loss"] for line in expected.history if "loss" in line}) == 6
    assert_alike(progress_of(tmp_path / "two", 6), expected)


@pytest.mark.parametrize(("size", "skip"), [pytest.param(2, 0.0, marks=pytest.mark.nightly), (3, 0.0), (2, 0.7)])
def test_workers_with_unequal_shares_compute_the_steps_of_one(tmp_path, size, skip):
    """Five micro-batches of 1 to 23 rows a step; blocks are left out by some workers, or by all."""
    recipe = NoiseRecipe(skip=skip)
    settings = settings_of(num_steps=8, batches_per_step=5, validate_every=4, log_every=4)
    expected = run(recipe, settings, tmp_path / "one")
    together(recipe, settings, tmp_path / "many", size)
    assert_alike(progress_of(tmp_path / "many", 8), expected)
    one, many = (open_store(str(tmp_path / name)) for name in ("one", "many"))
    for name in (file_of("model"), file_of("optimizer.model")):
        found, wanted = (load(store.read(f"{folder_of(8)}/{name}")) for store in (many, one))
        assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_a_run_goes_on_with_another_number_of_workers(tmp_path, pretraining):
    """One for five steps, then two; the last checkpoint before the stop is that of step four."""
    recipe = pretraining()
    settings = settings_of(num_steps=8, checkpoint_every=2, validate_every=4)
    expected = run(recipe, settings, tmp_path / "whole")
    fault = {"point": "after_step", "match": "rank 0 step 5", "action": "kill"}
    ((code, said),) = finish(start(recipe, settings, tmp_path / "changed", environment={VARIABLE: json.dumps([fault])}))
    assert code == -signal.SIGKILL, said
    together(recipe, settings, tmp_path / "changed")
    found = progress_of(tmp_path / "changed", 8)
    assert_alike(found, expected)
    first = [line for line in expected.history if line["step"] <= 4]
    assert found.history[: len(first)] == first


def test_a_worker_that_dies_ends_the_others_and_the_run_goes_on(tmp_path):
    recipe, settings = NoiseRecipe(), settings_of(num_steps=6, checkpoint_every=2)
    expected = run(recipe, settings, tmp_path / "one")
    fault = {"point": "after_step", "match": "rank 1 step 3", "action": "kill"}
    codes = [
        code
        for code, _ in finish(start(recipe, settings, tmp_path / "two", 2, environment={VARIABLE: json.dumps([fault])}))
    ]
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, -signal.SIGKILL)
    together(recipe, settings, tmp_path / "two")
    assert_alike(progress_of(tmp_path / "two", 6), expected)


def test_a_loss_that_is_not_finite_stops_all_workers(tmp_path):
    done = finish(start(NoiseRecipe(broken=5), settings_of(num_steps=6), tmp_path, 2))
    for code, said in done:
        assert code == 1
        assert "TrainingError: the loss is not finite at step 3" in said
