"""How well scores tell trials of one speaker from trials of two: EER and minDCF.

A trial is accepted where its score is at least the threshold. Trials of equal score are accepted together, so ties make
one operating point and their order does not matter.

Source: NIST Speaker Recognition Evaluation 2016 plan, section 3 (detection cost, normalised by the better of the two
systems that look at no score).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class OperatingPoints:
    """Errors at every threshold that tells trials apart, from accepting none to accepting all.

    Attributes:
        thresholds: float64 (P,), falling; the first is infinite.
        misses: Share of target trials refused, float64 (P,), from 1 to 0.
        false_alarms: Share of nontarget trials accepted, float64 (P,), from 0 to 1.
    """

    thresholds: np.ndarray
    misses: np.ndarray
    false_alarms: np.ndarray


def operating_points(scores: np.ndarray, same: np.ndarray) -> OperatingPoints:
    """Count errors at every threshold.

    Args:
        scores: Of each trial (N,), higher where the speakers are more alike.
        same: Whether the trial is of one speaker, bool (N,).

    Raises:
        ValueError: Trials of one kind are absent, or a score is not finite.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.shape != same.shape or not np.isfinite(scores).all():
        raise ValueError("every trial needs a finite score, and whether its speakers are the same")
    if same.all() or not same.any():
        raise ValueError(f"trials of both kinds are needed, got {same.sum()} of one speaker and {(~same).sum()} of two")
    thresholds, place = np.unique(scores, return_inverse=True)
    targets = np.bincount(place[same], minlength=len(thresholds))[::-1].cumsum()
    nontargets = np.bincount(place[~same], minlength=len(thresholds))[::-1].cumsum()
    return OperatingPoints(
        thresholds=np.concatenate([[np.inf], thresholds[::-1]]),
        misses=np.concatenate([[1.0], 1 - targets / targets[-1]]),
        false_alarms=np.concatenate([[0.0], nontargets / nontargets[-1]]),
    )


def equal_error_rate(points: OperatingPoints) -> float:
    """Give the rate at which misses equal false alarms, on straight lines between neighbouring operating points."""
    apart = points.false_alarms - points.misses
    after = int(np.argmax(apart >= 0))
    before = after - 1
    share = -apart[before] / (apart[after] - apart[before])
    return float(points.misses[before] + share * (points.misses[after] - points.misses[before]))


def min_dcf(points: OperatingPoints, *, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Give the least detection cost over all thresholds, 1 for a system that looks at no score.

    Args:
        points: Errors at every threshold.
        p_target: Share of trials of one speaker that is expected, in (0, 1).
        c_miss: Cost of refusing a trial of one speaker.
        c_fa: Cost of accepting a trial of two.

    Raises:
        ValueError: A value is out of range.
    """
    if not (0 < p_target < 1 and c_miss > 0 and c_fa > 0):
        raise ValueError(f"p_target must be in (0, 1) and costs above 0, got {p_target}, {c_miss}, {c_fa}")
    miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
    return float((miss * points.misses + alarm * points.false_alarms).min() / min(miss, alarm))


def cosine_scores(embeddings: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Score trials by the cosine of two embeddings.

    Args:
        embeddings: (U, E), one per utterance, none of length 0.
        first: Row of each trial's first utterance, integers (N,).
        second: Row of its second, integers (N,).

    Returns:
        float64 (N,).

    Raises:
        ValueError: An embedding has length 0 or is not finite.
    """
    vectors = np.asarray(embeddings, np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("an embedding has length 0 or is not finite, and so has no direction")
    units = vectors / norms
    scores: np.ndarray = (units[first] * units[second]).sum(axis=1)
    return scores
