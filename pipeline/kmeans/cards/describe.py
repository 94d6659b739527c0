"""Count what some shards of a features dataset tell about codebooks. Knows no Ray: a task is ``describe``.

Cost: a search a codebook, and for one of residual stage q another q, of the stages before it.
Memory: one row group of features, the tokens of a shard, and the counts (``counts.py``).
Shapes: T frames, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.audio.alignment import NO_INTERVALS, Alignment, Intervals
from pipeline.audio.labels import Values, of_splits
from pipeline.audio.loading import open_manifest
from pipeline.features.feature_rows import FeatureRow, feature_rows
from pipeline.kmeans.cards.counts import CodeCounts
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.residual import reduce_by
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_pieces

ALIGNED, OTHER = "aligned", "other"
"""Tables of codes by the labels of an alignment, and by the codes of the other codebook."""


def label_table(name: str) -> str:
    """Name the table of codes by a label of utterances."""
    return f"label {name}"


def drawn_table(name: str) -> str:
    """Name the table of codes by a label that was drawn by hash."""
    return f"drawn {name}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A codebook to describe.

    Attributes:
        unit: Its name, as ``layer_07_k1000``.
        book: The codebook.
        other: Another one of the same layer, K and stage to compare its codes with.
        prior: The residual stages before the codebook, in order.
        other_prior: Those before the other one.
    """

    unit: str
    book: Codebook
    other: Codebook | None = None
    prior: Sequence[Codebook] = ()
    other_prior: Sequence[Codebook] = ()


@dataclass(frozen=True, kw_only=True)
class Speech:
    """The frames to describe codebooks on, and what is known of them.

    Attributes:
        features: URI of the features dataset.
        manifest: URI of the manifest they were made from, where labels or splits are asked for.
        splits: Splits of the manifest to keep; all where none is named.
        labels: Labels of utterances.
        alignment: Labels of frames.
        aligned: The values of that alignment.
    """

    features: str
    manifest: str | None = None
    splits: Sequence[str] = ()
    labels: Sequence[Values] = ()
    alignment: Alignment | None = None
    aligned: Values | None = None


@dataclass
class _Utterance:
    """One utterance of a shard: its labels by table, and its tokens so far by codebook with their first frames."""

    labels: dict[str, int]
    intervals: Intervals | None
    tokens: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)


def empty_counts(subjects: Sequence[Subject], speech: Speech) -> dict[str, CodeCounts]:
    """Give counts of no frames, by unit."""
    sizes = table_sizes(speech)
    return {
        subject.unit: CodeCounts(
            subject.book.num_clusters,
            subject.book.dim,
            sizes | ({OTHER: subject.other.num_clusters} if subject.other is not None else {}),
        )
        for subject in subjects
    }


def table_sizes(speech: Speech) -> dict[str, int]:
    """Give the values (V) of each table that labels need."""
    sizes = {name(label.name): len(label.values) for label in speech.labels for name in (label_table, drawn_table)}
    return sizes | ({ALIGNED: len(speech.aligned.values)} if speech.aligned is not None else {})


def describe(subjects: Sequence[Subject], speech: Speech, units: Sequence[str]) -> dict[str, CodeCounts]:
    """Count the frames of some shards.

    Args:
        subjects: Codebooks of layers that the features have.
        speech: The frames.
        units: Shards.

    Returns:
        Counts by unit of the codebooks.
    """
    features = Dataset.open(speech.features, kind="features")
    counts = empty_counts(subjects, speech)
    for unit in units:
        _describe_unit(features, unit, subjects, speech, counts)
    return counts


def _describe_unit(
    features: Dataset, unit: str, subjects: Sequence[Subject], speech: Speech, counts: dict[str, CodeCounts]
) -> None:
    utterances = _utterances(speech, unit)
    lineage = features.plan.lineage
    hop_seconds = lineage["hop_length"] / lineage["sample_rate"]
    whole = lineage["sample_fraction"] == 1
    layers = sorted({subject.book.layer for subject in subjects})
    seen: dict[str, _Utterance] = {}
    for table in read_pieces(features, unit):
        if speech.alignment is not None:
            _align(speech, table, utterances)
        for row in feature_rows(table, layers, lineage["dim"], f"{features.uri}/{unit}"):
            name = row.utterance_id
            if speech.splits and name not in utterances:
                continue
            utterance = seen.setdefault(name, utterances.get(name) or _Utterance(labels={}, intervals=None))
            _count_row(row, subjects, utterance, hop_seconds, counts, whole=whole)
    for subject in subjects:
        mine = counts[subject.unit]
        mine.utterances += len(seen)
        for utterance in seen.values() if whole else ():
            ordered = sorted(utterance.tokens[subject.unit], key=lambda piece: piece[0])
            mine.add_runs(np.concatenate([tokens for _, tokens in ordered]))


def _utterances(speech: Speech, unit: str) -> dict[str, _Utterance]:
    """Read the labels of a shard's utterances from the manifest."""
    if speech.manifest is None:
        return {}
    # A manifest's shards have the names of the features made from it.
    rows = of_splits(open_manifest(speech.manifest).rows(unit), speech.splits)
    names = rows["utterance_id"].to_pylist()
    labels: list[dict[str, int]] = [{} for _ in names]
    for label in speech.labels:
        for place, value in enumerate(rows[label.name].to_pylist()):
            number = label.number(value)
            labels[place][label_table(label.name)] = number
            labels[place][drawn_table(label.name)] = label.drawn(names[place]) if number >= 0 else -1
    return {name: _Utterance(labels=found, intervals=None) for name, found in zip(names, labels, strict=True)}


def _align(speech: Speech, table: pa.Table, utterances: dict[str, _Utterance]) -> None:
    """Give utterances that come up in a row group their intervals."""
    assert speech.alignment is not None
    assert speech.aligned is not None
    names = set(table["utterance_id"].to_pylist())
    if speech.splits:
        names &= set(utterances)
    for name in names - set(utterances):
        utterances[name] = _Utterance(labels={}, intervals=None)
    missing = [name for name in names if utterances[name].intervals is None]
    if missing:
        found = speech.alignment.intervals(missing, speech.aligned)
        for name in missing:
            utterances[name].intervals = found.get(name, NO_INTERVALS)


def _count_row(
    row: FeatureRow,
    subjects: Sequence[Subject],
    utterance: _Utterance,
    hop_seconds: float,
    counts: dict[str, CodeCounts],
    *,
    whole: bool,
) -> None:
    for subject in subjects:
        cell = row.cells[subject.book.layer]
        mine, left = counts[subject.unit], reduce_by(subject.prior, cell)
        tokens = subject.book.table.nearest(left).tokens
        mine.add_frames(left, subject.book.centroids, tokens)
        for name, label in utterance.labels.items():
            mine.add_labels(name, tokens, np.full(len(cell), label))
        if utterance.intervals is not None:
            mine.add_labels(ALIGNED, tokens, utterance.intervals.at(row.frames, hop_seconds))
        if subject.other is not None:
            others = subject.other.table.nearest(reduce_by(subject.other_prior, cell)).tokens
            mine.add_labels(OTHER, tokens, others)
        if whole:
            utterance.tokens.setdefault(subject.unit, []).append((row.first_frame, tokens.astype(np.uint16)))
