"""Describe codebooks: a card beside each, with its quality on speech it may not have seen.

Reads: a codebooks dataset, a features dataset of the same encoder, and where asked for a manifest's labels, an
alignment, another codebooks dataset. Writes: ``_cards/layer_07_k1000.{json,md}``, plots and ``_cards/index.md`` into
the codebooks' folder; its data and commits stay as they are. Restart: a card whose inputs are the same is not counted
again; a card's JSON appears last. Memory of a task: one row group of features, a shard's tokens, and 8 bytes for each
code and value of a label, twice. No feature crosses the object store, counts do.
"""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.audio.alignment import Alignment
from pipeline.audio.labels import manifest_values
from pipeline.audio.loading import Manifest
from pipeline.cards.plots import can_plot, wanted
from pipeline.errors import CodebookMismatchError, CorruptDatasetError, SettingsError
from pipeline.kmeans.cards.card import CARD_VERSION, CodebookCard, make_card
from pipeline.kmeans.cards.counts import CodeCounts
from pipeline.kmeans.cards.describe import ALIGNED, OTHER, Speech, Subject, describe, empty_counts, table_sizes
from pipeline.kmeans.cards.markdown import render, render_index
from pipeline.kmeans.cards.plots import PLOTS, draw
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_units
from pipeline.kmeans.residual import chains
from pipeline.passed_over import PassedOver
from pipeline.store.completion import read_shard_table, success
from pipeline.store.dataset import Dataset, canonical
from pipeline.store.storage import Store, absolute
from pipeline.work.runtime import set_threads

logger = logging.getLogger(__name__)

CARDS = "_cards"
MAX_CELLS = 1 << 24
"""Codes times values of a label at most: 128 MiB of counts."""

_GROUPS_PER_WORKER = 4


@dataclass(frozen=True, kw_only=True)
class CardsReport:
    """What describe_codebooks did.

    Attributes:
        stage: ``cards``.
        output: Folder of the codebooks.
        cards: Cards in its ``_cards`` now.
        cards_done_now: Cards counted by this run; the others were there.
        frames: Frames described, of each codebook.
        plots: Whether plots were drawn.
        wall_seconds: Time this run took.
        summary: One line a card.
        passed_over: Utterances that were left out, by kind (docs/passed_over.md).
    """

    stage: str
    output: str
    cards: int
    cards_done_now: int
    frames: int
    plots: bool
    wall_seconds: float
    summary: Mapping[str, str]
    passed_over: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        return [
            ("output", f"{self.output}/{CARDS}"),
            ("cards", f"{self.cards:,}, {self.cards_done_now:,} of them counted in this run"),
            ("frames", f"{self.frames:,}"),
            ("plots", "yes" if self.plots else 'none: pip install "strata-tokens[plots]"'),
            ("wall time", f"{self.wall_seconds:.1f} s"),
            *self.summary.items(),
            *PassedOver.of(self.passed_over).lines(),
        ]


@dataclass(frozen=True, kw_only=True)
class PreparedCards:
    """What the driver knows before Ray starts.

    Attributes:
        codebooks: The codebooks dataset.
        features: The features dataset.
        subjects: Codebooks to describe.
        speech: What to describe them on.
        made_from: By unit, what the numbers of its card follow from.
        passed_over: Utterances that are left out.
    """

    codebooks: Dataset
    features: Dataset
    subjects: Sequence[Subject]
    speech: Speech
    made_from: Mapping[str, Mapping[str, Any]]
    passed_over: PassedOver


