"""Build a manifest: find the recordings of a corpus, read their headers in parallel, plan the shards.

Reads: a corpus folder or listing, local or S3. Writes: a manifest dataset; its Parquet files hold up to 500,000
candidates each, one row group a shard, and ``_index.parquet`` says where each shard lies.
Restart: pieces of 200 candidates (10 where VAD listens to them) are probed and committed in the scratch dataset
``_probed/``; run again, only pieces without a commit are probed.
Memory: the driver holds the corpus as Arrow columns, about 200 bytes an utterance.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa

from pipeline import schema
from pipeline.audio import corpora
from pipeline.audio.corpora import Candidate
from pipeline.audio.corpus_settings import CorpusSettings
from pipeline.audio.decode_settings import DecodeSettings
from pipeline.audio.filter_settings import FilterSettings
from pipeline.audio.joined_labels import JoinedLabels
from pipeline.audio.known import Known
from pipeline.audio.label_settings import LabelSettings
from pipeline.audio.loading import INDEX
from pipeline.audio.makers import CANDIDATES, CHANNELS, PROBED, ProbeFactory
from pipeline.audio.manifest_files import (
    CANDIDATES_PER_FILE,
    manifest_notes,
    probed_rejects,
    probed_rows,
    write_manifest,
)
from pipeline.audio.redone import Redone, folder_before, keep_before
from pipeline.audio.segment_lists import read_segments
from pipeline.audio.segment_settings import SegmentSettings
from pipeline.audio.segments import cut_recordings
from pipeline.errors import DatasetError, ManifestError
from pipeline.passed_over import PassedOver
from pipeline.redaction import redact
from pipeline.settings import Settings
from pipeline.store.completion import check_rejects, finish, status, unless_finished
from pipeline.store.dataset import (
    Dataset,
    Plan,
    canonical,
    check_folder,
    parquet_bytes,
    sha256,
    shard_name,
)
from pipeline.store.generations import Redo
from pipeline.store.provenance import record_settings
from pipeline.store.redoing import reopen
from pipeline.store.storage import absolute, check_uri, join, open_store
from pipeline.work.choice import RunnerSettings
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport, Tally
from pipeline.work.worker_shape import Placement

logger = logging.getLogger(__name__)

DATA_VERSION = 3
PIECE = 200
VAD_PIECE = 10
SECONDS_PER_RECORDING = 1.0
"""What a recording counts for who probes it: its length is not known yet, and a header takes a millisecond."""


@dataclass(frozen=True, kw_only=True)
class BuildManifestConfig(Settings):
    """Settings of build_manifest."""

    recordings: CorpusSettings
    """What the corpus is."""
    output: str
    """Folder of the manifest, local or s3://."""
    known: tuple[str, ...] = ()
    """Earlier manifests of a corpus that has grown: what they hold is left out."""
    segmentation: SegmentSettings = field(default_factory=SegmentSettings)
    """What an utterance is."""
    joined: LabelSettings = field(default_factory=LabelSettings)
    """Labels that lie beside the corpus."""
    filters: FilterSettings = field(default_factory=FilterSettings)
    """Which utterances are kept."""
    decoding: DecodeSettings = field(default_factory=DecodeSettings)
    """What reading a header may cost."""
    num_workers: int | None = None
    """Header-reading processes; default: one a CPU."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""


@dataclass(frozen=True, kw_only=True)
class PreparedManifest:
    """What the driver knows before Ray starts: the corpus as Arrow pieces, what was passed over, and the plans."""

    config: BuildManifestConfig
    pieces: Sequence[pa.Table]
    passed_over: PassedOver
    plan: Plan
    probe_plan: Plan


def prepare(config: BuildManifestConfig) -> PreparedManifest:
    """List the corpus, plan the manifest and refuse a folder that holds another one. Needs no Ray.

    Raises:
        SettingsError: The corpus, a root or the output carries credentials; or a condition on utterances cannot be
            used.
        ManifestError: The corpus or labels beside it cannot be read; or, with ``strict``, something is passed over.
        PlanMismatchError: The output folder was made with other settings or from another corpus.
    """
    source, chosen = config.recordings, {**config.segmentation.content(), **config.filters.content()}
    for root in source.roots:
        check_uri(root, "a root")
    own_roots = corpora.corpus_roots(source.corpus, source.layout)
    passed_over = PassedOver()
    pieces, known = _listed(config, own_roots[0], passed_over)
    passed_over.log(logger, source.corpus)
    if source.strict:
        passed_over.refuse(source.corpus)
    roots = sorted({*own_roots, *map(absolute, source.roots)})
    corpus_hash = sha256(canonical([sha256(parquet_bytes(piece, {})) for piece in pieces]).encode())
    content = {
        "data_version": DATA_VERSION,
        "corpus_sha256": corpus_hash,
        "layout": source.layout,
        "roots": roots,
        "channels": source.channels,
        "pick_channel": source.pick_channel if source.channels == "pick" else None,
        "shard_minutes": source.shard_minutes,
        "strict": source.strict,
        **chosen,
        **known,
    }
    lineage = {
        "kind": "manifest",
        "schema_version": schema.SCHEMA_VERSION,
        "roots": roots,
        "layout": source.layout,
    }
    rows = sum(piece.num_rows for piece in pieces)
    files = -(-rows // CANDIDATES_PER_FILE)
    plan = Plan(
        kind="manifest",
        content=content,
        lineage=lineage,
        units=[f"manifest-{number:05d}" for number in range(files)],
        totals={"rows": rows},
    )
    check_folder(open_store(config.output), plan)
    probe_plan = Plan(
        kind="probe",
        content=content,
        lineage={**lineage, "kind": "probe"},
        units=[shard_name(number) for number in range(len(pieces))],
        totals={"rows": rows},
    )
    return PreparedManifest(config=config, pieces=pieces, passed_over=passed_over, plan=plan, probe_plan=probe_plan)


def _listed(
    config: BuildManifestConfig, root: str, passed_over: PassedOver
) -> tuple[list[pa.Table], dict[str, list[str]]]:
    """List what may become utterances, with labels that are joined, and give the content key of earlier manifests."""
    source, table = config.recordings, config.joined.labels
    labels = None if table is None else JoinedLabels(table, config.joined.key, passed_over)
    candidates, known = _candidates(config, root, passed_over, labels)
    pieces = list(_pieces(candidates, VAD_PIECE if config.segmentation.vad else PIECE))
    if not pieces:
        new = " that are not known already" if config.known else ""
        raise ManifestError(f"{source.corpus} has no recordings in the {source.layout} layout{new}")
    return pieces if labels is None else labels.fill(pieces, passed_over), known


def _candidates(
    config: BuildManifestConfig, root: str, passed_over: PassedOver, labels: JoinedLabels | None
) -> tuple[Iterator[Candidate], dict[str, list[str]]]:
    """List what may become utterances, and what the content key says of earlier manifests."""
    source, segments = config.recordings, config.segmentation.segments
    candidates = corpora.read_corpus(source.corpus, source.layout, source.audio_column, passed_over=passed_over)
    if segments:
        listed = read_segments(segments, config.segmentation.segments_format, passed_over=passed_over)
        candidates = cut_recordings(candidates, listed, root, passed_over=passed_over)
    if labels is not None:
        candidates = labels.meet(candidates)
    if not config.known:
        return candidates, {}
    # The stage gives utterances ids of its own where it cuts recordings or parts channels.
    new_ids = bool(config.segmentation.vad) or source.channels == "split"
    earlier = Known(config.known, whole_recordings=new_ids)
    return earlier.new(candidates, passed_over), {"known": earlier.sha256}


def _pieces(candidates: Iterator[Candidate], most: int) -> Iterator[pa.Table]:
    batch: list[Candidate] = []
    for candidate in candidates:
        batch.append(candidate)
        if len(batch) == most:
            yield candidate_table(batch)
            batch = []
    if batch:
        yield candidate_table(batch)


def candidate_table(batch: Sequence[Candidate]) -> pa.Table:
    """Lay candidates out as rows of the scratch dataset."""
    rows = []
    for candidate in batch:
        row = asdict(candidate)
        reason, detail = row.pop("problem") or (None, None)
        row |= {"reason": reason, "detail": detail and redact(detail)}
        rows.append(row)
    # Further columns only where they say something: the hash of any other corpus is as it was.
    further = [field for field in CHANNELS if any(row[field.name] not in (None, ()) for row in rows)]
    return pa.Table.from_pylist(rows, schema=pa.schema([*CANDIDATES, *further]))


def build_manifest(config: BuildManifestConfig) -> StageReport:
    """Build the manifest of a corpus.

    Raises:
        ManifestError: The corpus cannot be listed; or, with ``strict``, something of it is passed over, or two
            recordings share an id; or no utterance is kept.
        PlanMismatchError: The output folder was made with other settings or from another corpus.
        TooManyRejectsError: More than ``max_reject_fraction`` of the recordings cannot be used.
    """
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    redo = config.decoding.redo_rejects
    if redo and not dataset.pending():
        reopen(dataset, redo, whole=True)
    report = Tally(status(dataset)).report(status(dataset), workers="", dataset_sha256="")
    if not dataset.finished():
        with unless_finished(dataset):
            report = _make(dataset, prepared)
    end = status(dataset)
    check_rejects(end, config.decoding.max_reject_fraction)
    digest = finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    for folder in (PROBED, *(name for made in dataset.redos for name in (_again(made), folder_before(made)))):
        dataset.store.delete_tree(folder)
    return replace(
        report,
        stage="manifest",
        output=dataset.uri,
        dataset_sha256=digest,
        rows=end.rows,
        rejects=end.rejects,
        reject_reasons=end.reasons,
        num_bytes=end.num_bytes,
        passed_over=end.passed_over,
    )


def _make(dataset: Dataset, prepared: PreparedManifest) -> StageReport:
    """Probe what is not probed, and make the manifest of it."""
    config = prepared.config
    if dataset.redos:
        return _redo(dataset, prepared)
    scratch = _write_candidates(prepared.probe_plan, prepared.pieces, join(config.output, PROBED))
    report = _probe(scratch, prepared, config.decoding.max_reject_fraction)
    probed = probed_rows(scratch), probed_rejects(scratch)
    notes = manifest_notes(prepared.passed_over, scratch, config.recordings)
    write_manifest(dataset, *probed, config.recordings, notes, config.filters)
    return report


def _probe(scratch: Dataset, prepared: PreparedManifest, max_reject_fraction: float | None) -> StageReport:
    """Probe the candidates of a scratch dataset, as far as that is not done."""
    config = prepared.config
    factory = ProbeFactory(
        scratch=scratch.uri,
        limits=config.decoding.limits(),
        roots=tuple(prepared.plan.content["roots"]),
        channels=config.recordings.channels,
        pick_channel=config.recordings.pick_channel,
        lineage=scratch.plan.lineage,
        vad=config.segmentation.vad_settings(),
        vad_weights_sha256=prepared.plan.content.get("vad", {}).get("weights_sha256", ""),
    )
    return run_stage(
        scratch,
        load=None,
        factory=lambda _: factory,
        choice=config.work.choice(SECONDS_PER_RECORDING * scratch.plan.totals["rows"]),
        placement=Placement(num_workers=config.num_workers),
        use_gpu=False,
        numerics_mode="any",
        max_reject_fraction=max_reject_fraction,
        # Those of a manifest that is made already are made anew another way.
        redo_rejects=() if "redo" in scratch.plan.content else config.decoding.redo_rejects,
    )


def _again(redo: Redo) -> str:
    """Name the scratch dataset of a generation."""
    return f"{PROBED}-{redo.number:05d}"


def _redo(dataset: Dataset, prepared: PreparedManifest) -> StageReport:
    """Probe the candidates of chosen rejects again, and make the manifest of what there was and what came of them."""
    made = dataset.redos[-1]
    try:
        before = keep_before(dataset, made)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{dataset.uri} has been finished by another run meanwhile; run the same command again"
        ) from error
    redone = Redone(before, prepared.pieces, made.reasons)
    pieces = redone.candidates()
    plan = replace(
        prepared.probe_plan,
        content={**prepared.probe_plan.content, "redo": made.number},
        units=[shard_name(number) for number in range(len(pieces))],
        totals={"rows": sum(piece.num_rows for piece in pieces)},
    )
    scratch = _write_candidates(plan, pieces, join(dataset.uri, _again(made)))
    report = _probe(scratch, prepared, None)
    every = redone.joined(probed_rows(scratch), pa.concat_tables(probed_rejects(scratch)))
    write_manifest(
        dataset,
        every.rows,
        [every.rejects],
        prepared.config.recordings,
        manifest_notes(prepared.passed_over, scratch, prepared.config.recordings, before.notes),
        prepared.config.filters,
    )
    return report


def _write_candidates(plan: Plan, pieces: Sequence[pa.Table], uri: str) -> Dataset:
    scratch = Dataset.create(uri, plan)
    written = set(scratch.store.names("_candidates"))
    for unit, piece in zip(scratch.plan.units, pieces, strict=True):
        if f"{unit}.parquet" not in written:
            scratch.store.write(f"_candidates/{unit}.parquet", parquet_bytes(piece, {}))
    return scratch
