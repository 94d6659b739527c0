"""The mathematics of bench/probes.py: pooling of frames, bags of tokens, mutual information. Arrays in, arrays out.

Shapes: N utterances, T frames, D width, K clusters, V values of a label.
"""

import math

import numpy as np

from pipeline.kmeans.cards.quality import mutual_information

SEGMENTS = 4


def pool_segments(features: np.ndarray) -> np.ndarray:
    """Describe an utterance of any length by the means of its four quarters, in their order.

    Quarters are those of ``numpy.array_split``: as equal as can be, longer ones first. Of an utterance of fewer than
    four frames each frame is repeated, as evenly as can be and in order, so that every quarter has one.

    Args:
        features: (T, D), T at least 1.

    Returns:
        float32 (4 D,).
    """
    wide = features.astype(np.float32)
    if len(wide) < SEGMENTS:
        wide = wide[np.arange(SEGMENTS) * len(wide) // SEGMENTS]
    return np.concatenate([quarter.mean(axis=0) for quarter in np.array_split(wide, SEGMENTS)])


def token_counts(tokens: np.ndarray, ends: np.ndarray, num_clusters: int) -> np.ndarray:
    """Count the tokens of each utterance.

    Args:
        tokens: Integers in [0, K), of all frames, utterance by utterance.
        ends: int64 (N + 1,), where utterances begin, and the end of the last.
        num_clusters: K.

    Returns:
        int64 (N, K).
    """
    utterances = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    cells = np.bincount(utterances * num_clusters + tokens, minlength=(len(ends) - 1) * num_clusters)
    counts: np.ndarray = cells.reshape(-1, num_clusters)
    return counts


def bag_of_tokens(counts: np.ndarray) -> np.ndarray:
    """Give the square roots of the shares of the tokens in each utterance, float32 (N, K), from counts (N, K).

    Squared distances of such rows are twice the squared Hellinger distances of the shares: a token heard once more
    counts for more where it is rare.
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    roots: np.ndarray = np.sqrt(shares).astype(np.float32)
    return roots


def label_table(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count tokens by label, int64 (K, V), from counts (N, K) and the label of each utterance (N,) in [0, V)."""
    table: np.ndarray = counts.T @ np.eye(int(labels.max()) + 1, dtype=np.int64)[labels]
    return table


def corrected_information(table: np.ndarray) -> float:
    """Give I(token; label) in bits from counts (K, V), each of the three entropies with Miller's correction.

    To an entropy over m filled cells, from N frames, (m - 1) / (2 N ln 2) bits are added. It may come out below 0,
    and is still too large where frames of an utterance resemble each other: see ``shuffled_information``.

    Source: G. Miller, "Note on the bias of information estimates", in Information Theory in Psychology, 1955.
    """
    frames = int(table.sum())
    if not frames:
        return 0.0
    filled = np.count_nonzero(table.sum(axis=1)) + np.count_nonzero(table.sum(axis=0)) - np.count_nonzero(table)
    return mutual_information(table) + (filled - 1) / (2 * frames * math.log(2))


def shuffled_information(counts: np.ndarray, labels: np.ndarray, *, shuffles: int = 20) -> tuple[float, float]:
    """Give what I(token; label) would come out as if tokens told nothing: means over shuffled labels.

    Labels change places between whole utterances, since frames of one resemble each other: labels shuffled frame by
    frame would give less.

    Args:
        counts: int64 (N, K).
        labels: int64 (N,).
        shuffles: Over how many the mean is taken; the same ones for all counts.

    Returns:
        Bits, of the plain estimate and of the corrected one.
    """
    rng = np.random.default_rng(0)
    tables = [label_table(counts, rng.permutation(labels)) for _ in range(shuffles)]
    plain = sum(mutual_information(table) for table in tables) / shuffles
    return plain, sum(corrected_information(table) for table in tables) / shuffles


def information(counts: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measure I(token; label) in bits in four ways: plain, corrected, and both with shuffled labels.

    Args:
        counts: int64 (N, K), tokens of each utterance.
        labels: int64 (N,).
    """
    table = label_table(counts, labels)
    plain, corrected = shuffled_information(counts, labels)
    return {
        "plain": mutual_information(table),
        "corrected": corrected_information(table),
        "shuffled_plain": plain,
        "shuffled_corrected": corrected,
    }
