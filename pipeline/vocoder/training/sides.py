"""Which utterances a vocoder learns from, which it is validated on, and which it never hears."""

from pipeline.audio.labels import SPLIT
from pipeline.batches.sides import VALIDATION, ByHash, Sides, Within
from pipeline.vocoder.training.settings import VocoderDataSettings

TEST = "test"


def vocoder_sides(data: VocoderDataSettings, seed: int) -> Sides:
    """Divide utterances by hash, within the splits that are used.

    Args:
        data: Says which splits, and what shares are held out.
        seed: Of the training.
    """
    shares = {VALIDATION: data.valid_fraction, TEST: data.test_fraction}
    drawn = ByHash(seed=seed, shares={side: part for side, part in shares.items() if part})
    return Within(column=SPLIT, values=data.splits, rest=drawn) if data.splits else drawn
