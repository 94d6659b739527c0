"""Which utterances a vocoder learns from, which it is validated on, and which it never hears."""

from collections.abc import Mapping
from typing import Any

from pipeline.audio.labels import SPLIT
from pipeline.batches.sides import VALIDATION, ByHash, Sides, Within
from pipeline.errors import DatasetError
from pipeline.vocoder.training.settings import VocoderDataSettings

TEST = "test"


def vocoder_sides(data: VocoderDataSettings, seed: int) -> Sides:
    """Divide utterances by hash, within the splits that are used.

    Args:
        data: Says which splits, and what shares are held out.
        seed: Of the training.
    """
    return _sides(data.splits, data.valid_fraction, data.test_fraction, seed)


def recorded_sides(training: Mapping[str, Any]) -> Sides:
    """Give the division that a saved vocoder was trained with.

    Args:
        training: What the folder's ``config.json`` says of it.

    Raises:
        DatasetError: It does not say.
    """
    try:
        splits, parts = tuple(training["splits"]), (training["valid_fraction"], training["test_fraction"])
        return _sides(splits, *parts, training["seed"])
    except KeyError as error:
        raise DatasetError(
            f"the vocoder's config.json does not say {error} of its training, and so not what it never heard"
        ) from None


def _sides(splits: tuple[str, ...], valid_fraction: float, test_fraction: float, seed: int) -> Sides:
    shares = {VALIDATION: valid_fraction, TEST: test_fraction}
    drawn = ByHash(seed=seed, shares={side: part for side, part in shares.items() if part})
    return Within(column=SPLIT, values=splits, rest=drawn) if splits else drawn
