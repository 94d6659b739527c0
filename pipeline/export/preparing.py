"""What the driver settles before any row is written: pattern, settings, part, unit BPE, vocabulary. Needs no Ray."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import faults, schema
from pipeline.audio.alignment import Alignment
from pipeline.audio.loading import Manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.export.encoding import Encoding, Interleaving
from pipeline.export.formats.arrays import Spelling
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids import bpe
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.prefix import fields_of, special_tokens
from pipeline.export.ids.tokenizer_folder import TextTokenizer
from pipeline.export.ids.vocabulary import FILE, SPEECH, TEXT, Vocabulary
from pipeline.export.parts import Part, find_part, read_parts
from pipeline.export.rows import PlainEncoder, token_cells
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.shards.assembling import FRAMING
from pipeline.export.shards.documents import key_of
from pipeline.export.shards.layout import read_columns
from pipeline.store.completion import status, success
from pipeline.store.dataset import SUCCESS, Dataset, Plan, check_folder, sha256
from pipeline.store.reading import read_unit
from pipeline.store.storage import Store, join, open_store

DATA_VERSION = 1
VOCABULARIES = "_vocabularies"
"""Folder of the vocabularies that parts were begun with."""
KEPT_LINEAGE = ("encoder", "encoder_sha256", "layers", "num_clusters", "codebooks", "frame_rate", "hop_length", "dtype")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the driver knows before Ray starts.

    Attributes:
        config: The settings.
        tokens: The tokens dataset.
        manifest: Their manifest, None without.
        pattern: How frames become ids.
        text: The text tokenizer, None without.
        plan: Plan of the export's folder: the settings that all its parts share.
        part: The part that these tokens are, not yet claimed.
    """

    config: ExportTokensConfig
    tokens: Dataset
    manifest: Manifest | None
    pattern: Pattern
    text: TextTokenizer | None
    plan: Plan
    part: Part


def prepare(config: ExportTokensConfig) -> Prepared:
    """Settle what can be settled without work, and refuse what cannot be exported. Writes nothing.

    Raises:
        SettingsError: Settings do not fit the tokens, the manifest or a format.
        DatasetError: An input is not finished.
        PlanMismatchError: The folder was made with other settings.
    """
    tokens = Dataset.open(config.tokens, kind="tokens")
    manifest = Manifest(config.manifest) if config.manifest is not None else None
    if manifest is not None:
        _check_manifest(tokens, manifest)
    pattern = pattern_of(config, tokens.plan.lineage["num_clusters"])
    text = TextTokenizer.open(config.text_tokenizer) if config.text_tokenizer is not None else None
    plan = _plan(config, tokens, pattern, text)
    store = open_store(config.output)
    check_folder(store, plan)
    part = find_part(store, _part(config, tokens, manifest))
    _check_limit(config, pattern)
    prepared = Prepared(
        config=config, tokens=tokens, manifest=manifest, pattern=pattern, text=text, plan=plan, part=part
    )
    sketch = Spelling(
        vocabulary=_blocks(prepared, num_merges=config.bpe_merges),
        pattern=pattern,
        frame_rate=tokens.plan.lineage["frame_rate"],
        lineage={},
    )
    # Raises where ids would pass int32.
    _ = sketch.vocabulary.dtype
    for name in config.formats:
        FORMATS[name].check(sketch, masked=config.words is not None)
    return prepared


def _check_manifest(tokens: Dataset, manifest: Manifest) -> None:
    if list(manifest.units) != list(tokens.plan.units):
        raise SettingsError(
            f"{tokens.uri} was not made from {manifest.dataset.uri}: their shards differ; give the tokens' own manifest"
        )


def pattern_of(config: ExportTokensConfig, num_clusters: Mapping[str, int]) -> Pattern:
    """Put the token columns in order.

    Args:
        config: Layers and delays.
        num_clusters: K of each token column there is.

    Raises:
        SettingsError: A layer has no tokens, or the delays do not fit.
    """
    stages: dict[int, list[str]] = {}
    for column in sorted(num_clusters):
        stages.setdefault(int(column.split("_")[1]), []).append(column)
    wanted = config.layers or tuple(sorted(stages, reverse=True))
    if absent := [layer for layer in wanted if layer not in stages]:
        raise SettingsError(f"{config.tokens} has layers {sorted(stages)}, not {absent}")
    columns = tuple(column for layer in wanted for column in stages[layer])
    return Pattern(columns=columns, delays=config.delays or (0,) * len(columns), deduplicate=config.deduplicate)


def _num_clusters(tokens: Dataset, pattern: Pattern) -> dict[str, int]:
    return {column: tokens.plan.lineage["num_clusters"][column] for column in pattern.columns}


def _check_limit(config: ExportTokensConfig, pattern: Pattern) -> None:
    least = FRAMING + len(config.prefix) + pattern.num_ids(1)
    if config.max_document_ids and config.max_document_ids < least:
        raise SettingsError(
            f"max_document_ids must be at least {least}: begin, prefix, one frame and end; "
            f"got {config.max_document_ids}"
        )


