"""What a training job gives the loop: a model, its data, and what its losses are. The loop knows no model.

Data come as *tickets*: small descriptions of micro-batches, the same on every worker, in an endless order. Worker r of
W loads every W-th ticket of a step, from r on, so that a step is the same whatever W is. A model gives sums, not means:
the loop divides them by counts over all workers, so that a counted frame weighs the same wherever it was computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch

Json = Any
Tensors = dict[str, torch.Tensor]


class Ticket(Protocol):
    """A micro-batch that any worker could load."""

    @property
    def key(self) -> str:
        """What tells it from all others of a run."""


AnyTicket = TypeVar("AnyTicket", bound=Ticket)


class Source(Protocol[AnyTicket]):
    """The data of a run, as one worker sees them."""

    def tickets(self, cursor: Json) -> Iterator[tuple[AnyTicket, Json]]:
        """Give micro-batches without end.

        Args:
            cursor: Where to begin, as it came with a ticket; None is the beginning.

        Yields:
            A ticket, and the cursor that begins after it.
        """

    def load(self, ticket: AnyTicket, step: int) -> Tensors:
        """Read and prepare one micro-batch; runs in a thread beside the training.

        Args:
            ticket: Which.
            step: The step it is for, which random choices are keyed by.

        Returns:
            Tensors by name, on the CPU; ``seconds``, a float64 scalar, is the audio in it.
        """

    def validation(self) -> Sequence[AnyTicket]:
        """Give the micro-batches that validation is computed on, always the same; none where there is no validation."""

    def close(self) -> None:
        """Let go of processes and files."""


class Recipe(Protocol):
    """A model and how it learns. It travels to the workers, so it holds settings and no tensors."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss by its name: the model gives its sum as ``NAME``, a batch its count as ``count_NAME``."""

    @property
    def ratios(self) -> Mapping[str, tuple[str, str]]:
        """Further results to watch, by name: an output of the model, and the loss whose count divides it."""

    @property
    def skips_weights(self) -> bool:
        """Whether a micro-batch may leave weights without a gradient, as where blocks are skipped at random."""

    def build(self) -> torch.nn.Module:
        """Make the model with its first weights; the same on every worker.

        Its ``forward`` takes the tensors of a micro-batch and gives scalar sums by name.
        """

    def source(self) -> Source[Any]:
        """Open the data."""
