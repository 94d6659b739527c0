"""A codebook card: what a codebook is and how good, as facts that are written as JSON and read back.

The JSON is the card; ``markdown.py`` and ``plots.py`` show it. Equal codebooks on equal speech give equal bytes, for
any number of workers: numbers come from integer counts and are rounded to nine digits.
Shapes: K clusters, V values of a label.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.cards.facts import card_bytes
from pipeline.errors import CorruptDatasetError
from pipeline.kmeans.cards import quality
from pipeline.kmeans.cards.counts import CodeCounts
from pipeline.kmeans.cards.describe import ALIGNED, OTHER, Subject, drawn_table, label_table
from pipeline.kmeans.cards.quality import Bitrate, CodeUse, Distances, Runs

CARD_VERSION = 2
"""Goes up when a number of the card changes its meaning; such cards are made again."""

_LINEAGE = ("encoder", "encoder_sha256", "dtype", "frame_rate", "seed", "tolerance", "input_sha256", "inputs")


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What the codebook says of its own fit.

    Attributes:
        inertia: Sum of squared distances after each iteration.
        empty_clusters: Clusters that had no frame in each iteration; each was given half of a large one.
        use: Use of the codes by the frames it was fitted on.
    """

    inertia: Sequence[float]
    empty_clusters: Sequence[int]
    use: CodeUse


@dataclass(frozen=True, kw_only=True)
class Described:
    """The frames that the codebook was described on.

    Attributes:
        utterances: Utterances they come from.
        seconds: Their duration: frames by frame rate.
        sampled: Whether they are a sample of the frames, which has no runs.
        splits: Splits of the manifest that were kept; none when all were.
        fitted_on_these: Whether the features dataset is one that the codebook was fitted on.
    """

    utterances: int
    seconds: float
    sampled: bool
    splits: Sequence[str]
    fitted_on_these: bool


@dataclass(frozen=True, kw_only=True)
class UtteranceLabel:
    """What codes tell about a label of utterances.

    Attributes:
        values: V.
        frames: Frames whose utterance has the label.
        nmi: Mutual information over the mean of both entropies.
        nmi_drawn: The same of a label drawn at random for each utterance: what chance gives.
        share_of_label: Mutual information over the label's entropy.
        share_of_label_drawn: The same of the drawn label.
    """

    values: int
    frames: int
    nmi: float
    nmi_drawn: float
    share_of_label: float
    share_of_label_drawn: float


