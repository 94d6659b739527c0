"""What a worker of tokenize_corpus does: the waveforms or the features of a shard in, its tokens out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.audio.loading import ShardLoader
from pipeline.errors import FeatureError
from pipeline.features.feature_rows import feature_rows
from pipeline.features.numerics import numerics_key
from pipeline.features.passes.device import EncodeLog
from pipeline.features.passes.extractor import Rejected
from pipeline.features.passes.shards import ShardEncoder
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

    @property
    def loader(self) -> ShardLoader:
        """What decodes the shards of the manifest."""
        return self._encoder.loader

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
        rows = [row for row in tokens if utterances[row].utterance_id in self._checked]
        agreement, again = self.compare([utterances[row] for row in rows], [tokens[row] for row in rows])
        return tokens_output(
            {utterances[row].utterance_id: found for row, found in tokens.items()},
            self._codebooks,
            self._plan,
            rejects=rejects_table(shard.rejected),
            seconds=sum(utterances[row].seconds for row in tokens),
            notes={**shard.notes(), NEAR_TIES: num_close, **agreement},
            work=(shard.work(), *again),
        )

    def compare(
        self, utterances: Sequence[Utterance], tokens: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, Any], tuple[Work, ...]]:
        """Encode utterances of a shard again, alone in float32, and count the tokens that are equal.

        Args:
            utterances: They, decoded; one that is too long for that is left out.
            tokens: Tokens of each, by column.

        Returns:
            What the commit notes of it, and the time it took.
        """
        held = [(u, given) for u, given in zip(utterances, tokens, strict=True) if u.samples is not None]
        log = EncodeLog()
        if not held:
            return {}, (log.work("reference"),)
        exact = self._encoder.reference([utterance.samples for utterance, _ in held], log)
        counts: dict[str, list[tuple[int, int]]] = {}
        for (_, given), features in zip(held, exact, strict=True):
            if isinstance(features, Rejected):
                continue
            reference = quantize(features, self._codebooks, engine=self._engine).columns
            for column, ids in reference.items():
                counts.setdefault(column, []).append((len(ids), int((given[column] == ids).sum())))
        return {NOTE: counts}, (log.work("reference"),)


class FeatureTokenMaker:
    """Turns the rows of a features shard into tokens."""

    stage = "tokens"

    def __init__(self, config: TokenizeCorpusConfig, device: str, plan: Plan) -> None:
        assert config.features is not None
        set_threads(config.encoding.threads_per_worker)
        self._plan = plan
        self._features = Dataset.open(config.features, kind="features")
        self.codebooks = read_codebooks(config.codebooks, config.encoding.layers, config.num_clusters)
        self._device = device
        self._engine = config.search.engine

    def numerics(self) -> dict[str, str]:
        """Say what the bits may depend on besides the plan."""
        return numerics_key(self._device)

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Quantise a shard's features; ``utterances`` is empty, the rows are read here."""
        commit = self._features.read_commit(unit)
        assert commit is not None
        try:
            tokens, notes = self.tokens(unit)
        except FeatureError as error:
            # A reject names its recording, which features do not know.
            raise FeatureError(f"{error}; tokenise from --manifest, which rejects the utterance") from error
        return tokens_output(tokens, self.codebooks, self._plan, rejects=None, seconds=commit.seconds, notes=notes)

    def tokens(self, unit: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, int]]:
        """Quantise a shard's features.

        Returns:
            Tokens by utterance and column, and what the commit notes of it.

        Raises:
            FeatureError: What a residual stage leaves of an utterance does not fit float16.
        """
        dim, layers = self._plan.lineage["dim"], self._plan.lineage["layers"]
        pieces: dict[str, list[tuple[int, dict[str, np.ndarray]]]] = {}
        num_close = 0
        for table in read_pieces(self._features, unit):
            for row in feature_rows(table, layers, dim, f"{self._features.uri}/{unit}"):
                try:
                    made = quantize(row.cells, self.codebooks, engine=self._engine)
                except FeatureError as error:
                    raise FeatureError(f"{row.utterance_id}: {error}") from error
                num_close += made.num_close
                pieces.setdefault(row.utterance_id, []).append((row.first_frame, made.columns))
        return {utterance_id: _joined(found) for utterance_id, found in pieces.items()}, {NEAR_TIES: num_close}


def _joined(pieces: list[tuple[int, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Join the tokens of one utterance, given as (first frame, tokens by column) in any order."""
    ordered = [tokens for _, tokens in sorted(pieces, key=lambda piece: piece[0])]
    return {column: np.concatenate([tokens[column] for tokens in ordered]) for column in ordered[0]}


def tokens_output(
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
