"""A small model and its data for tests of the training loop, and runs of a loop in processes of their own.

python -m made_training FOLDER RANK SIZE   trains what FOLDER/run.pickle holds: a recipe and its settings
"""

import contextlib
import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from pipeline.faults import VARIABLE
from pipeline.seeds import rng
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import latest_checkpoint
from pipeline.training.loop import Loop
from pipeline.training.recipe import Phase, Recipe, Sums
from pipeline.training.settings import OptimizerSettings, TrainingSettings
from pipeline.training.world import World

WIDTH = 6


@dataclass(frozen=True)
class NoiseTicket:
    """A micro-batch of noise."""

    number: int
    rows: int

    @property
    def key(self):
        return f"noise/{self.number}"


@dataclass(frozen=True)
class NoiseSource:
    """Noise and what is to be predicted from it: the micro-batches have 1 to 23 rows, in turns."""

    recipe: "NoiseRecipe"

    def tickets(self, cursor):
        number = 0 if cursor is None else cursor["number"]
        while True:
            yield NoiseTicket(number, 1 + (7 * number) % 23), {"number": number + 1}
            number += 1

    def load(self, ticket, step):
        if ticket.number == self.recipe.unreadable:
            raise OSError(f"no {ticket.key} here")
        chance = rng(self.recipe.seed, ticket.key, step)
        x = chance.standard_normal((ticket.rows, WIDTH)).astype("float32")
        y = x[:, 0] - 2 * x[:, 1] + (float("nan") if ticket.number == self.recipe.broken else 0)
        few = 1 + ticket.rows // 3
        return {
            "x": torch.from_numpy(x),
            "y": torch.from_numpy(y.astype("float32")),
            "few": torch.tensor(few),
        }

    def validation(self):
        tickets = [NoiseTicket(-number, 5 * number) for number in range(1, self.recipe.validation + 1)]
        return {"validation": tickets}

    def close(self):
        pass


class NoiseModel(torch.nn.Module):
    """Two layers with dropout, and between them blocks that are skipped at random."""

    def __init__(self, dropout, skip):
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, 16)
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))
        self.last = torch.nn.Linear(16, 1)
        self.dropout, self.skip = torch.nn.Dropout(dropout), skip

    def forward(self, x, y, few):
        hidden = self.dropout(torch.tanh(self.first(x)))
        for block in self.blocks:
            if not (self.training and torch.rand([]) < self.skip):
                hidden = hidden + torch.tanh(block(hidden))
        guess = self.last(hidden)[:, 0].float()
        return {
            "error": ((guess - y) ** 2).sum(),
            "size": guess[: int(few)].abs().sum(),
            "near_share": Sums(((guess - y).abs() < 1).float().sum(), torch.tensor(len(y), device=y.device)),
        }


def optimizer_of(**changes):
    """Give settings of AdamW that learn in ten steps."""
    return OptimizerSettings(**{"lr": 1e-2, "warmup_steps": 2, **changes})


@dataclass(frozen=True)
class NoiseRecipe(Recipe):
    """Predicts two of the noises.

    Attributes:
        seed: Of the data.
        dropout: Of the first layer.
        skip: Share of blocks that are skipped at random.
        broken: Number of the micro-batch whose loss is not a number.
        unreadable: Number of the micro-batch that cannot be loaded.
        validation: Micro-batches of validation.
        optimizer: How weights are updated.
        ema_decay: Of an average of the weights.
    """

    seed: int = 0
    dropout: float = 0.3
    skip: float = 0.0
    broken: int | None = None
    unreadable: int | None = None
    validation: int = 2
    optimizer: OptimizerSettings = optimizer_of()
    ema_decay: float | None = None

    @property
    def phases(self):
        losses = {"error": 1.0, "size": 0.1}
        how = {"ema_decay": self.ema_decay, "skips_weights": self.skip > 0}
        return (Phase(name="model", optimizer=self.optimizer, losses=losses, **how),)

    def build(self):
        return {"model": NoiseModel(self.dropout, self.skip)}

    def source(self):
        return NoiseSource(self)

    def amount(self, batch):
        return 0.1 * len(batch["x"])

    def counts(self, phase, batch):
        return {"error": torch.tensor(len(batch["x"])), "size": batch["few"]}

    def losses(self, phase, modules, batch):
        return modules["model"](**batch)


def settings_of(**changes):
    """Give settings of a run of ten steps, whose every loss is logged."""
    return TrainingSettings(
        **{
            "num_steps": 10,
            "batches_per_step": 2,
            "checkpoint_every": 5,
            "validate_every": 0,
            "log_every": 1,
            **changes,
        }
    )


def config_of(kind, **flags):
    """Build a stage's config from flags, as the command line does: those of training go into its nested settings."""
    return changed(None, kind=kind, **flags)


def changed(config, kind=None, **flags):
    """Change settings of a config by their flags."""
    given = {}
    for name, nested in (("training", TrainingSettings), ("optimizer", OptimizerSettings)):
        own = {field.name: flags.pop(field.name) for field in fields(nested) if field.name in flags}
        if config is None:
            given[name] = nested(**own)
        elif own:
            given[name] = replace(getattr(config, name), **own)
    return kind(**given, **flags) if config is None else replace(config, **given, **flags)


def run(recipe, settings, folder, rank=0, size=1):
    """Train in this process."""
    torch.set_num_threads(1)
    world = World(rank=rank, size=size, device=torch.device("cpu"))
    return Loop(recipe, settings, open_store(str(folder)), world).run()


def start(recipe, settings, folder, size=1, environment=()):
    """Start processes that train together, on one thread each."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "run.pickle").write_bytes(pickle.dumps((recipe, settings)))
    (Path(folder) / "meeting").unlink(missing_ok=True)
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parents[1], Path(__file__).parent))
    variables = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **dict(environment)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "made_training", str(folder), str(rank), str(size)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]


def finish(processes, timeout=240):
    """Wait for processes and give the code and the words of each."""
    said = [process.communicate(timeout=timeout)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def stopped(recipe, settings, folder, monkeypatch, step):
    """Train in this process until some step, and go on in a second run."""
    fault = {"point": "after_step", "match": f"rank 0 step {step}", "action": "error"}
    monkeypatch.setenv(VARIABLE, json.dumps([fault]))
    with contextlib.suppress(OSError):
        run(recipe, settings, folder)
        raise AssertionError(f"the run ended before step {step}")
    monkeypatch.delenv(VARIABLE)
    return run(recipe, settings, folder)


def together(recipe, settings, folder, size=2):
    """Train in processes, and give what their last checkpoint says."""
    done = finish(start(recipe, settings, folder, size))
    assert [code for code, _ in done] == [0] * size, "\n".join(said for _, said in done)
    return latest_checkpoint(open_store(str(folder))).progress


def assert_alike(found, expected, within=1e-5):
    """Compare histories by relative difference: the order of float32 sums is all that may differ."""
    assert len(found.history) == len(expected.history)
    assert found.cursor == expected.cursor
    assert math.isclose(found.amount, expected.amount, rel_tol=1e-6)
    for line, wanted in zip(found.history, expected.history, strict=True):
        assert line.keys() == wanted.keys()
        for name, value in wanted.items():
            assert math.isclose(line[name], value, rel_tol=within, abs_tol=1e-7), (name, line, wanted)


def main(folder, rank, size):
    recipe, settings = pickle.loads((Path(folder) / "run.pickle").read_bytes())
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    run(recipe, settings, folder, rank, size)
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