@dataclass(frozen=True, kw_only=True)
class FrameLabel:
    """What codes tell about the labels of an alignment.

    Attributes:
        values: V.
        frames: Frames that lie in an interval.
        phone_purity: Accuracy when each code stands for its best label.
        cluster_purity: Accuracy when each label stands for its best code.
        pnmi: Mutual information over the labels' entropy.
        nmi: Mutual information over the mean of both entropies.
    """

    values: int
    frames: int
    phone_purity: float
    cluster_purity: float
    pnmi: float
    nmi: float


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Agreement with another codebook of the layer on the same frames.

    Attributes:
        other_sha256: SHA-256 of the other codebook.
        other_seed: Its seed.
        other_num_clusters: Its K.
        matched_agreement: Share of frames whose codes are partners, under the best matching of codes.
        nmi: Mutual information of both codes over the mean of their entropies.
    """

    other_sha256: str
    other_seed: int | None
    other_num_clusters: int
    matched_agreement: float
    nmi: float


@dataclass(frozen=True, kw_only=True)
class CodebookCard:
    """Everything that is said of one codebook.

    Attributes:
        version: ``CARD_VERSION``.
        unit: Name of the codebook, as ``layer_07_k1000``.
        layer: Encoder layer.
        num_clusters: K.
        dim: D.
        lineage: What it was fitted on and how.
        made_from: Hashes and settings that the numbers follow from.
        fitting: The fit.
        described: The frames described.
        codes: Frames of each code, K numbers.
        use: Use of the codes by these frames.
        explained_variance: Share of their variance; None where they do not vary.
        distances: Distances to the nearest centroid.
        runs: Repetitions; None for a sample of frames.
        bitrate: Bits a second.
        labels: By column of the manifest.
        alignment: Frame labels, where an alignment was given.
        stability: Agreement with another codebook, where one was given.
        quantizer: Residual stage. The frames of a stage after 0 are what the stages before leave of the features.
    """

    version: int
    unit: str
    layer: int
    num_clusters: int
    dim: int
    lineage: Mapping[str, Any]
    made_from: Mapping[str, Any]
    fitting: Fitting
    described: Described
    codes: Sequence[int]
    use: CodeUse
    explained_variance: float | None
    distances: Distances
    runs: Runs | None
    bitrate: Bitrate
    labels: Mapping[str, UtteranceLabel]
    alignment: FrameLabel | None
    stability: Stability | None
    quantizer: int = 0

    def to_json(self) -> bytes:
        """Write the card: sorted keys, numbers of nine digits, a line for each of the attributes."""
        return card_bytes(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, source: str) -> "CodebookCard":
        """Read what ``to_json`` wrote.

        Raises:
            CorruptDatasetError: It is no card, or one of another version.
        """
        try:
            facts = json.loads(data)
            if facts["version"] != CARD_VERSION:
                raise ValueError(f"version {facts['version']}, this is {CARD_VERSION}")
            facts["fitting"]["use"] = CodeUse(**facts["fitting"]["use"])
            facts["labels"] = {name: UtteranceLabel(**found) for name, found in facts["labels"].items()}
            for name, kind in _PARTS.items():
                facts[name] = kind(**facts[name]) if facts[name] is not None else None
            return cls(**facts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptDatasetError(
                f"{source} is no codebook card ({error}); run describe_codebooks again"
            ) from error


_PARTS: dict[str, Any] = {
    "fitting": Fitting,
    "described": Described,
    "use": CodeUse,
    "distances": Distances,
    "runs": Runs,
    "bitrate": Bitrate,
    "alignment": FrameLabel,
    "stability": Stability,
}


def make_card(
    subject: Subject,
    counts: CodeCounts,
    *,
    made_from: Mapping[str, Any],
    frame_rate: float,
    sampled: bool,
    splits: Sequence[str],
    labels: Sequence[str],
) -> CodebookCard:
    """Compute a card from the counts of all frames.

    Args:
        subject: The codebook.
        counts: Of at least one frame.
        made_from: Hashes and settings; ``features_sha256`` tells whether the codebook was fitted on these.
        frame_rate: Frames a second.
        sampled: Whether the frames are a sample.
        splits: Splits kept.
        labels: Columns of the manifest that were counted.
    """
    book = subject.book
    return CodebookCard(
        version=CARD_VERSION,
        unit=subject.unit,
        layer=book.layer,
        quantizer=book.quantizer,
        num_clusters=book.num_clusters,
        dim=book.dim,
        lineage={name: book.lineage[name] for name in _LINEAGE if name in book.lineage},
        made_from=made_from,
        fitting=Fitting(
            inertia=book.inertia.tolist(),
            empty_clusters=list(book.lineage.get("empty_clusters", [])),
            use=quality.code_use(book.counts),
        ),
        described=Described(
            utterances=counts.utterances,
            seconds=counts.frames / frame_rate,
            sampled=sampled,
            splits=list(splits),
            fitted_on_these=made_from["features_sha256"] in book.fitted_on,
        ),
        codes=counts.codes.tolist(),
        use=quality.code_use(counts.codes),
        explained_variance=quality.explained_variance(counts),
        distances=quality.distances(counts),
        runs=None if sampled else quality.runs(counts),
        bitrate=quality.bitrate(counts, frame_rate, whole_utterances=not sampled),
        labels={name: _utterance_label(counts, name) for name in labels},
        alignment=_frame_label(counts) if ALIGNED in counts.tables else None,
        stability=_stability(subject, counts) if OTHER in counts.tables else None,
    )


def _utterance_label(counts: CodeCounts, name: str) -> UtteranceLabel:
    table, drawn = counts.tables[label_table(name)], counts.tables[drawn_table(name)]
    return UtteranceLabel(
        values=table.shape[1],
        frames=int(table.sum()),
        nmi=quality.normalized_mutual_information(table),
        nmi_drawn=quality.normalized_mutual_information(drawn),
        share_of_label=quality.label_normalized_mutual_information(table),
        share_of_label_drawn=quality.label_normalized_mutual_information(drawn),
    )


def _frame_label(counts: CodeCounts) -> FrameLabel:
    table = counts.tables[ALIGNED]
    return FrameLabel(
        values=table.shape[1],
        frames=int(table.sum()),
        phone_purity=quality.phone_purity(table),
        cluster_purity=quality.cluster_purity(table),
        pnmi=quality.label_normalized_mutual_information(table),
        nmi=quality.normalized_mutual_information(table),
    )


def _stability(subject: Subject, counts: CodeCounts) -> Stability:
    assert subject.other is not None
    table = counts.tables[OTHER]
    return Stability(
        other_sha256=subject.other.sha256,
        other_seed=subject.other.lineage.get("seed"),
        other_num_clusters=subject.other.num_clusters,
        matched_agreement=quality.matched_agreement(table),
        nmi=quality.normalized_mutual_information(table),
    )
