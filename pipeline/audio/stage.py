"""Build a manifest: find the recordings of a corpus, read their headers in parallel, plan the shards.

Reads: a corpus folder or listing, local or S3. Writes: a manifest dataset; its Parquet files hold up to 500,000
candidates each, one row group a shard, and ``_index.parquet`` says where each shard lies.
Restart: pieces of 200 candidates (10 where VAD listens to them) are probed and committed in the scratch dataset
``_probed/``; run again, only pieces without a commit are probed.
Memory: the driver holds the corpus as Arrow columns, about 200 bytes an utterance.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio import corpora
from pipeline.audio.corpora import Candidate
from pipeline.audio.corpus_settings import CorpusSettings
from pipeline.audio.decode_settings import DecodeSettings
from pipeline.audio.known import Known
from pipeline.audio.loading import INDEX
from pipeline.audio.makers import CANDIDATES, PROBED, ProbeFactory
from pipeline.audio.manifest import duplicate_rows, plan_shards, shard_minutes
from pipeline.audio.segment_lists import read_segments
from pipeline.audio.segment_settings import SegmentSettings
from pipeline.audio.segments import cut_recordings
from pipeline.errors import ManifestError
from pipeline.redaction import redact
from pipeline.schema import Reason
from pipeline.settings import Settings
from pipeline.store.completion import check_rejects, finish, status, unless_finished
from pipeline.store.dataset import (
    SUCCESS,
    Dataset,
    Output,
    Plan,
    canonical,
    check_folder,
    parquet_bytes,
    sha256,
    shard_name,
)
from pipeline.store.provenance import record_settings
from pipeline.store.reading import footer_sha256, read_unit
from pipeline.store.storage import absolute, check_uri, join, open_store
from pipeline.work.choice import RunnerSettings
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport, Tally
from pipeline.work.units import Reject, rejects_table
from pipeline.work.worker_shape import Placement

logger = logging.getLogger(__name__)

DATA_VERSION = 2
PIECE = 200
VAD_PIECE = 10
CANDIDATES_PER_FILE = 500_000
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
    decoding: DecodeSettings = field(default_factory=DecodeSettings)
    """What reading a header may cost."""
    num_workers: int | None = None
    """Header-reading processes; default: one a CPU."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""


@dataclass(frozen=True, kw_only=True)
class PreparedManifest:
    """What the driver knows before Ray starts: the corpus as Arrow pieces, and the plans."""

    config: BuildManifestConfig
    pieces: Sequence[pa.Table]
    plan: Plan
    probe_plan: Plan


def prepare(config: BuildManifestConfig) -> PreparedManifest:
    """List the corpus, plan the manifest and refuse a folder that holds another one. Needs no Ray.

    Raises:
        SettingsError: The corpus, a root or the output carries credentials.
        ManifestError: The corpus cannot be listed.
        PlanMismatchError: The output folder was made with other settings or from another corpus.
    """
    source, segmentation = config.recordings, config.segmentation.content()
    for root in source.roots:
        check_uri(root, "a root")
    own_roots = corpora.corpus_roots(source.corpus, source.layout)
    candidates, known = _candidates(config, own_roots[0])
    pieces = list(_pieces(candidates, VAD_PIECE if config.segmentation.vad else PIECE))
    if not pieces:
        new = " that are not known already" if config.known else ""
        raise ManifestError(f"{source.corpus} has no recordings in the {source.layout} layout{new}")
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
        **segmentation,
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
    return PreparedManifest(config=config, pieces=pieces, plan=plan, probe_plan=probe_plan)


def _candidates(config: BuildManifestConfig, root: str) -> tuple[Iterator[Candidate], dict[str, list[str]]]:
    """List what may become utterances, and what the content key says of earlier manifests."""
    source, segments = config.recordings, config.segmentation.segments
    candidates = corpora.read_corpus(source.corpus, source.layout, source.audio_column)
    if segments:
        candidates = cut_recordings(candidates, read_segments(segments, config.segmentation.segments_format), root)
    if not config.known:
        return candidates, {}
    # The stage gives utterances ids of its own where it cuts recordings or parts channels.
    new_ids = bool(config.segmentation.vad) or source.channels == "split"
    earlier = Known(config.known, whole_recordings=new_ids)
    return earlier.new(candidates), {"known": earlier.sha256}


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
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def build_manifest(config: BuildManifestConfig) -> StageReport:
    """Build the manifest of a corpus.

    Raises:
        ManifestError: The corpus cannot be listed; or, with ``strict``, two recordings share an id.
        PlanMismatchError: The output folder was made with other settings or from another corpus.
        TooManyRejectsError: More than ``max_reject_fraction`` of the recordings cannot be used.
    """
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    report = Tally(status(dataset)).report(status(dataset), workers="", dataset_sha256="")
    if not dataset.store.exists(SUCCESS):
        with unless_finished(dataset):
            report = _probe(prepared)
            _write_manifest(dataset, Dataset.open(report.output), config)
    end = status(dataset)
    check_rejects(end, config.decoding.max_reject_fraction)
    digest = finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    dataset.store.delete_tree(PROBED)
    return replace(
        report,
        stage="manifest",
        output=dataset.uri,
        dataset_sha256=digest,
        rows=end.rows,
        rejects=end.rejects,
        reject_reasons=end.reasons,
        num_bytes=end.num_bytes,
    )