def _plan(config: ExportTokensConfig, tokens: Dataset, pattern: Pattern, text: TextTokenizer | None) -> Plan:
    lineage = tokens.plan.lineage
    content = {
        "data_version": DATA_VERSION,
        "pattern": pattern.to_json(),
        "num_clusters": _num_clusters(tokens, pattern),
        "codebooks": {column: lineage["codebooks"][column] for column in pattern.columns},
        "encoder_sha256": lineage["encoder_sha256"],
        "frame_rate": lineage["frame_rate"],
        "text_tokenizer_sha256": sha256(text.to_bytes()) if text else None,
        "words": config.words is not None,
        **{
            name: getattr(config, name)
            for name in (
                "bpe_merges",
                "bpe_ids",
                "span_words",
                "loss_on",
                "documents",
                "document_pattern",
                "max_document_ids",
                "valid_fraction",
                "split_by_speaker",
                "order",
                "seed",
                "shard_ids",
            )
        },
        "special_tokens": list(config.special_tokens),
        "prefix": list(config.prefix),
    }
    return Plan(kind="export", content=content, lineage={"kind": "export"}, units=())


def _part(config: ExportTokensConfig, tokens: Dataset, manifest: Manifest | None) -> Part:
    made_of = [tokens] if manifest is None else [manifest.dataset, tokens]
    names = [name for name in tokens.uri.rstrip("/").split("/") if name != "tokens"]
    return Part(
        name="",
        corpus=config.corpus or names[-1],
        tokens_sha256=success(tokens)["dataset_sha256"],
        manifest_sha256=success(manifest.dataset)["dataset_sha256"] if manifest is not None else None,
        lineage={key: tokens.plan.lineage.get(key) for key in KEPT_LINEAGE},
        rejects={dataset.plan.kind: dict(status(dataset).reasons) for dataset in made_of},
    )


def refuse_known(prepared: Prepared, store: Store) -> None:
    """Refuse tokens of utterances that another part has: they would be exported twice.

    Raises:
        SettingsError: There are some.
        DatasetError: Another part was begun whose utterances and special tokens are not all there yet.
    """
    parts = read_parts(store)
    if not parts or prepared.part.name in {part.name for part in parts}:
        return
    mine = _utterances(prepared.tokens)
    for part in parts:
        sequences = join(store.uri, "sequences", part.name)
        if not open_store(sequences).exists(SUCCESS):
            raise DatasetError(
                f"{part.name} of {store.uri}, the tokens of {part.corpus}, is not finished; run its export again first"
            )
        held = _utterances(Dataset.open(sequences, kind="sequences"))
        if (count := len(np.intersect1d(mine, held))) > 0:
            raise SettingsError(
                f"{count:,} utterances of {prepared.tokens.uri} are in {part.name} of {store.uri} already; build the "
                "manifest of what is new with build_manifest --known, and tokenise that"
            )


def _utterances(dataset: Dataset) -> np.ndarray:
    """Hash the utterance ids of a dataset: uint64, 8 bytes each instead of their text."""
    found = [
        np.fromiter((key_of(name) for name in rows["utterance_id"].unique().to_pylist()), np.uint64)
        for rows in read_columns(dataset, ["utterance_id"])
    ]
    return np.concatenate(found)


def encoding_of(prepared: Prepared, store: Store, part: Part) -> Encoding:
    """Settle unit BPE and vocabulary, which are written at the root of the export, and what else ids depend on.

    Raises:
        SettingsError: The special tokens of this part would make ids pass the number format of the parts before it.
    """
    config = prepared.config
    merges = _unit_bpe(prepared, store) if config.bpe_merges else None
    found = read_vocabulary(store)
    if found is None:
        # Fewer merges than asked for, where no further pair occurs twice.
        found = _blocks(prepared, num_merges=len(json.loads(merges)["model"]["merges"]) if merges else 0)
    vocabulary = _of_part(store, part, _with_specials(prepared, store, found))
    return Encoding(
        pattern=prepared.pattern,
        vocabulary=vocabulary,
        frame_rate=prepared.tokens.plan.lineage["frame_rate"],
        grouping=config.grouping,
        prefix=config.prefix,
        valid_fraction=config.valid_fraction,
        split_by_speaker=config.split_by_speaker,
        max_document_ids=config.max_document_ids,
        bpe=merges,
        interleaving=_interleaving(prepared),
    )


def _interleaving(prepared: Prepared) -> Interleaving | None:
    config = prepared.config
    if config.words is None or prepared.text is None:
        return None
    return Interleaving(
        words=config.words,
        text=prepared.text.to_bytes(),
        span_words=config.span_words,
        loss_on=config.loss_on,
        seed=config.seed,
    )


def read_vocabulary(store: Store) -> Vocabulary | None:
    """Read ``vocabulary.json`` of an export, None where there is none yet.

    Raises:
        CorruptDatasetError: It is damaged.
    """
    try:
        return Vocabulary.from_json(json.loads(store.read(FILE)), f"{store.uri}/{FILE}")
    except FileNotFoundError:
        return None


