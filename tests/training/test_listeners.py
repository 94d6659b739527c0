"""What hears of a run: TensorBoard or a line that says it is absent, Ray's reports, and one line for people."""

import builtins
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_training import NoiseRecipe, run, settings_of

from pipeline.store.storage import open_store
from pipeline.training.checkpoint import steps_saved
from pipeline.training.listeners import ReportListener
from pipeline.training.loop import Loop
from pipeline.training.progress import AUDIO, TOKENS, Standing, read_standing
from pipeline.training.world import World


def test_without_tensorboard_a_run_says_so_and_writes_everything_else(tmp_path, monkeypatch, caplog):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING):
        progress = run(NoiseRecipe(), settings_of(num_steps=3), tmp_path)
    said = [record.message for record in caplog.records if "tensorboard" in record.message]
    assert len(said) == 1
    assert "no event files are written" in said[0]
    assert "strata-tokens[train]" in said[0]
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(progress.history) == 3


def loop(tmp_path, **how):
    world = World(rank=0, size=1, device=torch.device("cpu"))
    settings = settings_of(num_steps=6, validate_every=3, checkpoint_every=100, log_every=2)
    return Loop(NoiseRecipe(), settings, open_store(str(tmp_path)), world, **how)


def test_ray_is_told_each_line_of_the_history(tmp_path):
    told = []
    progress = loop(tmp_path, listeners=[ReportListener(told.append)]).run()
    assert told == progress.history
    assert [line["step"] for line in told] == [2, 3, 4, 6, 6]
    assert "validation_error_loss" in told[1]


def test_a_node_that_is_about_to_leave_makes_one_checkpoint_at_once(tmp_path):
    asked = []

    def leaving():
        asked.append(None)
        return len(asked) >= 2

    loop(tmp_path, leaving=leaving).run()
    assert steps_saved(open_store(str(tmp_path))) == [4, 6]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("unit", "amount", "said"),
    [
        (AUDIO, 5400.0, "1.50 h of audio, 30 times real time"),
        (TOKENS, 12_345.0, "12,345 tokens, 30 tokens per second"),
    ],
)
def test_a_line_for_people_has_the_recipes_unit(unit, amount, said):
    numbers = {"step": 5, "num_steps": 1_000, "per_second": 30.2, "eta_seconds": 3725, "workers": 2, "time": 0.0}
    line = Standing(unit=unit, amount=amount, metrics={"loss": 1.23456}, **numbers).line()
    assert line == f"step 5/1,000, loss 1.235, {said}, ETA 1:02:05, 2 worker(s)"


def test_where_a_run_is_can_be_read_while_nothing_was_begun_and_after_damage(tmp_path):
    store = open_store(str(tmp_path))
    assert read_standing(store) is None
    store.write("_progress.json", b'{"step": 3}')
    assert read_standing(store) is None


def test_where_a_run_is_and_its_settings_can_be_read_without_torch_or_ray():
    names = [f"pipeline.training.{name}" for name in ("progress", "settings", "publishing")]
    code = f"import sys, importlib\nfor name in {[*names, 'pipeline.pretraining.stage']}:\n"
    code += "    importlib.import_module(name)\nprint({'torch', 'ray', 'transformers'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
