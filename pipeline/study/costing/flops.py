"""Arithmetic of a training step and of evaluation, counted on the real networks before there is any data.

Loads torch when it counts, and not before. Memory: the weights of the network, for a moment.
"""

from functools import lru_cache
from typing import Any

from pipeline.study.costing.shapes import StepCost, TokenShape
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.vocoder.training.settings import TrainVocoderConfig

Config = TrainTaskConfig | TrainVocoderConfig

_PLACES = ("manifest", "output", "tokens", "features", "clean_tokens", "clean_manifest", "fuser")
_SOMEWHERE = "-"


def step_flops(config: Config, shape: TokenShape) -> StepCost:
    """Count the operations of one training step and of evaluation.

    Matrix products and convolutions are counted, for a micro-batch as full as the settings let it be, of utterances of
    one length. Not counted, because they are under 1 %: norms, activations, softmax, losses, spectra, the optimizer.
    Time: seconds; trials that differ in seed, places, or what embeddings begin as are counted once.

    Args:
        config: Settings of the training; the datasets that it names are not looked at.
        shape: What the tokens will be like.

    Raises:
        SettingsError: The settings do not fit the shape.
    """
    given = config.flat()
    same: dict[str, Any] = {name: _SOMEWHERE for name in _PLACES if given.get(name) is not None}
    return _counted(config.but(**same, seed=0, embedding_init="random", codebooks=None), shape)


@lru_cache(maxsize=1024)
def _counted(config: Config, shape: TokenShape) -> StepCost:
    # Not at the top: what shows settings or a finished estimate needs no torch.
    from pipeline.study.costing.counting import count_task, count_vocoder

    return count_task(config, shape) if isinstance(config, TrainTaskConfig) else count_vocoder(config, shape)
