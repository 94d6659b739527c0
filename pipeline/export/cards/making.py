"""Makes the card of an export from what its parts hold: counts, a sample of the ids, commits. Knows no Ray.

Writes ``card.json``, ``README.md`` and, where matplotlib is installed, ``_card/*.png``; the same export gives the same
bytes. Memory: the sample, and the sum of the counts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.cards.plots import can_plot
from pipeline.export.cards import markdown, ngrams, plots
from pipeline.export.cards.card import ExportCard, FormatFacts, make_card
from pipeline.export.cards.statistics import Statistics
from pipeline.export.formats.registry import FORMATS
from pipeline.export.grouping import TRAIN, VALID, key_of
from pipeline.export.ids.bpe import UnitBpe
from pipeline.export.ids.encoding import Encoding
from pipeline.export.ids.vocabulary import Vocabulary
from pipeline.export.shards.layout import read_columns
from pipeline.export.shards.parts import Part, read_parts
from pipeline.store.dataset import PLAN, SUCCESS, Dataset
from pipeline.store.storage import Store, join, open_store

JSON, MARKDOWN = "card.json", "README.md"
UNITS_OF_A_TASK = 1_000
"""Adding up a unit's counts takes 4 ms: 13 minutes for those of 100,000 hours in one process."""
SPREAD = 4
"""The sample is taken from units with so many times its ids, so that it is not a few units whole."""


def finished_parts(root: Dataset) -> list[tuple[Part, Dataset]]:
    """Give the parts whose sequences are whole, and these."""
    found = [(part, _finished(root, "sequences", part)) for part in read_parts(root.store)]
    return [(part, dataset) for part, dataset in found if dataset is not None]


def counting_work(root: Dataset) -> list[tuple[str, list[str]]]:
    """Divide the units whose counts are added up: URI of sequences and some of their units, for ``statistics_of``."""
    return [
        (dataset.uri, list(dataset.plan.units[start : start + UNITS_OF_A_TASK]))
        for _, dataset in finished_parts(root)
        for start in range(0, len(dataset.plan.units), UNITS_OF_A_TASK)
    ]


def write_card(
    root: Dataset,
    encoding: Encoding,
    vocabulary: Vocabulary,
    statistics: Statistics,
    found_ngrams: ngrams.NgramEntropies | None,
) -> ExportCard:
    """Make the card of all finished parts, and write it at the root of the export.

    Args:
        root: The export.
        encoding: How this part's utterances became rows; others differ in special tokens alone.
        vocabulary: The vocabulary with the special tokens of all parts.
        statistics: Sum of the counts of all units.
        found_ngrams: What ``ngrams_of`` gave.
    """
    parts = [part for part, _ in finished_parts(root)]
    bpe = None if encoding.bpe is None else UnitBpe.from_bytes(encoding.bpe, vocabulary, root.uri)
    formats = {name: _facts([form for part in parts if (form := _finished(root, name, part))]) for name in FORMATS}
    card = make_card(
        root.uri.rstrip("/").rpartition("/")[2],
        statistics,
        vocabulary=vocabulary,
        pattern=encoding.pattern,
        bpe=bpe,
        ngrams=found_ngrams,
        formats={name: facts for name, facts in formats.items() if facts is not None},
        rejects=_rejects(parts),
        lineage={part.name: _lineage(part) for part in parts},
    )
    _write(root.store, card)
    return card


def _finished(root: Dataset, kind: str, part: Part) -> Dataset | None:
    uri = join(root.uri, kind, part.name)
    store = open_store(uri)
    return Dataset.open(uri) if store.exists(PLAN) and store.exists(SUCCESS) else None


def _write(store: Store, card: ExportCard) -> None:
    drawn = can_plot()
    for name, content in (plots.draw(card) if drawn else {}).items():
        store.write(f"{markdown.FOLDER}/{name}.png", content)
    store.write(MARKDOWN, markdown.render(card, plots=drawn).encode())
    store.write(JSON, card.to_json())


def _facts(datasets: Sequence[Dataset]) -> FormatFacts | None:
    """Add the commits of a format's parts up; None where it was not written."""
    if not datasets:
        return None
    commits = [commit for dataset in datasets for commit in dataset.commits()]
    imbalances = [0.0]
    for dataset in datasets:
        for side in (TRAIN, VALID):
            sizes = [commit.notes["ids"] for commit in dataset.commits() if commit.unit.startswith(side)]
            mean = sum(sizes) / max(1, len(sizes))
            imbalances += [abs(size / mean - 1) for size in sizes if mean]
    return FormatFacts(
        files=sum(1 + len(commit.beside) for commit in commits),
        bytes=sum(file.bytes for commit in commits for file in (commit.data, *commit.beside.values())),
        documents=sum(commit.data.rows for commit in commits),
        ids=sum(commit.notes["ids"] for commit in commits),
        shards=len(commits),
        largest_imbalance=max(imbalances),
        sides=[side for side in (TRAIN, VALID) if any(commit.unit.startswith(side) for commit in commits)],
    )


def ngrams_of(root: str, vocabulary: Vocabulary) -> ngrams.NgramEntropies | None:
    """Measure n-grams on rows of units that a hash chooses, all where they fit into the budget.

    Takes 24 s and 1 GB for a sample of 20 million ids.
    """
    if vocabulary.used >= ngrams.MAX_IDS:
        return None
    sequences = [dataset for _, dataset in finished_parts(Dataset.open(root, finished=False))]
    chosen: list[tuple[Dataset, str]] = []
    ids = 0
    for dataset, unit, number in sorted(_units(sequences), key=lambda found: _order(found[0], found[1])):
        if ids >= SPREAD * ngrams.BUDGET:
            break
        chosen.append((dataset, unit))
        ids += number
    limit = ngrams.row_limit(ids)
    samples = (
        ngrams.IdSample.of(table, vocabulary, limit)
        for dataset, unit in chosen
        for table in read_columns(dataset, ("utterance_id", "num_ids", "ids"), [unit])
    )
    return ngrams.measure(ngrams.IdSample.total(samples), vocabulary.used)


def _order(dataset: Dataset, unit: str) -> int:
    # The name of the part, not its place, so that an export has the same card wherever it lies.
    return key_of(unit, dataset.uri.rpartition("/")[2])


def _units(sequences: Sequence[Dataset]) -> Iterator[tuple[Dataset, str, int]]:
    for dataset in sequences:
        for commit in dataset.commits():
            yield dataset, commit.unit, commit.notes["ids"]


def _rejects(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for part in parts:
        for dataset, reasons in part.rejects.items():
            found.setdefault(dataset, Counter()).update(reasons)
    return {dataset: dict(sorted(reasons.items())) for dataset, reasons in found.items()}


def _lineage(part: Part) -> Mapping[str, Any]:
    hashes = {"tokens_sha256": part.tokens_sha256, "manifest_sha256": part.manifest_sha256}
    return {"corpus": part.corpus, **part.lineage, **hashes}
