"""Who does the work of a stage: Ray, on a cluster or on this machine, or this process. One protocol, two of them.

A runner does three kinds of work: *units* of a dataset, which are made and committed; *tasks*, functions whose results
come back; and *actors*, objects that hold something and are asked again and again. Data bytes are the same for both:
what a unit is made of depends on the plan alone. ``on_ray.py`` and ``here.py`` are the two; neither is imported before
it is chosen, so that a stage with nothing left to do starts no Ray.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from pipeline.store.dataset import Dataset
from pipeline.work.meters import Meter
from pipeline.work.units import Done, Load, MakerFactory
from pipeline.work.worker_shape import Node, WorkerShape

RunnerKind = Literal["ray", "here"]


class Actors(Protocol):
    """Objects of one class, each in a worker of its own."""

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of each, all at once.

        Returns:
            The answers, in the order of the actors.
        """

    def total(self, add: Callable[..., Any], method: str, *arguments: Any) -> Any:
        """Call a method of each and add the answers up, ``add(*some)`` at a time, in any order."""

    def close(self) -> None:
        """End them."""


class Runner(Protocol):
    """Does the work of stages."""

    name: RunnerKind

    def nodes(self) -> list[Node]:
        """Say what the machines have on which it works."""

    def meter(self) -> Meter:
        """Give what takes the metrics of one stage, which closes it; called when the workers are there."""

    def units(
        self,
        dataset: Dataset,
        units: Sequence[str],
        *,
        load: Load | None,
        factory: MakerFactory,
        shape: WorkerShape,
        numerics_mode: str = "same",
    ) -> Iterator[Done]:
        """Make and commit units, yielding each as its commit lands, in any order.

        Args:
            dataset: The dataset being written.
            units: Units without a commit.
            load: Gives a unit's utterances, beside the makers; None when the maker reads its own input.
            factory: Builds the maker, once in each worker.
            shape: How many workers, and what each has.
            numerics_mode: ``same`` refuses a worker whose bits may differ from the first one's; ``any`` admits it.

        Raises:
            PipelineError: What a worker raised; the run stops, commits stay.
        """

    def tasks(
        self,
        function: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        *,
        shared: Any = None,
        workers: int,
        cpus: float = 1,
        gpus: float = 0,
    ) -> Iterator[Any]:
        """Call a function for each of many arguments, yielding results as they come, in any order.

        Args:
            function: Picklable; called as ``function(shared, *arguments)``.
            arguments: Of each call.
            shared: First argument of every call, sent once to each node.
            workers: Calls at the same time, at most.
            cpus: CPUs that a call claims.
            gpus: GPUs that a call claims.

        Raises:
            PipelineError: What the function raised, or that its workers died again and again.
        """

    def actors(
        self, kind: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, cpus: float, gpus: float
    ) -> Actors:
        """Start an object for each of some arguments. One that dies begins anew and answers as before."""
