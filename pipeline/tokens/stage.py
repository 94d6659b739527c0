"""Tokenise a corpus: a manifest (or its features) and codebooks in, one token a layer, residual stage and frame out.

Reads: a manifest, its recordings and codebooks; or a features dataset and codebooks. Writes: a tokens dataset,
``utterance_id, num_frames, layer_07: list<uint16>, layer_07_q1: ...``. No features touch the disk when it starts from
audio.
Restart: shards without a commit are done, others not. Memory: as extract_features, one batch of features at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.errors import CodebookMismatchError, FeatureError, SettingsError
from pipeline.features.feature_rows import feature_rows
from pipeline.features.numerics import numerics_key
from pipeline.features.passes.device import EncodeLog
from pipeline.features.passes.extractor import Rejected
from pipeline.features.passes.settings import (
    EncodingConfig,
    encoding_content,
    encoding_lineage,
    located,
    remark_small_batches,
    shard_loader,
)
from pipeline.features.passes.shards import EncodedShard, ShardEncoder
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.store.completion import read_shard_table, success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, parquet_bytes
from pipeline.store.provenance import record_settings
from pipeline.store.reading import read_pieces
from pipeline.store.storage import open_store
from pipeline.tokens.agreement import (
    MAX_CHECKED_SECONDS,
    NOTE,
    checked_units,
    from_notes,
    pick_utterances,
)
from pipeline.tokens.quantize import check_codebooks, quantize
from pipeline.work.executor import Load, cluster_shape, run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.runtime import set_threads
from pipeline.work.units import MakerFactory, Utterance, rejects_table
from pipeline.work.waiting import Work

DATA_VERSION = 1
NEAR_TIES = "near_ties_decided_exactly"


@dataclass(frozen=True, kw_only=True)
class TokenizeCorpusConfig(EncodingConfig):
    """Settings of tokenize_corpus."""

    codebooks: str
    """Codebooks dataset, local or s3://; or encoder-small, those that ship with that encoder."""
    output: str
    """Folder of the tokens dataset, local or s3://."""
    manifest: str | None = None
    """Manifest dataset to tokenise from audio, local or s3://."""
    features: str | None = None
    """Features dataset with every frame, to tokenise from instead of audio; the tokens are the same."""
    encoder: str = ""
    """Encoder, needed with --manifest: a Hugging Face name, a local folder, or s3:// folder in Hugging Face form; or
    encoder-small, the one that ships."""
    layers: tuple[int, ...] = ()
    """Layers to tokenise; default: every layer that has a codebook."""
    num_clusters: int | None = None
    """Take the codebooks of this many clusters (K); needed where a layer has codebooks of several."""
    agreement_frames: int = 2_000
    """Frames a layer, at least, that are encoded again alone in float32 to report how exact tokens are; 0: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.manifest is None) == (self.features is None):
            raise SettingsError("give either --manifest (with --encoder) or --features")
        if self.manifest is not None and not self.encoder:
            raise SettingsError("--manifest needs --encoder, the one whose features the codebooks were fitted on")
        if self.agreement_frames < 0:
            raise SettingsError(f"agreement_frames must be at least 0, got {self.agreement_frames}")


@dataclass(frozen=True, kw_only=True)
class PreparedTokens:
    """What the driver knows before Ray starts."""

    plan: Plan
    config: TokenizeCorpusConfig
    load: Load | None


def prepare(config: TokenizeCorpusConfig) -> PreparedTokens:
    """Plan the tokens dataset and refuse codebooks or a folder that do not fit. Needs no Ray.

    Raises:
        CodebookMismatchError: The codebooks were fitted on other features.
        DatasetError: An input is not finished.
        PlanMismatchError: The output folder was made with other settings.
    """
    codebooks = _codebooks(config)
    made_of = {book.column: book.sha256 for book in codebooks}
    config = replace(config, layers=tuple(sorted({book.layer for book in codebooks})))
    prepared = (_from_audio if config.manifest is not None else _from_features)(config, codebooks)
    content = {**prepared.plan.content, "data_version": DATA_VERSION, "codebooks": made_of}
    lineage = {**prepared.plan.lineage, "kind": "tokens", "codebooks": made_of}
    lineage["num_clusters"] = {book.column: book.num_clusters for book in codebooks}
    plan = Plan(kind="tokens", content=content, lineage=lineage, units=prepared.plan.units, totals=prepared.plan.totals)
    check_folder(open_store(config.output), plan)
    return PreparedTokens(plan=plan, config=config, load=prepared.load)


def _codebooks(config: TokenizeCorpusConfig) -> list[Codebook]:
    return read_codebooks(config.codebooks, config.layers, config.num_clusters)


def _from_audio(config: TokenizeCorpusConfig, codebooks: Sequence[Codebook]) -> PreparedTokens:
    assert config.manifest is not None
    encoder = config.describe()
    check_codebooks(codebooks, encoder_sha256=encoder.weights_sha256, dim=encoder.dim)
    manifest = Manifest(config.manifest)
    input_sha256 = success(manifest.dataset)["dataset_sha256"]
    plan = Plan(
        kind="tokens",
        content=encoding_content(config, encoder, input_sha256),
        lineage=encoding_lineage(config, encoder, input_sha256),
        units=manifest.units,
        totals={"rows": manifest.num_rows, "seconds": manifest.seconds},
    )
    return PreparedTokens(plan=plan, config=config, load=shard_loader(config, config.manifest, encoder))


def _from_features(config: TokenizeCorpusConfig, codebooks: Sequence[Codebook]) -> PreparedTokens:
    assert config.features is not None
    features = Dataset.open(config.features, kind="features")
    lineage = features.plan.lineage
    if lineage["sample_fraction"] != 1:
        raise SettingsError(
            f"{config.features} holds a sample of the frames (sample_fraction {lineage['sample_fraction']:g}); "
            "tokens need every frame: tokenise from --manifest, or extract features without a sample"
        )
    check_codebooks(codebooks, encoder_sha256=lineage["encoder_sha256"], dim=lineage["dim"])
    if absent := sorted(set(config.layers) - set(lineage["layers"])):
        raise CodebookMismatchError(f"{config.features} has layers {lineage['layers']}, the codebooks also {absent}")
    input_sha256 = success(features)["dataset_sha256"]
    table = read_shard_table(features)
    plan = Plan(
        kind="tokens",
        content={"input_sha256": input_sha256, "layers": list(config.layers)},
        lineage={**lineage, "layers": list(config.layers), "input_sha256": input_sha256},
        units=features.plan.units,
        totals={
            name: sum(table[column].to_pylist()) for name, column in (("rows", "num_rows"), ("seconds", "seconds"))
        },
    )
    return PreparedTokens(plan=plan, config=config, load=None)


def tokenize_corpus(config: TokenizeCorpusConfig) -> StageReport:
    """Write the tokens of every utterance of a manifest, or of a features dataset.

    Raises:
        CodebookMismatchError: The codebooks were fitted on other features.
        PlanMismatchError: The output folder was made with other settings.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be used.
    """
    prepared = prepare(located(config))
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    from_audio = config.manifest is not None
    shape = cluster_shape(config.placement, use_gpu=from_audio)
    if from_audio:
        remark_small_batches(config, shape.device)
    maker: Any = AudioTokenMaker if from_audio else FeatureTokenMaker
    factory: MakerFactory = partial(maker, prepared.config, shape.device, prepared.plan)
    report = run_stage(
        dataset,
        load=prepared.load,
        factory=factory,
        shape=shape,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
    )
    found = from_notes([commit.notes for commit in dataset.commits()])
    return replace(report, agreement={column: asdict(value) for column, value in found.items()})


class AudioTokenMaker:
    """Turns the utterances of a shard into tokens, through the encoder."""

    stage = "tokens"

    def __init__(self, config: TokenizeCorpusConfig, device: str, plan: Plan) -> None:
        self._plan = plan
        self._codebooks = _codebooks(config)
        assert config.manifest is not None
        self._encoder = ShardEncoder(config, config.manifest, device, self.stage, plan.lineage["encoder_sha256"])
        self._checked = checked_units(plan.units, config.agreement_frames)
        # On a GPU one matrix product; faiss where features come from a CPU.
        self._engine = "torch" if device.startswith("cuda") else "auto"

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return self._encoder.numerics()

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Encode a shard, quantise each batch while the next is encoded, and lay the tokens out as Parquet."""
        shard = self._encoder.open(utterances)
        pieces: dict[int, list[tuple[int, dict[str, np.ndarray]]]] = {}
        num_close = 0
        for piece in shard:
            try:
                made = quantize(piece.features, self._codebooks, engine=self._engine)
            except FeatureError as error:
                shard.reject(piece.row, schema.Reason.FEATURE_OVERFLOW, str(error))
                continue
            num_close += made.num_close
            pieces.setdefault(piece.row, []).append((piece.first_frame, made.columns))
        tokens = {row: _joined(found) for row, found in sorted(pieces.items()) if row not in shard.rejects}
        log = EncodeLog()
        agreement = self._compare(unit, shard, tokens, log)
        return _output(
            {utterances[row].utterance_id: found for row, found in tokens.items()},
            self._codebooks,
            self._plan,
            rejects=rejects_table(shard.rejected),
            seconds=sum(utterances[row].seconds for row in tokens),
            notes={**shard.notes(), NEAR_TIES: num_close, **agreement},
            work=(shard.work(), log.work("reference")),
        )

    def _compare(
        self, unit: str, shard: EncodedShard, tokens: Mapping[int, dict[str, np.ndarray]], log: EncodeLog
    ) -> dict[str, Any]:
        """Encode a few utterances of a chosen shard again, alone in float32, and count the tokens that are equal."""
        if unit not in self._checked:
            return {}
        rows = {
            shard.utterances[row].utterance_id: row
            for row in tokens
            if shard.utterances[row].samples is not None and shard.utterances[row].seconds <= MAX_CHECKED_SECONDS
        }
        lengths = {name: len(tokens[row][self._codebooks[0].column]) for name, row in rows.items()}
        picked = pick_utterances(lengths, self._checked[unit])
        exact = self._encoder.reference([shard.utterances[rows[name]].samples for name in picked], log)
        counts: dict[str, list[tuple[int, int]]] = {}
        for name, features in zip(picked, exact, strict=True):
            if isinstance(features, Rejected):
                continue
            reference = quantize(features, self._codebooks, engine=self._engine).columns
            for column, ids in reference.items():
                equal = int((tokens[rows[name]][column] == ids).sum())
                counts.setdefault(column, []).append((len(ids), equal))
        return {NOTE: counts}