def _blocks(prepared: Prepared, num_merges: int) -> Vocabulary:
    text_size = prepared.text.size if prepared.text else 0
    return Vocabulary.build(
        _num_clusters(prepared.tokens, prepared.pattern), text_size=text_size, num_merges=num_merges
    )


def _with_specials(prepared: Prepared, store: Store, vocabulary: Vocabulary) -> Vocabulary:
    """Add the special tokens that this part brings, and write the vocabulary."""
    config = prepared.config
    modality = (SPEECH, TEXT) if config.words is not None else ()
    values = _values(prepared.manifest, fields_of(config.prefix))
    named = special_tokens(config.prefix, prepared.pattern.columns, values)
    wanted = dict.fromkeys([*modality, *config.special_tokens, *named])
    extended = vocabulary.extended([name for name in wanted if name not in vocabulary.specials])
    before = read_vocabulary(store)
    if before is not None and before.dtype != extended.dtype:
        raise SettingsError(
            f"{len(extended.specials) - len(before.specials)} new special tokens take ids past uint16, in which the "
            f"parts before lie; export all parts into a new folder"
        )
    if before != extended:
        store.write(FILE, extended.to_bytes())
    return extended


def _of_part(store: Store, part: Part, vocabulary: Vocabulary) -> Vocabulary:
    """Give the vocabulary that a part was begun with: later parts may have added special tokens behind."""
    name = f"{VOCABULARIES}/{part.name}.json"
    store.create(name, vocabulary.to_bytes())
    return Vocabulary.from_json(json.loads(store.read(name)), f"{store.uri}/{name}")


def _values(manifest: Manifest | None, columns: list[str]) -> dict[str, set[str]]:
    """Collect all values of some columns of a manifest."""
    found: dict[str, set[str]] = {column: set() for column in columns}
    if manifest is not None and columns:
        for _, rows in manifest.scan(columns):
            for column in columns:
                found[column].update(value for value in rows[column].unique().to_pylist() if value is not None)
    return found


def _unit_bpe(prepared: Prepared, store: Store) -> bytes:
    """Read the merges of an export, or train them on the part that is the first."""
    if not store.exists(bpe.FILE):
        vocabulary = _blocks(prepared, num_merges=0)
        trained = bpe.train(_training_ids(prepared, vocabulary), vocabulary, prepared.config.bpe_merges)
        store.create(bpe.FILE, trained.to_bytes())
    faults.point("after_merges", store.uri)
    return store.read(bpe.FILE)


def _training_ids(prepared: Prepared, vocabulary: Vocabulary) -> Iterator[np.ndarray]:
    """Give ids of whole units, in an order that a hash of their names says, until there are enough."""
    encode = PlainEncoder(pattern=prepared.pattern, vocabulary=vocabulary)
    left = prepared.config.bpe_ids
    for unit in sorted(prepared.tokens.plan.units, key=lambda unit: key_of(unit, "bpe")):
        for utterance_id, cells in token_cells(read_unit(prepared.tokens, unit), prepared.pattern.columns):
            if left <= 0:
                return
            ids = np.concatenate([stretch.ids for stretch in encode(utterance_id, cells)] or [np.zeros(0, np.int64)])
            left -= len(ids)
            yield ids


def sequences_plan(prepared: Prepared, encoding: Encoding, part: Part) -> Plan:
    """Plan the sequences of a part."""
    content = {
        **prepared.plan.content,
        "blocks": blocks_of(encoding.vocabulary),
        "bpe_sha256": sha256(encoding.bpe) if encoding.bpe is not None else None,
        "tokens_sha256": part.tokens_sha256,
        "manifest_sha256": part.manifest_sha256,
        "corpus": part.corpus,
        "words_sha256": Alignment(encoding.interleaving.words).sha256() if encoding.interleaving else None,
    }
    return Plan(
        kind="sequences",
        content=content,
        lineage=lineage_of(encoding, part, "sequences"),
        units=prepared.tokens.plan.units,
        totals={
            "rows": sum(commit.data.rows for commit in prepared.tokens.commits()),
            "seconds": sum(commit.seconds for commit in prepared.tokens.commits()),
        },
    )


def lineage_of(encoding: Encoding, part: Part, kind: str) -> dict[str, Any]:
    """Say what readers of a part need to know, for footers and headers."""
    return {
        **part.lineage,
        "kind": kind,
        "schema_version": schema.SCHEMA_VERSION,
        "tokens_sha256": part.tokens_sha256,
        "manifest_sha256": part.manifest_sha256,
        "pattern": encoding.pattern.to_json(),
        "blocks": blocks_of(encoding.vocabulary),
    }


def blocks_of(vocabulary: Vocabulary) -> dict[str, Any]:
    """Give what of a vocabulary holds for all parts: special tokens are left out, because later parts add some."""
    return {name: value for name, value in vocabulary.to_json().items() if name in ("text", "layers", "bpe", "dtype")}
