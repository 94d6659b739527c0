"""What a worker of tokenize_corpus does: the waveforms or the features of a shard in, its tokens out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import FeatureError
from pipeline.features.feature_rows import feature_rows
from pipeline.features.numerics import numerics_key
from pipeline.features.passes.device import EncodeLog
from pipeline.features.passes.extractor import Rejected
from pipeline.features.passes.shards import EncodedShard, ShardEncoder
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.store.reading import read_pieces
from pipeline.tokens.agreement import NOTE
from pipeline.tokens.quantize import quantize
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.work.runtime import set_threads
from pipeline.work.units import Utterance, rejects_table
from pipeline.work.waiting import Work

NEAR_TIES = "near_ties_decided_exactly"


class AudioTokenMaker:
    """Turns the utterances of a shard into tokens, through the encoder."""

    stage = "tokens"

    def __init__(
        self, config: TokenizeCorpusConfig, device: str, plan: Plan, checked: frozenset[str] = frozenset()
    ) -> None:
        """Load encoder and codebooks.

        Args:
            config: Settings of the stage.
            device: A torch device.
            plan: Of the tokens dataset.
            checked: Utterances that are encoded again to measure agreement.
        """
        self._plan = plan
        self._checked = checked
        self._codebooks = read_codebooks(config.codebooks, config.encoding.layers, config.num_clusters)
        assert config.manifest is not None
        self._encoder = ShardEncoder(
            config.encoding, config.manifest, device, self.stage, plan.lineage["encoder_sha256"]
        )
        self._engine = config.search.engine

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
        agreement = self._compare(shard, tokens, log)
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
        self, shard: EncodedShard, tokens: Mapping[int, dict[str, np.ndarray]], log: EncodeLog
    ) -> dict[str, Any]:
        """Encode the chosen utterances of a shard again, alone in float32, and count the tokens that are equal."""
        rows = [
            row
            for row in tokens
            if shard.utterances[row].utterance_id in self._checked and shard.utterances[row].samples is not None
        ]
        if not rows:
            return {}
        exact = self._encoder.reference([shard.utterances[row].samples for row in rows], log)
        counts: dict[str, list[tuple[int, int]]] = {}
        for row, features in zip(rows, exact, strict=True):
            if isinstance(features, Rejected):
                continue
            reference = quantize(features, self._codebooks, engine=self._engine).columns
            for column, ids in reference.items():
                equal = int((tokens[row][column] == ids).sum())
                counts.setdefault(column, []).append((len(ids), equal))
        return {NOTE: counts}


class FeatureTokenMaker:
    """Turns the rows of a features shard into tokens."""

    stage = "tokens"

    def __init__(self, config: TokenizeCorpusConfig, device: str, plan: Plan) -> None:
        assert config.features is not None
        set_threads(config.encoding.threads_per_worker)
        self._plan = plan
        self._features = Dataset.open(config.features, kind="features")
        self._codebooks = read_codebooks(config.codebooks, config.encoding.layers, config.num_clusters)
        self._device = device
        self._engine = config.search.engine

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
                    made = quantize(row.cells, self._codebooks, engine=self._engine)
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