class FeatureTokenMaker:
    """Turns the rows of a features shard into tokens."""

    stage = "tokens"

    def __init__(self, config: TokenizeCorpusConfig, device: str, plan: Plan) -> None:
        assert config.features is not None
        set_threads(config.threads_per_worker)
        self._plan = plan
        self._features = Dataset.open(config.features, kind="features")
        self._codebooks = _codebooks(config)
        self._device = device

    def numerics(self) -> dict[str, str]:
        """Say what the bits may depend on besides the plan."""
        return numerics_key(self._device)

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Quantise a shard's features; ``utterances`` is empty, the rows are read here."""
        commit = self._features.read_commit(unit)
        assert commit is not None
        dim, layers = self._plan.lineage["dim"], self._plan.lineage["layers"]
        pieces: dict[str, list[tuple[int, dict[str, np.ndarray]]]] = {}
        num_close = 0
        for table in read_pieces(self._features, unit):
            for row in feature_rows(table, layers, dim, f"{self._features.uri}/{unit}"):
                try:
                    made = quantize(row.cells, self._codebooks)
                except FeatureError as error:
                    # A reject names its recording, which features do not know.
                    raise FeatureError(
                        f"{row.utterance_id}: {error}; tokenise from --manifest, which rejects the utterance"
                    ) from error
                num_close += made.num_close
                pieces.setdefault(row.utterance_id, []).append((row.first_frame, made.columns))
        tokens = {utterance_id: _joined(found) for utterance_id, found in pieces.items()}
        notes = {NEAR_TIES: num_close}
        return _output(tokens, self._codebooks, self._plan, rejects=None, seconds=commit.seconds, notes=notes)