def prepare(config: DescribeCodebooksConfig) -> PreparedCards:
    """Read codebooks and labels, and refuse what does not belong together. Needs no Ray.

    Raises:
        CodebookMismatchError: Codebooks and features are of different encoders, widths or layers.
        DatasetError: An input is not finished.
        SettingsError: A codebook to compare with is missing, the manifest is another one than the features were made
            from, a label is empty or has too many values, or the alignment cannot be read.
    """
    features = Dataset.open(absolute(config.features), kind="features")
    codebooks = Dataset.open(absolute(config.codebooks), kind="codebooks")
    books = _books(codebooks, config.layers)
    others = _books(Dataset.open(absolute(config.compare), kind="codebooks")) if config.compare else {}
    for found in (books, {unit: book for unit, book in others.items() if unit in books}):
        _check_books(found, features)
    if config.compare and (absent := sorted(set(books) - set(others))):
        raise SettingsError(f"{config.compare} has {', '.join(others)}; there is nothing to compare {absent} with")
    subjects = _subjects(books, others)
    passed_over = PassedOver()
    speech = _speech(config, features, passed_over)
    _check_sizes(subjects, speech)
    shared = {
        "card_version": CARD_VERSION,
        "features_sha256": success(features)["dataset_sha256"],
        "labels": {label.name: len(label.values) for label in speech.labels},
        "splits": sorted(config.speech.splits),
        "alignments_sha256": speech.alignment.sha256() if speech.alignment is not None else None,
    }
    made_from = {
        subject.unit: {
            **shared,
            "codebook_sha256": subject.book.sha256,
            "other_sha256": subject.other.sha256 if subject.other is not None else None,
        }
        for subject in subjects
    }
    passed_over.log(logger, features.uri)
    return PreparedCards(
        codebooks=codebooks,
        features=features,
        subjects=subjects,
        speech=speech,
        made_from=made_from,
        passed_over=passed_over,
    )


def _books(dataset: Dataset, layers: tuple[int, ...] = ()) -> dict[str, Codebook]:
    """Read the codebooks of a dataset by the names of their units; a layer may have several, of different K."""
    found = read_units(dataset)
    if absent := sorted(set(layers) - {book.layer for book in found.values()}):
        raise SettingsError(f"{dataset.uri} has codebooks {', '.join(found)}, none for layers {absent}")
    return {unit: book for unit, book in found.items() if not layers or book.layer in layers}


def _subjects(books: Mapping[str, Codebook], others: Mapping[str, Codebook]) -> list[Subject]:
    """Give each codebook its stages before, and those of the one to compare it with."""
    ours, theirs = chains(list(books.values())), chains(list(others.values()))
    return [
        Subject(
            unit=unit,
            book=book,
            prior=ours[book.layer, book.num_clusters][: book.quantizer],
            other=others.get(unit),
            other_prior=theirs.get((book.layer, book.num_clusters), [])[: book.quantizer],
        )
        for unit, book in books.items()
    ]


def _check_books(books: Mapping[str, Codebook], features: Dataset) -> None:
    lineage, faults = features.plan.lineage, []
    for unit, book in books.items():
        if book.encoder != lineage["encoder_sha256"]:
            faults.append(f"{unit} is of encoder {book.encoder}, the features of {lineage['encoder_sha256']}")
        if book.dim != lineage["dim"]:
            faults.append(f"{unit} has width {book.dim}, the features {lineage['dim']}")
        if book.layer not in lineage["layers"]:
            faults.append(f"{unit} is of layer {book.layer}, the features have layers {lineage['layers']}")
        if heard := book.heard_otherwise(lineage.get("normalize_waveform")):
            faults.append(heard)
    if faults:
        raise CodebookMismatchError(
            f"codebooks do not belong to the features of {features.uri}: {'; '.join(faults)}. "
            "Extract features of these layers with the encoder the codebooks were fitted on, or choose --layers"
        )


def _speech(config: DescribeCodebooksConfig, features: Dataset, passed_over: PassedOver) -> Speech:
    speech = Speech(features=features.uri, splits=config.speech.splits)
    if config.speech.manifest is not None:
        manifest = Manifest(absolute(config.speech.manifest))
        if success(manifest.dataset)["dataset_sha256"] != features.plan.lineage["input_sha256"]:
            raise SettingsError(
                f"{features.uri} was made from another manifest than {manifest.dataset.uri}; "
                "give the one it was made from"
            )
        values = manifest_values(manifest, config.speech.labels, config.speech.splits, passed_over)
        speech = replace(speech, manifest=manifest.dataset.uri, labels=values)
    if config.speech.alignments is not None:
        alignment = Alignment(absolute(config.speech.alignments))
        speech = replace(speech, alignment=alignment, aligned=alignment.values())
    return speech


