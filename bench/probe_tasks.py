"""What probes are measured on: recordings with labels, their splits, pooling, and mutual information.

Letters: T frames, D width, K clusters, N utterances.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.small_corpus import DATA, KEPT_OUT_DIGIT_SPEAKER, KEPT_OUT_TAKES, digits, kept_out_readers, readers

SEGMENTS = 4
"""Segments of an utterance whose means are joined."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A recording with what is known of it; what is not known is None.

    Attributes:
        path: The file.
        corpus: ``fsdd``, ``emodb`` or ``librispeech``.
        speaker: Its speaker.
        digit: The digit that is said.
        take: Which repetition.
        emotion: One letter, as EmoDB names it.
        sex: ``F`` or ``M``.
        trained_on: Whether the encoder that ships was trained on it.
    """

    path: Path
    corpus: str
    speaker: str
    digit: int | None = None
    take: int | None = None
    emotion: str | None = None
    sex: str | None = None
    trained_on: bool = False


def recordings(data: Path = DATA) -> list[Labelled]:
    """List the recordings of all three corpora, in a stable order."""
    found = []
    for digit in digits(data):
        assert digit.take is not None
        heard = digit.take >= KEPT_OUT_TAKES and digit.speaker != KEPT_OUT_DIGIT_SPEAKER
        labels = {"digit": digit.digit, "take": digit.take, "trained_on": heard}
        found.append(Labelled(path=digit.path, corpus="fsdd", speaker=digit.speaker, **labels))
    for path in sorted((data / "emodb").rglob("*.wav")):
        found.append(Labelled(path=path, corpus="emodb", speaker=path.stem[:2], emotion=path.stem[5]))
    read = readers(data)
    apart, sexes = kept_out_readers(read), _sexes(data)
    for reader in read:
        labels = {"sex": sexes[reader.speaker], "trained_on": reader.speaker not in apart}
        found.append(Labelled(path=reader.path, corpus="librispeech", speaker=reader.speaker, **labels))
    return found


def _sexes(data: Path) -> dict[str, str]:
    (listed,) = (data / "LibriSpeech").rglob("SPEAKERS.TXT")
    rows = (line.split("|") for line in listed.read_text().splitlines() if not line.startswith(";"))
    return {row[0].strip(): row[1].strip() for row in rows}


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Utterances to train a classifier on, and those to test it on, as indices."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question asked of features.

    Attributes:
        label: What is asked of a recording.
        folds: Splits; the accuracy is over the test utterances of all of them.
    """

    label: Callable[[Labelled], object]
    folds: tuple[Fold, ...]


def tasks(found: Sequence[Labelled]) -> dict[str, Task]:
    """Give the five tasks over these recordings.

    ``digit`` and ``speaker``: FSDD, tested on takes 0 to 4. ``digit_new_speaker``: FSDD, tested on all takes of the
    speaker kept out. ``emotion``: EmoDB, each speaker in turn tested on the others. ``sex``: LibriSpeech, tested on the
    readers kept out.
    """

    def fold(corpus: str, is_test: Callable[[Labelled], bool]) -> Fold:
        chosen = [row for row, one in enumerate(found) if one.corpus == corpus]
        test = np.array([is_test(found[row]) for row in chosen])
        return Fold(train=np.array(chosen)[~test], test=np.array(chosen)[test])

    takes = fold("fsdd", lambda one: one.take is not None and one.take < KEPT_OUT_TAKES)
    actors = sorted({one.speaker for one in found if one.corpus == "emodb"})
    return {
        "digit": Task(label=lambda one: one.digit, folds=(takes,)),
        "digit_new_speaker": Task(
            label=lambda one: one.digit, folds=(fold("fsdd", lambda one: one.speaker == KEPT_OUT_DIGIT_SPEAKER),)
        ),
        "speaker": Task(label=lambda one: one.speaker, folds=(takes,)),
        "emotion": Task(
            label=lambda one: one.emotion,
            folds=tuple(fold("emodb", lambda one, actor=actor: one.speaker == actor) for actor in actors),  # type: ignore[misc]
        ),
        "sex": Task(label=lambda one: one.sex, folds=(fold("librispeech", lambda one: not one.trained_on),)),
    }


def pool(features: np.ndarray, segments: int = SEGMENTS) -> np.ndarray:
    """Join the means of equal segments of an utterance.

    Args:
        features: (T, D); with fewer frames than segments, frames are repeated so that each segment has one.
        segments: How many.

    Returns:
        float32 (segments * D,).
    """
    if len(features) < segments:
        features = features[np.arange(segments) * len(features) // segments]
    means = [part.mean(axis=0, dtype=np.float32) for part in np.array_split(features, segments)]
    return np.concatenate(means)


def bag(tokens: np.ndarray, num_clusters: int) -> np.ndarray:
    """Give the square roots of the shares of an utterance's frames that each token has.

    Args:
        tokens: (T,) in [0, K).
        num_clusters: K.

    Returns:
        float32 (K,).
    """
    counts = np.bincount(tokens, minlength=num_clusters)
    shares: np.ndarray = np.sqrt(counts / max(1, len(tokens))).astype(np.float32)
    return shares


def accuracy(
    inputs: np.ndarray, labels: np.ndarray, folds: Sequence[Fold], *, seed: int, inverse_penalty: float = 0.1
) -> float:
    """Train a logistic regression on each fold and count what it gets right.

    Args:
        inputs: (N, D).
        labels: (N,), of the utterances of the folds.
        folds: Splits.
        seed: 0 trains on every training utterance, any other on a bootstrap sample of them.
        inverse_penalty: scikit-learn's C.

    Returns:
        Share of the test utterances of all folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = total = 0
    for number, fold in enumerate(folds):
        train = fold.train
        if seed:
            train = np.random.default_rng([seed, number]).choice(train, len(train))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=150, tol=1e-3))
        model.fit(inputs[train], labels[train])
        right += int((model.predict(inputs[fold.test]) == labels[fold.test]).sum())
        total += len(fold.test)
    return right / total


def mutual_information(tokens: np.ndarray, labels: np.ndarray) -> float:
    """Estimate how much a token tells of a label, in bits.

    Source: the Miller-Madow correction adds (cells that occur - 1) / 2 N nats to each entropy (G. Miller, "Note on the
    bias of information estimates", 1955).

    Args:
        tokens: (N,) integers.
        labels: (N,) integers.
    """
    pairs = np.stack([tokens, labels], axis=1).astype(np.int64)
    joint = np.unique(pairs, axis=0, return_counts=True)[1]
    alone = (np.unique(column, return_counts=True)[1] for column in pairs.T)
    first, second = (_entropy(counts) for counts in alone)
    return (first + second - _entropy(joint)) / float(np.log(2))


def _entropy(counts: np.ndarray) -> float:
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * counts.sum()))
