"""What pretraining gives the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.pretraining.model import MASKED, UNMASKED, Head, MaskedPrediction, build_encoder
from pipeline.pretraining.shapes import network_config
from pipeline.pretraining.source import DataSettings, TokenSource

RATIOS = {"masked_accuracy": (f"{MASKED}_correct", MASKED), "unmasked_accuracy": (f"{UNMASKED}_correct", UNMASKED)}


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """Masked prediction of tokens by a HuBERT; see ``pipeline.training.recipe.Recipe``.

    Attributes:
        data: What to read and how to cut it.
        num_clusters: K of each target column.
        shape: A key of ``shapes.SHAPES``; not looked at where ``init`` is given.
        init: Encoder whose weights training begins with.
        revision: Git revision of ``init``.
        head: What predicts tokens from the last layer.
        dropout: Of activations and attention.
        layerdrop: Share of blocks skipped at random.
        unmasked_weight: Weight of the loss on frames that are heard; on masked ones it is 1.
    """

    data: DataSettings
    num_clusters: tuple[int, ...]
    shape: str
    init: str | None
    revision: str | None
    head: Head
    dropout: float
    layerdrop: float
    unmasked_weight: float
    ratios: Mapping[str, tuple[str, str]] = field(default_factory=lambda: dict(RATIOS))

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss."""
        return {MASKED: 1.0, UNMASKED: self.unmasked_weight}

    @property
    def skips_weights(self) -> bool:
        """Whether blocks are skipped at random."""
        return self.layerdrop > 0

    def build(self) -> torch.nn.Module:
        """Make the encoder and its heads."""
        shape = self.shape if self.init is None else None
        config = network_config(shape, dropout=self.dropout, layerdrop=self.layerdrop)
        return MaskedPrediction(build_encoder(config, self.init, self.revision), self.num_clusters, self.head)

    def source(self) -> TokenSource:
        """Open the data."""
        return TokenSource(self.data)
