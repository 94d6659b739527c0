"""An epoch of a task from tokens on disk, against the encoder in the loop: same model, same micro-batches, one run.

    python -m bench.task_training --run out --task er --test-speakers 08 [--encoder encoder-small] [--epochs 2]

``--run`` is a folder of run_pipeline with labels in its manifest. "From tokens" is train_task's own source, loaded by a
thread beside the steps. "Encoder in the loop" is how DASB trains: for each micro-batch recordings are decoded, encoded
in one go and quantised, then the same step is made; the loader's thread does all that, so it overlaps with the step as
well as it can. Prints seconds per epoch, what a step waited for data, and their ratio. Encoder and codebooks are loaded
before the clock starts.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from bench.measuring import table
from pipeline.batches.collate import pad_rows
from pipeline.batches.pools import BatchTicket
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.features.encoders.info import describe
from pipeline.features.passes.extractor import FeatureExtractor
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.tasks.recipe import NETWORK, TaskRecipe
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.source import FRAMES, TaskSource
from pipeline.tasks.stage import prepare
from pipeline.tokens.quantize import quantize
from pipeline.training.feed import Feed
from pipeline.training.optimizer import make_optimizer
from pipeline.training.recipe import Tensors


class EncodingSource(TaskSource):
    """The micro-batches of a task, whose tokens are made anew each time."""

    def __init__(self, recipe: TaskRecipe, encoder: str, codebooks: str) -> None:
        """Load encoder and codebooks.

        Args:
            recipe: The task.
            encoder: What its tokens were made with.
            codebooks: The codebooks that they were made with.
        """
        super().__init__(recipe.data, recipe.task)
        self._recipe = recipe
        self._books = [book for book in read_codebooks(codebooks) if book.column in recipe.data.columns]
        layers = sorted({book.layer for book in self._books})
        info = describe(encoder, layers=layers)
        self._extractor = FeatureExtractor(encoder=encoder, layers=layers, batch_seconds=1e6)
        roots = Utterances(recipe.data.pieces()).roots
        self._waveforms = Waveforms(info.clock, roots, normalize=False, cache_bytes=0)

    def load(self, ticket: BatchTicket, step: int) -> Tensors:
        """Decode, encode and quantise a micro-batch."""
        found = self._extractor.extract([self._waveforms(piece) for piece in ticket.pieces])
        rows = []
        for features in found:
            assert isinstance(features, dict)
            tokens = quantize(features, self._books).columns
            rows.append(torch.stack([torch.from_numpy(tokens[name]) for name in self._recipe.data.columns], 1).numpy())
        labels = [str(piece.labels[self._recipe.task.label]) for piece in ticket.pieces]
        return {**pad_rows(rows).tensors(FRAMES), **self._recipe.task.tensors(labels)}

    def close(self) -> None:
        """End the decoding process."""
        self._waveforms.close()


def epoch_length(source: TaskSource) -> int:
    """Count the micro-batches of an epoch."""
    return sum(1 for _ in _first_epoch(source))


def _first_epoch(source: TaskSource) -> Iterator[BatchTicket]:
    for ticket, cursor in source.tickets(None):
        if cursor["epoch"]:
            return
        yield ticket


def train(recipe: TaskRecipe, source: TaskSource, num_steps: int) -> dict[str, Any]:
    """Train some steps of one micro-batch each; seconds of the whole and of waiting for data, and the last loss."""
    torch.manual_seed(0)
    model = recipe.build()[NETWORK].train()
    optimizer = make_optimizer(model, replace(recipe.optimizer, warmup_steps=0))
    feed = Feed(source, first_step=0, num_steps=num_steps, cursor=None, batches_per_step=1, rank=0, world_size=1)
    waited, losses = 0.0, []
    began = asked = time.perf_counter()
    for given in feed:
        waited += time.perf_counter() - asked
        (batch,) = given.batches
        losses.append(_step(recipe, model, optimizer, batch))
        asked = time.perf_counter()
    seconds = time.perf_counter() - began
    feed.close()
    return {"seconds": seconds, "waited": waited, "loss": statistics.fmean(losses[-5:])}


def _step(recipe: TaskRecipe, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Tensors) -> float:
    sums = recipe.losses(NETWORK, {NETWORK: model}, batch)[recipe.task.loss_name]
    assert torch.is_tensor(sums)
    loss = sums / recipe.task.count(batch).clamp(min=1)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
    optimizer.step()
    return loss.item()


def main() -> None:
    """Train both ways in turn, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--task", choices=["asr", "sid", "er"], required=True)
    parser.add_argument("--encoder", default="encoder-small")
    parser.add_argument("--test-speakers", nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    inputs = {name: f"{given.run}/{name}" for name in ("manifest", "tokens")}
    with tempfile.TemporaryDirectory() as folder:
        config = TrainTaskConfig.of(
            task=given.task, output=f"{folder}/out", num_steps=1, warmup_steps=0, crop_seconds=None,
            test_speakers=tuple(given.test_speakers), **inputs,
        )  # fmt: skip
        recipe = prepare(config).recipe
    # Whole utterances both ways: a crop of tokens cannot be had by encoding a crop of the recording.
    recipe = replace(recipe, data=replace(recipe.data, crop_frames=None))
    sources = {
        "from tokens": lambda: TaskSource(recipe.data, recipe.task),
        "encoder in the loop": lambda: EncodingSource(recipe, given.encoder, f"{given.run}/codebooks"),
    }
    steps = given.epochs * epoch_length(sources["from tokens"]())
    found = {}
    for name, make in sources.items():
        source = make()
        found[name] = train(recipe, source, steps)
        source.close()
    rows = [
        [
            name,
            f"{each['seconds'] / given.epochs:.2f}",
            f"{each['waited'] / each['seconds']:.1%}",
            f"{each['loss']:.4f}",
        ]
        for name, each in found.items()
    ]
    print(table(("epoch", "seconds", "waiting for data", "loss"), rows))
    ratio = found["encoder in the loop"]["seconds"] / found["from tokens"]["seconds"]
    print(f"{steps} steps; an epoch from tokens is {ratio:.1f} times as fast")
    print(json.dumps({"steps": steps, "ratio": ratio, **found}))


if __name__ == "__main__":
    main()
