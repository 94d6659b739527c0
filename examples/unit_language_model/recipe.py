"""What the training engine is given: a GPT-2 over ids, blocks of an export, and losses in nats.

``ids_loss`` is over all targets and is what is learned; ``rows_nats`` is over ids of utterances alone, without begin,
prefix and end, as the entropies of an export's card are, and ``rows_bits`` is the same in bits per id. Little data is
met with dropout, weight decay, and noise: some inputs are replaced by ids drawn as often as they occur.

Letters: B blocks, T ids of a block, V ids of the vocabulary.

Source: Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2); Xie et al. 2017, arXiv
1703.02573 (unigram noising; ours draws from the micro-batch).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from examples.unit_language_model.packing import IGNORED, Block, Corpus, Epoch, window, windows
from pipeline.errors import DatasetError
from pipeline.seeds import rng
from pipeline.training.progress import TOKENS, Unit
from pipeline.training.recipe import Json, Losses, Modules, Phase, Recipe, Sums, Tensors
from pipeline.training.settings import OptimizerSettings

IDS = "ids"
NETWORK = "model"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is read, and how it is cut.

    Attributes:
        train: Folder and name of each shard to learn from; all workers see them under this path.
        valid: Those of validation.
        block: Ids of a block, T.
        batch_blocks: Blocks of a micro-batch, B.
        noise: Share of inputs that are replaced in training by inputs from elsewhere in the micro-batch.
        end: Id of ``<|end_of_document|>``.
        seed: Seed of order and noise.
    """

    train: tuple[tuple[str, str], ...]
    valid: tuple[tuple[str, str], ...]
    block: int
    batch_blocks: int
    noise: float
    end: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class BlockTicket:
    """A micro-batch.

    Attributes:
        key: What tells it from all others.
        epoch: Its epoch; None for validation.
        blocks: Numbers of its blocks in the epoch; for validation, of windows.
    """

    key: str
    epoch: int | None
    blocks: tuple[int, ...]


