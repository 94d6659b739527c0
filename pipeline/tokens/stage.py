"""Tokenise a corpus: a manifest (or its features) and codebooks in, one token a layer, residual stage and frame out.

Reads: a manifest, its recordings and codebooks; or a features dataset and codebooks; or both. Writes: a tokens dataset,
``utterance_id, num_frames, layer_07: list<uint16>, layer_07_q1: ...``. No features touch the disk when it starts from
audio.
Restart: shards without a commit are done, others not. Memory: as extract_features, one batch of features at a time.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from pipeline.audio.loading import Manifest
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.features.passes.settings import (
    encoding_content,
    encoding_lineage,
    remark_small_batches,
    shard_loader,
)
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.search.engines import check_gpus
from pipeline.store.completion import read_shard_table, success
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.tokens.agreement import checked_units, from_notes, pick_utterances
from pipeline.tokens.quantize import check_codebooks
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.work.executor import run_stage
from pipeline.work.reporting import AUDIO, FEATURES, StageReport
from pipeline.work.units import Load, MakerFactory
from pipeline.work.worker_shape import WorkerShape

logger = logging.getLogger(__name__)

DATA_VERSION = 1
_SAMPLING = ("sample_fraction", "seed")


@dataclass(frozen=True, kw_only=True)
class PreparedTokens:
    """What the driver knows before Ray starts.

    Attributes:
        plan: Of the dataset.
        config: Its settings, with the layers chosen.
        load: What decodes a shard; None from features.
        checked: Utterances that are encoded again to measure agreement.
    """

    plan: Plan
    config: TokenizeCorpusConfig
    load: Load | None
    checked: frozenset[str] = frozenset()


def prepare(config: TokenizeCorpusConfig) -> PreparedTokens:
    """Plan the tokens dataset and refuse codebooks or a folder that do not fit. Needs no Ray.

    Raises:
        CodebookMismatchError: The codebooks were fitted on other features.
        DatasetError: An input is not finished.
        PlanMismatchError: The output folder was made with other settings.
    """
    codebooks = read_codebooks(config.codebooks, config.encoding.layers, config.num_clusters)
    made_of = {book.column: book.sha256 for book in codebooks}
    config = config.but(layers=tuple(sorted({book.layer for book in codebooks})))
    prepared = (_from_audio if config.manifest is not None else _from_features)(config, codebooks)
    content = {**prepared.plan.content, "data_version": DATA_VERSION, "codebooks": made_of}
    lineage = {**prepared.plan.lineage, "kind": "tokens", "codebooks": made_of}
    lineage["num_clusters"] = {book.column: book.num_clusters for book in codebooks}
    plan = Plan(kind="tokens", content=content, lineage=lineage, units=prepared.plan.units, totals=prepared.plan.totals)
    check_folder(open_store(config.output), plan)
    return replace(prepared, plan=plan, config=config)


def _from_audio(config: TokenizeCorpusConfig, codebooks: Sequence[Codebook]) -> PreparedTokens:
    assert config.manifest is not None
    encoder = config.encoding.describe()
    check_codebooks(
        codebooks,
        encoder_sha256=encoder.weights_sha256,
        dim=encoder.dim,
        normalize_waveform=encoder.normalize_waveform,
    )
    manifest = Manifest(config.manifest)
    input_sha256 = success(manifest.dataset)["dataset_sha256"]
    plan = Plan(
        kind="tokens",
        content=encoding_content(config.encoding, encoder, input_sha256),
        lineage=encoding_lineage(config.encoding, encoder, input_sha256),
        units=manifest.units,
        totals={"rows": manifest.num_rows, "seconds": manifest.seconds},
    )
    if config.features is not None:
        _check_reusable(Dataset.open(config.features, kind="features"), plan)
    return PreparedTokens(
        plan=plan,
        config=config,
        load=None if config.features is not None else shard_loader(config.encoding, config.manifest, encoder),
        checked=_checked(config, manifest, encoder.frame_rate),
    )


def _check_reusable(features: Dataset, plan: Plan) -> None:
    """Refuse features that are a sample, lack a layer, or were made with other settings than the tokens would be."""
    if features.plan.lineage["sample_fraction"] != 1:
        raise SettingsError(
            f"{features.uri} holds a sample of the frames; tokens need every frame: leave --features away"
        )
    made, wanted = dict(features.plan.content), dict(plan.content)
    if absent := sorted(set(wanted.pop("layers")) - set(made.pop("layers"))):
        raise SettingsError(f"{features.uri} lacks the layers {absent}; leave --features away")
    for name in _SAMPLING:
        made.pop(name)
    if differ := sorted(name for name in made if made[name] != wanted.get(name)):
        told = "; ".join(f"{name}: {made[name]!r} there, {wanted.get(name)!r} here" for name in differ)
        raise SettingsError(f"{features.uri} was not made as tokens of this manifest would be ({told})")


def _checked(config: TokenizeCorpusConfig, manifest: Manifest, frame_rate: float) -> frozenset[str]:
    """Choose the utterances whose agreement is measured, from a few shards of the manifest."""
    if not config.agreement_frames or not config.agreement_share:
        return frozenset()
    rows = [row for unit in checked_units(manifest.units) for row in manifest.rows(unit).to_pylist()]
    checked = pick_utterances(
        {row["utterance_id"]: row["num_samples"] / row["sample_rate"] for row in rows},
        wanted_seconds=config.agreement_frames / frame_rate,
        budget_seconds=config.agreement_share * manifest.seconds,
        dtype=config.encoding.dtype,
    )
    if not checked:
        logger.info(
            "agreement is not measured: %g %% of the encoding time hold no utterance; raise --agreement-share",
            100 * config.agreement_share,
        )
    return checked


def _from_features(config: TokenizeCorpusConfig, codebooks: Sequence[Codebook]) -> PreparedTokens:
    assert config.features is not None
    features = Dataset.open(config.features, kind="features")
    lineage = features.plan.lineage
    if lineage["sample_fraction"] != 1:
        raise SettingsError(
            f"{config.features} holds a sample of the frames (sample_fraction {lineage['sample_fraction']:g}); "
            "tokens need every frame: tokenise from --manifest, or extract features without a sample"
        )
    check_codebooks(
        codebooks,
        encoder_sha256=lineage["encoder_sha256"],
        dim=lineage["dim"],
        normalize_waveform=lineage.get("normalize_waveform"),
    )
    if absent := sorted(set(config.encoding.layers) - set(lineage["layers"])):
        raise CodebookMismatchError(f"{config.features} has layers {lineage['layers']}, the codebooks also {absent}")
    input_sha256 = success(features)["dataset_sha256"]
    table = read_shard_table(features)
    plan = Plan(
        kind="tokens",
        content={"input_sha256": input_sha256, "layers": list(config.encoding.layers)},
        lineage={**lineage, "layers": list(config.encoding.layers), "input_sha256": input_sha256},
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
        ManifestError: Something is passed over, and the manifest was built with ``strict``.
        PlanMismatchError: The output folder was made with other settings.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be used.
    """
    prepared = prepare(config.located())
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    from_audio = config.manifest is not None

    def factory(shape: WorkerShape) -> MakerFactory:
        from pipeline.tokens.makers import AudioTokenMaker, FeatureTokenMaker
        from pipeline.tokens.reuse import ReusingTokenMaker

        check_gpus(config.search.engine, shape.gpus)
        maker: Any = FeatureTokenMaker
        if from_audio:
            remark_small_batches(config.encoding, shape.device)
            kind: Any = AudioTokenMaker if config.features is None else ReusingTokenMaker
            maker = partial(kind, checked=prepared.checked)
        return partial(maker, prepared.config, shape.device, prepared.plan)

    report = run_stage(
        dataset,
        load=prepared.load,
        factory=factory,
        choice=config.work.choice(prepared.plan.totals["seconds"]),
        placement=config.encoding.placement,
        use_gpu=from_audio or config.search.engine == "faiss-gpu",
        numerics_mode=config.encoding.numerics,
        max_reject_fraction=config.encoding.decoding.max_reject_fraction,
        redo_rejects=config.encoding.decoding.redo_rejects,
        strict=config.manifest is not None and Manifest(config.manifest).strict,
    )
    found = from_notes([commit.notes for commit in dataset.commits()])
    agreement = {column: asdict(value) for column, value in found.items()}
    return replace(report, agreement=agreement, source=AUDIO if prepared.load is not None else FEATURES)
