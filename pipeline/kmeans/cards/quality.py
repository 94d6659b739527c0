"""How good a codebook is: each measure a function of counts, so that it does not depend on who counted what.

All entropies and informations are in bits. p(k, y) is the share of the labelled frames that have code k and label y.
Shapes: K clusters, V values of a label, B bins of squared distances, D width, I iterations.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.cards.entropy import entropy
from pipeline.kmeans.cards.counts import CodeCounts, bin_edges
from pipeline.kmeans.fit import fixed_point

RARE = 0.1
"""A code is rare when it has less than this share of the frames that it would have if all codes were alike."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class CodeUse:
    """How evenly the codes are used.

    Attributes:
        frames: Frames counted.
        entropy_bits: Entropy H of the codes.
        perplexity: 2^H: as many codes used evenly would have the same entropy.
        share_of_log_k: H / log2 K; 1 when all codes are used alike.
        dead: Codes without a frame.
        rare: Codes with frames, but fewer than ``RARE`` times N / K.
        largest_share: Share of the frames that the most frequent code has.
    """

    frames: int
    entropy_bits: float
    perplexity: float
    share_of_log_k: float
    dead: int
    rare: int
    largest_share: float


def code_use(counts: np.ndarray) -> CodeUse:
    """Measure the use of codes from the frames of each, int64 (K,)."""
    frames, bits = int(counts.sum()), entropy(counts)
    # Compared in integers: counts / frames could round to either side.
    rare = (counts > 0) & (counts * round(1 / RARE) * len(counts) < frames)
    return CodeUse(
        frames=frames,
        entropy_bits=bits,
        perplexity=2.0**bits,
        share_of_log_k=bits / math.log2(len(counts)) if len(counts) > 1 else 1.0,
        dead=int((counts == 0).sum()),
        rare=int(rare.sum()),
        largest_share=int(counts.max(initial=0)) / frames if frames else 0.0,
    )


def explained_variance(counts: CodeCounts) -> float | None:
    """Give the share of the frames' variance that their centroids account for.

        1 - sum |x - c(x)|^2 / sum |x - m|^2, with m the mean of these frames

    It may be negative on frames unlike those that the codebook was fitted on. The sums are exact but for the rounding
    of each frame's square to 2^-24. None where all frames are equal.
    """
    frames = counts.frames
    pairs = zip(counts.high.tolist(), counts.low.tolist(), strict=True)
    sums = [(high << fixed_point.LIMB_BITS) + low for high, low in pairs]
    # (2^-24)^2 / 2^-24: squares of sums are in another unit than sums of squares.
    of_mean = Fraction(sum(value * value for value in sums), max(1, frames) << fixed_point.FRACTION_BITS)
    spread = counts.squared_norm - of_mean
    # Each square may have been rounded up by half a unit: less is no variance.
    if spread <= frames:
        return None
    return float(1 - counts.squared_distance / spread)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances of frames to their nearest centroids, Euclidean.

    Attributes:
        mean_square: Mean squared distance: inertia per frame.
        quantiles: Distance below which a share of the frames lies, by share as text; at most 1.6 % too large.
        histogram: Of each bin that is not empty its lower edge, its upper edge and its frames.
    """

    mean_square: float
    quantiles: Mapping[str, float]
    histogram: Sequence[tuple[float, float, int]]


def distances(counts: CodeCounts) -> Distances:
    """Describe the distribution of distances; needs at least one frame."""
    frames = counts.frames
    edges = np.sqrt(bin_edges())
    below = np.cumsum(counts.distances)
    found = {f"{share:g}": float(edges[1 + np.searchsorted(below, math.ceil(share * frames))]) for share in QUANTILES}
    filled = np.flatnonzero(counts.distances)
    return Distances(
        mean_square=counts.squared_distance / (frames << fixed_point.FRACTION_BITS),
        quantiles=found,
        histogram=[(float(edges[n]), float(edges[n + 1]), int(counts.distances[n])) for n in filled],
    )


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Repetitions, and what they are worth.

    Attributes:
        runs: Runs of one code within an utterance: the tokens left when repetitions are dropped.
        dedup_ratio: Runs by frames; 1 when no token repeats the one before.
        mean_length: Frames of a run.
        lengths: Pairs of a length in frames and the number of runs that have it, ascending.
    """

    runs: int
    dedup_ratio: float
    mean_length: float
    lengths: Sequence[tuple[int, int]]