class BlockSource:
    """Blocks of an export's documents; see ``pipeline.training.recipe.Source``."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings
        self._train, self._valid = Corpus(settings.train), Corpus(settings.valid)
        self._windows = [
            (number, start)
            for number, num_ids in enumerate(self._valid.lengths.tolist())
            for start in windows(settings.block, num_ids)
        ]
        self._epoch: tuple[int, Epoch] | None = None

    def _epoch_of(self, number: int) -> Epoch:
        # Read once: another thread may be drawing from the next epoch.
        known = self._epoch
        if known is None or known[0] != number:
            settings = self._settings
            epoch = Epoch(self._train, length=settings.block, end=settings.end, seed=settings.seed, epoch=number)
            known = self._epoch = (number, epoch)
        return known[1]

    def tickets(self, cursor: Json) -> Iterator[tuple[BlockTicket, Json]]:
        """Give micro-batches without end, epoch after epoch; the last one of an epoch may be smaller.

        Raises:
            DatasetError: There is nothing to learn from.
        """
        epoch, first = (0, 0) if cursor is None else (cursor["epoch"], cursor["block"])
        size = self._settings.batch_blocks
        while True:
            blocks = self._epoch_of(epoch).blocks.tolist()
            if not blocks:
                raise DatasetError("the training shards hold no document; export with a smaller --valid-fraction")
            for begin in range(first, len(blocks), size):
                ticket = BlockTicket(key=f"{epoch}/{begin}", epoch=epoch, blocks=tuple(blocks[begin : begin + size]))
                yield ticket, {"epoch": epoch, "block": begin + size}
            epoch, first = epoch + 1, 0

    def validation(self) -> Mapping[str, Sequence[BlockTicket]]:
        """Give all windows of all validation documents."""
        size = self._settings.batch_blocks
        tickets = [
            BlockTicket(
                key=f"validation/{begin}",
                epoch=None,
                blocks=tuple(range(begin, min(begin + size, len(self._windows)))),
            )
            for begin in range(0, len(self._windows), size)
        ]
        return {"validation": tickets}

    def load(self, ticket: BlockTicket, step: int) -> Tensors:
        """Read one micro-batch.

        Returns:
            ``inputs`` and ``targets`` int64 (B, T), ``rows`` bool (B, T).
        """
        blocks = [self._block(ticket.epoch, number) for number in ticket.blocks]
        inputs_BT, targets_BT, rows_BT = (
            np.stack([getattr(block, name) for block in blocks]) for name in ("inputs", "targets", "rows")
        )
        if ticket.epoch is not None and self._settings.noise:
            chance = rng(self._settings.seed, "noise", ticket.key, step)
            others_BT = chance.permutation(inputs_BT.ravel()).reshape(inputs_BT.shape)
            inputs_BT = np.where(chance.random(inputs_BT.shape) < self._settings.noise, others_BT, inputs_BT)
        return {
            "inputs": torch.from_numpy(inputs_BT),
            "targets": torch.from_numpy(targets_BT),
            "rows": torch.from_numpy(rows_BT),
        }

    def _block(self, epoch: int | None, number: int) -> Block:
        if epoch is not None:
            return self._epoch_of(epoch).block(number)
        document, start = self._windows[number]
        settings = self._settings
        return window(self._valid.document(document), start, length=settings.block, end=settings.end)

    def close(self) -> None:
        """Do nothing: files are memory maps."""


class UnitLanguageModel(torch.nn.Module):
    """A GPT-2 and its losses as sums."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.model = GPT2LMHeadModel(config)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor) -> Losses:
        """Sum the losses of a micro-batch.

        Args:
            inputs: int64 (B, T).
            targets: int64 (B, T), ``IGNORED`` where no loss is taken.
            rows: bool (B, T), targets that are ids of utterances.

        Returns:
            ``ids`` in nats, which is learned; to watch, ``rows_nats`` and ``rows_bits`` per id of an utterance.
        """
        logits_BTV = self.model(input_ids=inputs, use_cache=False).logits.float()
        nats_BT = cross_entropy(logits_BTV.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
        on_rows, count = (nats_BT.detach() * rows).sum(), rows.sum()
        return {
            IDS: nats_BT.sum(),
            "rows_nats": Sums(on_rows, count),
            "rows_bits": Sums(on_rows / math.log(2), count),
        }


@dataclass(frozen=True, kw_only=True)
class LanguageModelRecipe(Recipe):
    """Next-id prediction by a GPT-2; see ``pipeline.training.recipe.Recipe``.

    Attributes:
        data: What to read.
        network: Fields of the model's ``GPT2Config``.
        optimizer: How its weights are updated.
    """

    data: DataSettings
    network: Mapping[str, Json]
    optimizer: OptimizerSettings

    @property
    def phases(self) -> Sequence[Phase]:
        """The model."""
        return (Phase(name=NETWORK, optimizer=self.optimizer, losses={IDS: 1.0}),)

    @property
    def unit(self) -> Unit:
        """Ids."""
        return TOKENS

    def build(self) -> Modules:
        """Make the model with random weights."""
        return {NETWORK: UnitLanguageModel(GPT2Config(**self.network))}

    def amount(self, batch: Tensors) -> float:
        """Ids that a loss is taken of."""
        return int((batch["targets"] != IGNORED).sum())

    def counts(self, phase: str, batch: Tensors) -> Tensors:
        """Targets that a loss is taken of."""
        return {IDS: (batch["targets"] != IGNORED).sum()}

    def losses(self, phase: str, modules: Modules, batch: Tensors) -> Losses:
        """Predict the next ids of a micro-batch."""
        found: Losses = modules[NETWORK](**batch)
        return found

    def source(self) -> BlockSource:
        """Open the shards."""
        return BlockSource(self.data)
