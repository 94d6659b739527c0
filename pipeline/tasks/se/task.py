"""Speech enhancement on tokens as a task: the tokens of the clean recording, said from those of the noisy one.

Letters: B batch, T frames, H width, L target layers, C layers of the input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pipeline.tasks.blocks.settings import ConformerSettings
from pipeline.tasks.se import metrics
from pipeline.tasks.se.criterion import token_losses, wrong_tokens
from pipeline.tasks.se.model import SeModel
from pipeline.tasks.se.targets import CLEAN_URI, TargetLayer, trained_targets
from pipeline.tasks.source import CLEAN, FRAMES
from pipeline.tasks.task import Task
from pipeline.training.recipe import Row, Sums, Tensors


@dataclass(frozen=True, kw_only=True)
class SeTask(Task):
    """Which tokens the clean recording has.

    Attributes:
        settings: Sizes of the network.
        targets: The layers that are predicted (L).
        columns: The layers of the input (C), where it is tokens; empty for features.
    """

    settings: ConformerSettings
    targets: tuple[TargetLayer, ...]
    columns: tuple[str, ...]

    name = "se"
    label = CLEAN_URI
    loss_name = "token"
    best_by = metrics.RATE
    best_order = "min"

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Names of the layers that are predicted (L)."""
        return tuple(target.column for target in self.targets)

    def head(self, dim: int) -> torch.nn.Module:
        """Make the Conformer with an output per layer."""
        return SeModel(dim, [target.num_clusters for target in self.targets], self.settings)

    def tensors(self, labels: Sequence[str]) -> Tensors:
        """Give nothing: the source lays the clean tokens themselves beside the noisy ones."""
        return {}

    def count(self, batch: Tensors) -> torch.Tensor:
        """Real frames times layers."""
        return batch[f"{FRAMES}_mask"].sum() * len(self.targets)

    def loss(self, head: torch.nn.Module, output: Any, batch: Tensors) -> torch.Tensor:
        """Sum of the cross-entropies of all real frames and layers, nats."""
        return token_losses(output, batch[CLEAN], batch[f"{FRAMES}_mask"]).sum()

    def watched(self, output: Any, batch: Tensors) -> Mapping[str, Sums]:
        """Share of wrong tokens."""
        wrong = wrong_tokens(said_tokens(output), batch[CLEAN], batch[f"{FRAMES}_mask"])
        return {"wrong_share": Sums(wrong.sum().float(), self.count(batch))}

    def rows(self, head: torch.nn.Module, output: Any, batch: Tensors) -> Sequence[Row]:
        """Count the wrong tokens of each utterance, and those of its noisy tokens."""
        mask, clean = batch[f"{FRAMES}_mask"], batch[CLEAN]
        wrong = wrong_tokens(said_tokens(output), clean, mask).cpu().numpy()
        noisy = None
        if self.columns:
            places = [self.columns.index(name) if name in self.columns else -1 for name in self.target_columns]
            given = torch.stack([batch[FRAMES][..., place] for place in places], dim=-1)
            absent = torch.tensor([place < 0 for place in places], device=given.device)
            noisy = wrong_tokens(given, clean, mask).masked_fill(absent, -1).cpu().numpy()
        return metrics.rows(wrong, noisy, batch[f"{FRAMES}_lengths"].cpu().numpy(), self.target_columns)

    def measure(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Token error rates of the output and of the noisy tokens, overall and of each layer."""
        return metrics.measure(rows)

    def to_json(self) -> dict[str, Any]:
        """Give what is needed to make it again."""
        return {
            "conformer": asdict(self.settings),
            "targets": [asdict(target) for target in self.targets],
            "input_columns": list(self.columns),
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "SeTask":
        """Make it of what ``to_json`` gave."""
        return cls(
            settings=ConformerSettings(**given["conformer"]),
            targets=trained_targets(given),
            columns=tuple(given["input_columns"]),
        )


def said_tokens(output: Sequence[torch.Tensor]) -> torch.Tensor:
    """Give the likeliest token of each frame and layer, int64 (B, T, L); of two alike the lower one."""
    return torch.stack([logits.argmax(dim=-1) for logits in output], dim=-1)
