"""What pretraining gives the training loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.pretraining.model import MASKED, UNMASKED, Head, MaskedPrediction, build_encoder
from pipeline.pretraining.shapes import network_config
from pipeline.pretraining.source import DataSettings, TokenSource
from pipeline.training.recipe import Losses, Modules, Phase, Recipe, Tensors
from pipeline.training.settings import OptimizerSettings

NETWORK = "model"
"""Name of the encoder with its heads, in checkpoints."""


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Recipe):
    """Masked prediction of tokens by a HuBERT; see ``pipeline.training.recipe.Recipe``.

    Attributes:
        data: What to read and how to cut it.
        optimizer: How its weights are updated.
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
    optimizer: OptimizerSettings
    num_clusters: tuple[int, ...]
    shape: str
    init: str | None
    revision: str | None
    head: Head
    dropout: float
    layerdrop: float
    unmasked_weight: float

    @property
    def phases(self) -> Sequence[Phase]:
        """The encoder and its heads, updated together."""
        losses: Mapping[str, float] = {MASKED: 1.0, UNMASKED: self.unmasked_weight}
        return (Phase(name=NETWORK, optimizer=self.optimizer, losses=losses, skips_weights=self.layerdrop > 0),)

    def build(self) -> Modules:
        """Make the encoder and its heads."""
        shape = self.shape if self.init is None else None
        config = network_config(shape, dropout=self.dropout, layerdrop=self.layerdrop)
        encoder = build_encoder(config, self.init, self.revision)
        return {NETWORK: MaskedPrediction(encoder, self.num_clusters, self.head)}

    def amount(self, batch: Tensors) -> float:
        """Seconds of audio."""
        return batch["waveform"].numel() / self.data.clock.sample_rate

    def counts(self, phase: str, batch: Tensors) -> Tensors:
        """Frames that are masked, and those that are not."""
        mask = batch["mask"]
        return {MASKED: mask.sum(), UNMASKED: (~mask).sum()}

    def losses(self, phase: str, modules: Modules, batch: Tensors) -> Losses:
        """Predict the tokens of a micro-batch."""
        found: Losses = modules[NETWORK](**batch)
        return found

    def source(self) -> TokenSource:
        """Open the data."""
        return TokenSource(self.data)
