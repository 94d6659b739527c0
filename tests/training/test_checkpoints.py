"""Promise R13: training goes on from the last whole checkpoint, and a half one is never loaded."""

import contextlib
import json
import signal

import pytest
import torch
from made_training import NoiseRecipe, finish, run, settings_of, start
from safetensors.torch import load

from pipeline.errors import CheckpointError
from pipeline.faults import VARIABLE
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import (
    STATE,
    file_of,
    folder_of,
    keep,
    latest,
    published,
    read_checkpoint,
    save_checkpoint,
    steps_saved,
)
from pipeline.training.progress import Best, Progress

MODEL, OPTIMIZER, ROWS = file_of("model"), file_of("optimizer.model"), "rows.dev.jsonl"


def put(store, step):
    """Save a checkpoint whose tensors tell its step."""
    progress = Progress(
        step=step,
        cursor={"epoch": 1, "batch": step},
        amount=step / 3,
        history=[{"step": step, "loss": 0.1 + step}],
    )
    model = {"weight": torch.full((3, 2), float(step)), "half": torch.ones(2, dtype=torch.float16)}
    states = {"model": model, "optimizer.model": {"state.weight.exp_avg": torch.full((3, 2), step / 7)}}
    save_checkpoint(store, progress, states, {"dev": [{"utterance_id": "a", "errors": step}]})
    return progress


@pytest.fixture
def store(tmp_path):
    """A store with checkpoints after 5 and 10 steps."""
    opened = open_store(str(tmp_path))
    for step in (5, 10):
        put(opened, step)
    return opened


def test_a_checkpoint_is_read_as_it_was_written(store):
    found = read_checkpoint(store, 10)
    assert found.progress.cursor == {"epoch": 1, "batch": 10}
    assert (found.progress.step, found.progress.amount) == (10, 10 / 3)
    assert found.progress.history[0]["loss"] == 10.1
    assert torch.equal(found.states["model"]["weight"], torch.full((3, 2), 10.0))
    assert found.states["model"]["half"].dtype == torch.float16
    assert torch.equal(found.states["optimizer.model"]["state.weight.exp_avg"], torch.full((3, 2), 10 / 7))
    assert found.rows == {"dev": [{"utterance_id": "a", "errors": 10}]}
    assert latest(store) == 10


def test_where_there_is_no_checkpoint_there_is_no_latest(tmp_path):
    store = open_store(str(tmp_path / "new"))
    assert latest(store) is None
    with pytest.raises(CheckpointError, match="step-00000005"):
        read_checkpoint(store, 5)


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, ROWS, STATE])
def test_a_checkpoint_without_one_of_its_files_is_passed_over(store, name):
    store.delete([f"{folder_of(10)}/{name}"])
    with pytest.raises(CheckpointError):
        read_checkpoint(store, 10)
    assert latest(store) == 5


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, ROWS, STATE])
@pytest.mark.parametrize("bit", [0, 5])
def test_a_checkpoint_with_one_bit_changed_anywhere_is_passed_over(store, name, bit):
    whole, expected = store.read(f"{folder_of(10)}/{name}"), read_checkpoint(store, 10).progress
    taken = []
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        store.write(f"{folder_of(10)}/{name}", bytes(changed))
        with contextlib.suppress(CheckpointError):
            taken.append((place, read_checkpoint(store, 10).progress))
    # The last digit of 3.3333333333333335 may change and mean the same number.
    assert len(taken) <= (name == STATE)
    assert all(progress == expected for _, progress in taken)


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, ROWS, STATE])
def test_a_checkpoint_that_was_cut_short_is_passed_over(store, name):
    whole = store.read(f"{folder_of(10)}/{name}")
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        store.write(f"{folder_of(10)}/{name}", whole[:length])
        assert latest(store) == 5


def test_where_all_checkpoints_are_damaged_training_begins_anew(store):
    for step in (5, 10):
        store.write(f"{folder_of(step)}/{MODEL}", b"")
    assert latest(store) is None


