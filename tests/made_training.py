"""A small model and its data for tests of the training loop, and runs of a loop in processes of their own.

python -m made_training FOLDER RANK SIZE   trains what FOLDER/run.pickle holds: a recipe and its settings
"""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.seeds import rng
from pipeline.store.storage import open_store
from pipeline.training.loop import Loop, World
from pipeline.training.settings import TrainingSettings

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
            "count_error": torch.tensor(float(ticket.rows)),
            "count_size": torch.tensor(float(few)),
            "seconds": torch.tensor(0.1 * ticket.rows, dtype=torch.float64),
        }

    def validation(self):
        return [NoiseTicket(-number, 5 * number) for number in range(1, self.recipe.validation + 1)]

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
            "near": ((guess - y).abs() < 1).float().sum(),
        }


@dataclass(frozen=True)
class NoiseRecipe:
    """Predicts two of the noises.

    Attributes:
        seed: Of the data.
        dropout: Of the first layer.
        skip: Share of blocks that are skipped at random.
        broken: Number of the micro-batch whose loss is not a number.
        unreadable: Number of the micro-batch that cannot be loaded.
        validation: Micro-batches of validation.
    """

    seed: int = 0
    dropout: float = 0.3
    skip: float = 0.0
    broken: int | None = None
    unreadable: int | None = None
    validation: int = 2

    loss_weights = {"error": 1.0, "size": 0.1}  # noqa: RUF012
    ratios = {"near_share": ("near", "error")}  # noqa: RUF012

    @property
    def skips_weights(self):
        return self.skip > 0

    def build(self):
        return NoiseModel(self.dropout, self.skip)

    def source(self):
        return NoiseSource(self)


def settings_of(**changes):
    """Give settings of a run of ten steps, whose every loss is logged."""
    return TrainingSettings(
        **{
            "num_steps": 10,
            "lr": 1e-2,
            "warmup_steps": 2,
            "batches_per_step": 2,
            "checkpoint_every": 5,
            "validate_every": 0,
            "log_every": 1,
            **changes,
        }
    )


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


def main(folder, rank, size):
    recipe, settings = pickle.loads((Path(folder) / "run.pickle").read_bytes())
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    run(recipe, settings, folder, rank, size)
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