def _check_sizes(subjects: Sequence[Subject], speech: Speech) -> None:
    for subject in subjects:
        sizes = table_sizes(speech) | ({OTHER: subject.other.num_clusters} if subject.other is not None else {})
        for name, size in sizes.items():
            if size * subject.book.num_clusters > MAX_CELLS:
                raise SettingsError(
                    f"{subject.unit} has {subject.book.num_clusters:,} codes and {name} {size:,} values; "
                    f"their product may be {MAX_CELLS:,} at most: leave it out, or describe smaller codebooks"
                )


def describe_codebooks(config: DescribeCodebooksConfig) -> CardsReport:
    """Write a card for every codebook of a dataset, from its use on the frames of a features dataset.

    The cards are the same for any number of workers.

    Raises:
        CodebookMismatchError: Codebooks and features are of different encoders, widths or layers.
        SettingsError: Labels, splits or a codebook to compare with do not exist, or there are no frames.
    """
    return count_cards(config).write()


def count_cards(config: DescribeCodebooksConfig) -> "CountedCards":
    """Do of ``describe_codebooks`` what needs workers; what is left needs one thread.

    Raises:
        CodebookMismatchError: See ``describe_codebooks``.
        SettingsError: See ``describe_codebooks``.
    """
    began = time.monotonic()
    prepared = prepare(config)
    store = prepared.codebooks.store
    cards = {
        subject.unit: _read(store, subject.unit, prepared.made_from[subject.unit]) for subject in prepared.subjects
    }
    missing = [subject for subject in prepared.subjects if cards[subject.unit] is None]
    if missing:
        counts = _count(prepared, missing, config)
        for subject in missing:
            cards[subject.unit] = _card(prepared, subject, counts[subject.unit])
    return CountedCards(
        store=store,
        cards={unit: card for unit, card in cards.items() if card is not None},
        made=frozenset(subject.unit for subject in missing),
        seconds=time.monotonic() - began,
        passed_over=prepared.passed_over,
    )


@dataclass(frozen=True, kw_only=True)
class CountedCards:
    """Cards with their numbers, not yet all written.

    Attributes:
        store: Folder of the codebooks.
        cards: By unit.
        made: Units whose cards were counted by this run.
        seconds: Time that this took.
        passed_over: Utterances that were left out.
    """

    store: Store
    cards: Mapping[str, CodebookCard]
    made: frozenset[str]
    seconds: float
    passed_over: PassedOver

    def write(self) -> CardsReport:
        """Draw and write what is not there, and the index."""
        began, plots = time.monotonic(), can_plot()
        there = set(self.store.names(CARDS))
        for unit, card in self.cards.items():
            if unit in self.made or not _files(unit, card, plots=plots) <= there:
                _write(self.store, unit, card, plots=plots)
        # Compared: a run that was killed has written its cards and not their index.
        index = render_index(read_cards(self.store)).encode()
        if "index.md" not in there or self.store.read(f"{CARDS}/index.md") != index:
            self.store.write(f"{CARDS}/index.md", index)
        return CardsReport(
            stage="cards",
            output=self.store.uri,
            cards=len(self.cards),
            cards_done_now=len(self.made),
            frames=next(iter(self.cards.values())).use.frames,
            plots=plots,
            wall_seconds=self.seconds + time.monotonic() - began,
            summary={unit: _summary(card) for unit, card in self.cards.items()},
            passed_over=self.passed_over.to_json(),
        )


def _summary(card: CodebookCard) -> str:
    explained = "none" if card.explained_variance is None else f"{card.explained_variance:.1%}"
    return (
        f"explained variance {explained}, perplexity {card.use.perplexity:,.0f} of {card.num_clusters:,}, "
        f"{card.use.dead:,} dead codes, {card.bitrate.entropy:,.0f} bit/s"
    )


