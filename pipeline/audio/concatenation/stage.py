"""Join short utterances into longer ones, without copying audio: a manifest whose rows list pieces.

Reads: a manifest. Writes: a manifest dataset of ``schema.JOINED_MANIFEST``, which every later stage reads as any other.
Restart: files without a commit are written, others not; the rows are drawn again, always alike. Needs no Ray.
Memory: the driver holds the source manifest and the joined one as Arrow columns, about 200 bytes an utterance and pass
each, and as Python objects one group of ``by`` at a time: of a corpus without speakers all of it, 2 kB an utterance.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.audio.concatenation.joining import Joining, joined_row
from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.loading import INDEX, JOINED, RECORDINGS, Manifest
from pipeline.audio.manifest_files import CANDIDATES_PER_FILE, commit_rows
from pipeline.errors import SettingsError
from pipeline.passed_over import Kind, PassedOver
from pipeline.seeds import rng
from pipeline.store.completion import finish, status, success, unless_finished
from pipeline.store.dataset import Dataset, Plan, check_folder, sha256
from pipeline.store.provenance import record_settings
from pipeline.store.storage import located, open_store
from pipeline.work.reporting import StageReport, Tally

logger = logging.getLogger(__name__)

DATA_VERSION = 1
_SPLIT = "split"
_BATCH = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedConcatenation:
    """What is known before anything is written: the plan, the joined rows, and what was passed over."""

    plan: Plan
    rows: pa.Table
    passed_over: PassedOver


def prepare(config: ConcatenateCorpusConfig) -> PreparedConcatenation:
    """Draw the joined utterances, plan their manifest and refuse a folder that holds another one. Writes nothing.

    Raises:
        SettingsError: The manifest is of joined utterances itself, has not these labels, or too few utterances.
        ManifestError: With ``strict``, utterances are left over or have no label.
        PlanMismatchError: The output folder was made with other settings or from another manifest.
    """
    source = Manifest(config.manifest)
    if source.joined:
        raise SettingsError(
            f"{config.manifest} is of joined utterances, which are not joined again; give the manifest that it was "
            "made from, and more pieces with per_utterance"
        )
    passed_over = PassedOver()
    rows = _joined(config, source, passed_over)
    passed_over.log(logger, config.manifest)
    strict = config.strict or source.strict
    if strict:
        passed_over.refuse(config.manifest)
    plan = Plan(
        kind="manifest",
        content={
            "concatenation_version": DATA_VERSION,
            "manifest_sha256": success(source.dataset)["dataset_sha256"],
            "per_utterance": list(config.per_utterance),
            "by": list(config.by),
            "silence_seconds": list(config.silence_seconds),
            "passes": config.passes,
            "seed": config.seed,
            "shard_minutes": config.shard_minutes,
            "strict": strict,
        },
        lineage={
            "kind": "manifest",
            "schema_version": schema.SCHEMA_VERSION,
            "roots": list(source.roots),
            "layout": JOINED,
            "manifest_sha256": success(source.dataset)["dataset_sha256"],
        },
        units=[f"manifest-{number:05d}" for number in range(-(-rows.num_rows // CANDIDATES_PER_FILE))],
        totals={"rows": rows.num_rows, "seconds": _seconds(rows)},
    )
    check_folder(open_store(config.output), plan)
    return PreparedConcatenation(plan=plan, rows=rows, passed_over=passed_over)


def concatenate_corpus(config: ConcatenateCorpusConfig) -> StageReport:
    """Join short utterances of a manifest into longer ones, with silences between: the same ones for the same seed.

    Raises:
        SettingsError: The manifest is of joined utterances itself, has not these labels, or too few utterances.
        ManifestError: With ``strict``, utterances are left over or have no label.
        PlanMismatchError: The output folder was made with other settings or from another manifest.
    """
    config = located(config, "manifest", "output")
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    tally = Tally(status(dataset))
    if not dataset.finished():
        with unless_finished(dataset):
            notes = {RECORDINGS: {"whole": 0, "parts": prepared.rows.num_rows}} | prepared.passed_over.note()
            commit_rows(dataset, prepared.rows, schema.REJECTS.empty_table(), config.shard_minutes, notes)
    digest = finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    end = status(dataset)
    report = tally.report(end, workers="this process", dataset_sha256=digest)
    return replace(report, stage="manifest", output=dataset.uri, units_done_now=end.done - tally.start.done)


def _joined(config: ConcatenateCorpusConfig, source: Manifest, passed_over: PassedOver) -> pa.Table:
    """Draw the rows of the joined manifest."""
    least, most = config.per_utterance
    joining = Joining(least=least, most=most, silence_seconds=config.silence_seconds)
    batches: list[pa.Table] = []
    batch: list[dict[str, object]] = []
    for key, group in _groups(config, source, passed_over):
        rows = group.to_pylist()
        for number in range(config.passes):
            # Not the key alone: a label may hold anything, and None is no text.
            draw = rng(config.seed, "concatenate", repr(key), number)
            used = np.zeros(len(rows), bool)
            for places in joining.groups(len(rows), draw):
                used[places] = True
                pieces = [rows[place] for place in places]
                silences = joining.silences([piece["sample_rate"] for piece in pieces], draw)
                batch.append(joined_row(pieces, silences, number))
            _count_left(rows, used, key, passed_over)
            if len(batch) >= _BATCH:
                batches.append(pa.Table.from_pylist(batch, schema=schema.JOINED_MANIFEST))
                batch = []
    table = pa.concat_tables([*batches, pa.Table.from_pylist(batch, schema=schema.JOINED_MANIFEST)])
    if not table.num_rows:
        raise SettingsError(
            f"{config.manifest} has no {least} utterances that agree in {' and '.join(_columns(config))}; lower "
            "per_utterance, or leave a label out of by"
        )
    _count_unlabelled(table, passed_over)
    return table


def _seconds(rows: pa.Table) -> float:
    return float((rows["num_samples"].to_numpy() / rows["sample_rate"].to_numpy()).sum())


def _columns(config: ConcatenateCorpusConfig) -> list[str]:
    return list(dict.fromkeys([*config.by, _SPLIT]))


def _groups(
    config: ConcatenateCorpusConfig, source: Manifest, passed_over: PassedOver
) -> Iterator[tuple[tuple[str | None, ...], pa.Table]]:
    """Give the rows that may be joined with each other, group by group in the order of their labels."""
    every = pa.concat_tables([schema.MANIFEST.empty_table(), *(rows for _, rows in source.scan(schema.MANIFEST.names))])
    columns = _columns(config)
    values = [every[name].to_pylist() for name in columns]
    if empty := [name for name in config.by if every[name].null_count == every.num_rows]:
        raise SettingsError(
            f"{config.manifest} has no utterance with {' and '.join(empty)}, in which joined utterances are to agree; "
            "leave it out of by, or use a corpus with this label"
        )
    places: dict[tuple[str | None, ...], list[int]] = {}
    for place, key in enumerate(zip(*values, strict=True)):
        lacking = next(
            (name for name, value in zip(columns, key, strict=True) if value is None and name in config.by), ""
        )
        if lacking:
            passed_over.add(Kind.WITHOUT_LABEL, example=every["utterance_id"][place].as_py(), name=lacking)
        else:
            places.setdefault(key, []).append(place)
    for key in sorted(places, key=lambda key: [(value is None, value or "") for value in key]):
        yield key, every.take(places[key])


def _count_left(
    rows: list[dict[str, object]], used: np.ndarray, key: tuple[str | None, ...], passed_over: PassedOver
) -> None:
    left = np.flatnonzero(~used)
    if len(left):
        name = " ".join(value or "none" for value in key)
        passed_over.add(Kind.TOO_FEW_TO_JOIN, len(left), example=str(rows[left[0]]["utterance_id"]), name=name)


def _count_unlabelled(table: pa.Table, passed_over: PassedOver) -> None:
    """Count joined utterances that have no text because a piece has none, where others have."""
    missing = table.filter(table["text"].is_null())
    if 0 < missing.num_rows < table.num_rows:
        passed_over.add(Kind.WITHOUT_LABEL, missing.num_rows, example=missing["utterance_id"][0].as_py(), name="text")