def _probe(prepared: PreparedManifest) -> StageReport:
    """Read the headers of all candidates, into the scratch dataset."""
    config, content = prepared.config, prepared.plan.content
    scratch = _write_candidates(prepared)
    factory = ProbeFactory(
        scratch=scratch.uri,
        limits=config.decoding.limits(),
        roots=tuple(content["roots"]),
        channels=config.recordings.channels,
        pick_channel=config.recordings.pick_channel,
        lineage=scratch.plan.lineage,
        vad=config.segmentation.vad_settings(),
        vad_weights_sha256=content.get("vad", {}).get("weights_sha256", ""),
    )
    return run_stage(
        scratch,
        load=None,
        factory=lambda _: factory,
        choice=config.work.choice(SECONDS_PER_RECORDING * sum(piece.num_rows for piece in prepared.pieces)),
        placement=Placement(num_workers=config.num_workers),
        use_gpu=False,
        numerics_mode="any",
        max_reject_fraction=config.decoding.max_reject_fraction,
    )


def _write_candidates(prepared: PreparedManifest) -> Dataset:
    scratch = Dataset.create(join(prepared.config.output, PROBED), prepared.probe_plan)
    written = set(scratch.store.names("_candidates"))
    for unit, piece in zip(scratch.plan.units, prepared.pieces, strict=True):
        if f"{unit}.parquet" not in written:
            scratch.store.write(f"_candidates/{unit}.parquet", parquet_bytes(piece, {}))
    return scratch


def _write_manifest(dataset: Dataset, scratch: Dataset, config: BuildManifestConfig) -> None:
    """Join the probed pieces, drop duplicates, plan the shards and commit the manifest's files."""
    probed = pa.concat_tables(read_unit(scratch, unit) for unit in scratch.plan.units)
    rejected = [_read_rejects(scratch, commit.unit) for commit in scratch.commits() if commit.rejects is not None]
    first = duplicate_rows(probed["utterance_id"])
    later = np.flatnonzero(first >= 0)
    if len(later) and config.recordings.strict:
        raise ManifestError(_duplicate(probed, int(later[0]), int(first[later[0]])))
    duplicates = rejects_table(
        [
            Reject(
                utterance_id=probed["utterance_id"][int(row)].as_py(),
                uri=probed["uri"][int(row)].as_py(),
                stage="manifest",
                reason=Reason.DUPLICATE_ID,
                detail=_duplicate(probed, int(row), int(first[row])),
            )
            for row in later
        ]
    )
    rejects = pa.concat_tables([*rejected, duplicates])
    rows = probed.filter(pa.array(first < 0))
    seconds = rows["num_samples"].to_numpy() / np.maximum(rows["sample_rate"].to_numpy(), 1)
    minutes = config.recordings.shard_minutes or shard_minutes(float(seconds.sum()))
    shards = plan_shards(seconds, minutes)
    rows = rows.set_column(rows.schema.get_field_index("shard"), "shard", pa.array(shards, pa.int32()))
    _commit_files(dataset, rows.cast(schema.MANIFEST), seconds, rejects)


def _commit_files(dataset: Dataset, rows: pa.Table, seconds: np.ndarray, rejects: pa.Table) -> None:
    shards = rows["shard"].to_numpy()
    starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]]) if len(shards) else np.zeros(0, int)
    ends = np.r_[starts[1:], len(shards)]
    last = len(dataset.plan.units) - 1
    index: list[dict[str, object]] = []
    for number, unit in enumerate(dataset.plan.units):
        in_file = np.flatnonzero(np.minimum(starts // CANDIDATES_PER_FILE, last) == number)
        sink = pa.BufferOutputStream()
        places: list[dict[str, object]] = []
        columns = schema.with_lineage(schema.MANIFEST, canonical(dataset.plan.lineage))
        with pq.ParquetWriter(sink, columns, compression="zstd", write_page_checksum=True) as writer:
            for group, shard in enumerate(in_file):
                begin, end = int(starts[shard]), int(ends[shard])
                writer.write_table(rows.slice(begin, end - begin).replace_schema_metadata(columns.metadata))
                places.append(
                    {
                        "shard": int(shards[begin]),
                        "file": dataset.data_file(unit),
                        "row_group": group,
                        "num_rows": end - begin,
                        "seconds": float(seconds[begin:end].sum()),
                    }
                )
        held = slice(int(starts[in_file[0]]), int(ends[in_file[-1]])) if len(in_file) else slice(0, 0)
        data = sink.getvalue()
        footer = footer_sha256(pa.BufferReader(data))
        index += [{**place, "footer_sha256": footer} for place in places]
        out = rejects if number == 0 else rejects.slice(0, 0)
        output = Output(
            data=memoryview(data),
            rows=held.stop - held.start,
            rejects=out,
            seconds=float(seconds[held].sum()),
            notes={"reasons": dict(Counter(out["reason"].to_pylist()))},
        )
        if dataset.read_commit(unit) is None:
            dataset.commit(unit, dataset.announce(unit), output, {})
    dataset.store.write(INDEX, parquet_bytes(pa.Table.from_pylist(index, schema=schema.MANIFEST_INDEX), {}))


def _read_rejects(dataset: Dataset, unit: str) -> pa.Table:
    with dataset.store.open(f"_rejects/{unit}.parquet") as file:
        return pq.read_table(file).cast(schema.REJECTS)


def _duplicate(rows: pa.Table, later: int, first: int) -> str:
    return (
        f"utterance_id {rows['utterance_id'][later].as_py()} of {rows['uri'][later].as_py()} "
        f"is taken by {rows['uri'][first].as_py()}"
    )