def _card(prepared: PreparedCards, subject: Subject, counts: CodeCounts) -> CodebookCard:
    if not counts.frames:
        raise SettingsError(f"{prepared.features.uri} has no frames to describe {subject.unit} on")
    lineage = prepared.features.plan.lineage
    if prepared.speech.alignment is not None and not counts.tables[ALIGNED].any():
        raise SettingsError(
            f"no frame that describes {subject.unit} lies in an interval of {prepared.speech.alignment.uri}; its "
            f"utterance ids must be those of {prepared.features.uri}, or the names that they encode"
        )
    card = make_card(
        subject,
        counts,
        made_from=prepared.made_from[subject.unit],
        frame_rate=lineage["frame_rate"],
        sampled=lineage["sample_fraction"] != 1,
        splits=sorted(prepared.speech.splits),
        labels=[label.name for label in prepared.speech.labels],
    )
    # As it will be read back, so that a run that finds the card shows what this one shows.
    return CodebookCard.from_json(card.to_json(), subject.unit)


def _read(store: Store, unit: str, made_from: Mapping[str, Any]) -> CodebookCard | None:
    """Read a card that is there already, None where it must be made."""
    name = f"{CARDS}/{unit}.json"
    try:
        card = CodebookCard.from_json(store.read(name), f"{store.uri}/{name}")
    except (FileNotFoundError, CorruptDatasetError):
        return None
    if canonical(card.made_from) != canonical(made_from):
        logger.info("%s: its card was made from something else and is made again", unit)
        return None
    # A card of before such an alignment was refused.
    return card if card.alignment is None or card.alignment.frames else None


def _files(unit: str, card: CodebookCard, *, plots: bool) -> set[str]:
    """Name the files of a card."""
    drawn = {f"{unit}.{name}.png" for name in wanted(PLOTS, card)} if plots else set()
    return {f"{unit}.json", f"{unit}.md"} | drawn


def _write(store: Store, unit: str, card: CodebookCard, *, plots: bool) -> None:
    """Write a card: JSON last, after which it is found and not made again."""
    prefix = f"{CARDS}/{unit}"
    kept = wanted(PLOTS, card) if plots else []
    for name, data in draw(card).items() if plots else ():
        store.write(f"{prefix}.{name}.png", data)
    store.delete([f"{prefix}.{name}.png" for name in PLOTS if name not in kept])
    store.write(f"{prefix}.md", render(card, plots=plots).encode())
    store.write(f"{prefix}.json", card.to_json())


def read_cards(store: Store) -> list[CodebookCard]:
    """Read the cards beside the codebooks of a folder, those of other runs too; what is no card is left out."""
    names = [f"{CARDS}/{name}" for name in store.names(CARDS) if name.endswith(".json")]
    cards = []
    for name, data in zip(names, store.read_many(names), strict=True):
        with contextlib.suppress(CorruptDatasetError):
            cards.append(CodebookCard.from_json(data, name))
    return cards


def _count(
    prepared: PreparedCards, subjects: Sequence[Subject], config: DescribeCodebooksConfig
) -> dict[str, CodeCounts]:
    """Count all frames in tasks, each over a group of shards, and add up what comes back."""
    rows = read_shard_table(prepared.features)
    runner = config.work.choice(sum(rows["seconds"].to_pylist())).runner
    workers = config.num_workers or max(1, int(sum(node.cpus for node in runner.nodes())))
    units = prepared.features.plan.units
    number = min(len(units), _GROUPS_PER_WORKER * workers)
    groups = [(units[start::number],) for start in range(number)]
    total = empty_counts(subjects, prepared.speech)
    found = runner.tasks(_describe, groups, shared=(list(subjects), prepared.speech), workers=workers)
    for done, counts in enumerate(found, start=1):
        for unit, some in counts.items():
            total[unit].merge(some)
        frames = next(iter(total.values())).frames
        logger.info("cards: %d of %d groups of shards, %s frames", done, number, f"{frames:,}")
    return total


def _describe(shared: tuple[list[Subject], Speech], units: Sequence[str]) -> dict[str, CodeCounts]:
    set_threads(1)
    return describe(*shared, units)
