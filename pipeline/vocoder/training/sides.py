"""Which utterances a vocoder learns from, which it is validated on, and which it never hears."""

from collections.abc import Mapping
from typing import Any

from pipeline.audio.labels import SPLIT
from pipeline.batches.sides import VALIDATION, ByHash, Sides, Within
from pipeline.errors import DatasetError
from pipeline.vocoder.training.settings import VocoderDataSettings

TEST = "test"


def vocoder_sides(data: VocoderDataSettings) -> Sides:
    """Divide utterances by hash, within the splits that are used.

    Args:
        data: Says which splits, what shares are held out, and by which seed.
    """
    return _sides(data.splits, data.valid_fraction, data.test_fraction, data.split_seed)


def recorded_sides(training: Mapping[str, Any]) -> Sides:
    """Give the division that a saved vocoder was trained with.

    Args:
        training: What the folder's ``config.json`` says of it.

    Raises:
        DatasetError: It does not say.
    """
    try:
        splits, parts = tuple(training["splits"]), (training["valid_fraction"], training["test_fraction"])
        # Before the division had a seed of its own it was the training's.
        return _sides(splits, *parts, training.get("split_seed", training["seed"]))
    except KeyError as error:
        raise DatasetError(
            f"the vocoder's config.json does not say {error} of its training, and so not what it never heard"
        ) from None


def _sides(splits: tuple[str, ...], valid_fraction: float, test_fraction: float, seed: int) -> Sides:
    shares = {VALIDATION: valid_fraction, TEST: test_fraction}
    drawn = ByHash(seed=seed, shares={side: part for side, part in shares.items() if part})
    return Within(column=SPLIT, values=splits, rest=drawn) if splits else drawn