def test_as_many_checkpoints_stay_as_are_to_be_kept(store):
    for step in (15, 20):
        put(store, step)
    keep(store, latest=3, best=None, upto=20)
    assert steps_saved(store) == [10, 15, 20]
    keep(store, latest=1, best=None, upto=20)
    assert store.tree("_checkpoints") == [f"{folder_of(20)}/{name}" for name in sorted((MODEL, OPTIMIZER, ROWS, STATE))]


def test_a_damaged_checkpoint_of_a_later_step_does_not_take_the_place_of_a_new_one(store):
    """A run that went on before the damage may save at other steps than before."""
    store.write(f"{folder_of(10)}/{MODEL}", b"damaged")
    put(store, 7)
    keep(store, latest=1, best=None, upto=7)
    assert latest(store) == 7


def test_the_best_checkpoint_stays_beside_the_latest(store):
    for step in (15, 20):
        put(store, step)
    keep(store, latest=1, best=10, upto=20)
    assert steps_saved(store) == [10, 20]
    keep(store, latest=1, best=20, upto=20)
    assert steps_saved(store) == [20]


def test_what_is_published_is_the_best_or_without_one_the_last(store):
    assert published(store).progress.step == 10
    progress = Progress(step=15, best=Best(step=5, value=0.25))
    save_checkpoint(store, progress, {"model": {"weight": torch.zeros(1)}})
    assert read_checkpoint(store, 15).progress == progress
    assert published(store).progress.step == 5
    store.delete([f"{folder_of(5)}/{MODEL}"])
    with pytest.raises(CheckpointError, match="step-00000005"):
        published(store)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        published(open_store(f"{store.root}/empty"))


class Tied(torch.nn.Module):
    """A head that is the embedding, a weight of two names, and a buffer that is a part of another."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        whole = torch.arange(8.0)
        self.register_buffer("whole", whole)
        self.register_buffer("part", whole[2:5])


def test_tied_weights_stand_in_a_checkpoint_once_and_are_tied_when_it_is_read(tmp_path):
    model, other, store = Tied(), Tied(), open_store(str(tmp_path))
    save_checkpoint(store, Progress(step=1), {"model": model.state_dict()})
    written = load(store.read(f"{folder_of(1)}/{MODEL}"))
    assert set(written) == {"embed.weight", "whole", "part"}
    found = read_checkpoint(store, 1).states["model"]
    other.load_state_dict(found)
    assert torch.equal(other.head.weight, model.embed.weight)
    assert other.head.weight is other.embed.weight
    assert other.part.tolist() == [2, 3, 4]


def test_weights_of_a_network_are_its_average_where_there_is_one(tmp_path):
    store, average = open_store(str(tmp_path)), torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2))
    plain = torch.nn.Linear(2, 2)
    states = {"a": plain.state_dict(), "b": plain.state_dict(), "ema.b": average.state_dict()}
    save_checkpoint(store, Progress(step=1), states)
    found = read_checkpoint(store, 1)
    assert torch.equal(found.weights("a")["weight"], plain.weight)
    assert set(found.weights("b")) == {"weight", "bias"}
    assert torch.equal(found.weights("b")["weight"], average.module.weight)


def kill_at(point, step):
    fault = {"point": point, "match": f"step-{step:08d}", "action": "kill"}
    return {VARIABLE: json.dumps([fault])}


@pytest.mark.parametrize("file", ["model", "optimizer", "state"])
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_last_whole_one(tmp_path, file):
    recipe, settings = NoiseRecipe(), settings_of(num_steps=8, checkpoint_every=2, validate_every=3)
    expected = run(recipe, settings, tmp_path / "whole")
    ((code, said),) = finish(
        start(recipe, settings, tmp_path / "killed", environment=kill_at(f"after_checkpoint_{file}", 6))
    )
    assert code == -signal.SIGKILL, said
    store = open_store(str(tmp_path / "killed"))
    assert latest(store) == (6 if file == "state" else 4)
    assert run(recipe, settings, tmp_path / "killed") == expected
    ends = [store.read(f"{folder_of(8)}/{MODEL}") for store in (store, open_store(str(tmp_path / "whole")))]
    assert ends[0] == ends[1]
    assert all(torch.isfinite(tensor).all() for tensor in load(ends[0]).values())
    assert steps_saved(store) == [6, 8]