def runs(counts: CodeCounts) -> Runs:
    """Describe the runs; needs at least one frame, and whole utterances."""
    number, frames = int(counts.runs.sum()), counts.frames
    return Runs(
        runs=number,
        dedup_ratio=number / frames,
        mean_length=frames / number,
        lengths=sorted((int(length), int(found)) for length, found in counts.run_lengths.items()),
    )


@dataclass(frozen=True, kw_only=True)
class Bitrate:
    """Bits a second of speech.

    Attributes:
        tokens_per_second: One a frame.
        fixed: tokens_per_second * log2 K: every token written with the same number of bits.
        entropy: tokens_per_second * H: an ideal code that knows how frequent tokens are, not what came before.
        dedup_tokens_per_second: Tokens when repetitions are dropped. This and the next two are None for a sample.
        dedup_fixed: The same as ``fixed`` of these; how long each lasted is not paid for.
        dedup_entropy: The same as ``entropy`` of these.
    """

    tokens_per_second: float
    fixed: float
    entropy: float
    dedup_tokens_per_second: float | None
    dedup_fixed: float | None
    dedup_entropy: float | None


def bitrate(counts: CodeCounts, frame_rate: float, *, whole_utterances: bool) -> Bitrate:
    """Give bitrates before and after repetitions are dropped; needs at least one frame."""
    bits = math.log2(len(counts.codes))
    left = frame_rate * int(counts.runs.sum()) / counts.frames if whole_utterances else None
    return Bitrate(
        tokens_per_second=frame_rate,
        fixed=frame_rate * bits,
        entropy=frame_rate * entropy(counts.codes),
        dedup_tokens_per_second=left,
        dedup_fixed=None if left is None else left * bits,
        dedup_entropy=None if left is None else left * entropy(counts.runs),
    )


def mutual_information(table: np.ndarray) -> float:
    """Give I(code; label) in bits from counts (K, V), H(code) + H(label) - H(code, label).

    It is the plain estimate, which for few frames is too large: independent codes and labels give about
    (K - 1) (V - 1) / (2 N ln 2), and more where frames of an utterance resemble each other.
    """
    return max(0.0, entropy(table.sum(axis=1)) + entropy(table.sum(axis=0)) - entropy(table))


def normalized_mutual_information(table: np.ndarray) -> float:
    """Give I(code; label) over the arithmetic mean of H(code) and H(label), from counts (K, V); 0 to 1.

    Of the normalisations in use this is the one of scikit-learn's default, also called V-measure. 0 where neither
    code nor label varies.

    Source: A. Rosenberg and J. Hirschberg, "V-Measure", EMNLP 2007.
    """
    mean = (entropy(table.sum(axis=1)) + entropy(table.sum(axis=0))) / 2
    return min(1.0, mutual_information(table) / mean) if mean else 0.0


def label_normalized_mutual_information(table: np.ndarray) -> float:
    """Give I(code; label) / H(label), from counts (K, V): the share of H(label) that the code takes away.

    With phones as labels it is the PNMI of HuBERT. It rises with K. 0 where the label does not vary.

    Source: W.-N. Hsu et al., "HuBERT", IEEE/ACM TASLP 29 (2021), arXiv 2106.07447.
    """
    bits = entropy(table.sum(axis=0))
    return min(1.0, mutual_information(table) / bits) if bits else 0.0


def phone_purity(table: np.ndarray) -> float:
    """Give the sum over codes of max_y p(k, y), from counts (K, V): accuracy when each code stands for its best label.

    Source: W.-N. Hsu et al., "HuBERT", IEEE/ACM TASLP 29 (2021), arXiv 2106.07447.
    """
    return _share(table.max(axis=1, initial=0), table)


def cluster_purity(table: np.ndarray) -> float:
    """Give the sum over labels of max_k p(k, y), from counts (K, V): accuracy when each label stands for its best code.

    Source: W.-N. Hsu et al., "HuBERT", IEEE/ACM TASLP 29 (2021), arXiv 2106.07447.
    """
    return _share(table.max(axis=0, initial=0), table)


def matched_agreement(table: np.ndarray) -> float:
    """Give the share of frames on which two codebooks agree, codes matched so that it is the largest.

    Args:
        table: int64 (K, K'), frames by their code in each codebook.
    """
    # Half a second of imports, and only a comparison with another codebook needs it.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return _share(table[rows, columns], table)


def _share(counts: np.ndarray, table: np.ndarray) -> float:
    total = int(table.sum())
    return int(counts.sum()) / total if total else 0.0