def _joined(pieces: list[tuple[int, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Join the tokens of one utterance, given as (first frame, tokens by column) in any order."""
    ordered = [tokens for _, tokens in sorted(pieces, key=lambda piece: piece[0])]
    return {column: np.concatenate([tokens[column] for tokens in ordered]) for column in ordered[0]}


def _output(
    utterances: Mapping[str, dict[str, np.ndarray]],
    codebooks: Sequence[Codebook],
    plan: Plan,
    *,
    rejects: pa.Table | None,
    seconds: float,
    notes: dict[str, Any],
    work: tuple[Work, ...] = (),
) -> Output:
    """Lay out the tokens of a shard, given by utterance and column."""
    names = [book.column for book in codebooks]
    lengths = [len(tokens[names[0]]) for tokens in utterances.values()]
    cells: dict[str, list[Any]] = {"utterance_id": list(utterances), "num_frames": lengths}
    cells |= {name: [tokens[name] for tokens in utterances.values()] for name in names}
    columns = schema.tokens(names)
    table = pa.table({field.name: pa.array(cells[field.name], field.type) for field in columns}, schema=columns)
    return Output(
        data=parquet_bytes(table, plan.lineage),
        rows=len(lengths),
        rejects=rejects,
        seconds=seconds,
        num_frames=sum(lengths),
        notes=notes,
        work=work,
    )
