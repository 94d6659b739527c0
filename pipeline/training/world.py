"""A worker's place among all: sums, one answer for all, and networks that stay the same on each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True, kw_only=True)
class World:
    """A worker's place among all.

    Attributes:
        rank: Its number, from 0.
        size: Workers.
        device: Where it computes.
    """

    rank: int
    size: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Add a tensor up over all workers."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, value: Any) -> Any:
        """Give all workers what the first one has."""
        if self.size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found, device=self.device)
        return found[0]

    def gather(self, value: Any) -> list[Any]:
        """Give the first worker what each has, by rank; the others get nothing."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, found)
        return found or []

    @torch.no_grad()
    def share_buffers(self, modules: Iterable[torch.nn.Module]) -> None:
        """Make buffers equal on all workers.

        Statistics of BatchNorm become the mean of what each worker has seen; all other buffers become the first
        worker's. Weights need none of it: they are updated alike everywhere.
        """
        if self.size == 1:
            return
        for module in modules:
            means = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
            averaged = [found for part in means for found in (part.running_mean, part.running_var) if found is not None]
            for buffer in averaged:
                dist.all_reduce(buffer)
                buffer /= self.size
            known = {id(buffer) for buffer in averaged}
            for buffer in module.buffers():
                if id(buffer) not in known:
                    dist.broadcast(buffer, 0)
