"""Learning rates over a run: a warm-up, and what comes after it.

All but newbob are functions of the step alone. Newbob looks at validations; what it remembers is part of a checkpoint.

Source: Loshchilov and Hutter 2017, arXiv 1608.03983 (cosine, once); Vaswani et al. 2017, arXiv 1706.03762, section 5.3
(noam; scaled as in SpeechBrain, so that ``lr`` is the highest rate); Smith 2017, arXiv 1506.01186 (cyclic, triangular);
ICSI QuickNet, "newbob" (ours compares with the validation before, as SpeechBrain does).
"""

import math
from collections.abc import Mapping

from pipeline.training.settings import OptimizerSettings

Memory = Mapping[str, float]


def learning_rate(settings: OptimizerSettings, num_steps: int, step: int, memory: Memory | None = None) -> float:
    """Give the learning rate of a step.

    Args:
        settings: Highest rate, warm-up and decay.
        num_steps: Steps of the run.
        step: From 0.
        memory: What ``remember`` gave after the last validation; None before the first.

    Returns:
        A linear rise to the highest rate over the warm-up, then what ``decay`` says.
    """
    warmup = settings.warmup_steps
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    return settings.lr * _share(settings, num_steps, step - warmup, memory)


def _share(settings: OptimizerSettings, num_steps: int, after: int, memory: Memory | None) -> float:
    """Give the share of the highest rate, so many steps after the warm-up."""
    warmup, end = settings.warmup_steps, settings.lr_end
    if settings.decay == "constant":
        return 1.0
    if settings.decay == "newbob":
        return 1.0 if memory is None else memory["factor"]
    if settings.decay == "noam":
        return math.sqrt(warmup / (warmup + after + 1))
    if settings.decay == "exponential":
        return float(settings.decay_factor ** (after // settings.decay_steps))
    if settings.decay == "cyclic":
        place = after / settings.decay_steps % 2
        return end + (1 - end) * min(place, 2 - place)
    done = after / max(1, num_steps - 1 - warmup)
    left = 1 - done if settings.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return end + (1 - end) * left


def remember(settings: OptimizerSettings, memory: Memory | None, value: float) -> Memory:
    """Give what newbob remembers after a validation.

    Args:
        settings: Factor, threshold and patience.
        memory: What it remembered before; None at the first validation.
        value: The metric; less is better.

    Returns:
        ``factor`` of the rate, ``last`` value, and ``waited``: validations forgiven since the last multiplication.
    """
    if memory is None:
        return {"factor": 1.0, "last": value, "waited": 0}
    factor, last, waited = memory["factor"], memory["last"], memory["waited"]
    fallen = (last - value) / abs(last) if last else 0.0
    if not fallen >= settings.newbob_threshold:
        if waited < settings.newbob_patience:
            waited += 1
        else:
            factor, waited = factor * settings.decay_factor, 0
    return {"factor": factor, "last": value, "waited": waited}
