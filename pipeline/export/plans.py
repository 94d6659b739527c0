"""The plans of an export's datasets: what their bytes depend on, and what readers need to know of them."""

from collections.abc import Sequence
from typing import Any

from pipeline import schema
from pipeline.audio.alignment import Alignment
from pipeline.export.ids.encoding import Encoding
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.tokenizer_folder import TextTokenizer
from pipeline.export.ids.vocabulary import Vocabulary
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.shards.parts import Part
from pipeline.store.dataset import Dataset, Plan, canonical, sha256

DATA_VERSION = 1


def export_plan(config: ExportTokensConfig, tokens: Dataset, pattern: Pattern, text: TextTokenizer | None) -> Plan:
    """Plan the folder of an export: the settings that all its parts share."""
    lineage = tokens.plan.lineage
    content = {
        "data_version": DATA_VERSION,
        "pattern": pattern.to_json(),
        "num_clusters": {column: lineage["num_clusters"][column] for column in pattern.columns},
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


def sequences_plan(shared: Plan, tokens: Dataset, encoding: Encoding, part: Part, plain_names: Sequence[str]) -> Plan:
    """Plan the sequences of a part.

    Args:
        shared: Plan of the export's folder.
        tokens: The tokens dataset of the part.
        encoding: How its utterances become rows.
        part: The part.
        plain_names: ``Matching.plain_names``.
    """
    packed = [encoding.together.train.hex(), encoding.together.valid.hex()]
    content = {
        **shared.content,
        "blocks": blocks_of(encoding.vocabulary),
        "bpe_sha256": sha256(encoding.bpe) if encoding.bpe is not None else None,
        "tokens_sha256": part.tokens_sha256,
        "manifest_sha256": part.manifest_sha256,
        "corpus": part.corpus,
        # A part whose documents all lie where their names put them has the plan that it always had.
        **({"together_sha256": sha256(canonical(packed).encode())} if encoding.together else {}),
        "words_sha256": Alignment(encoding.interleaving.words).sha256() if encoding.interleaving else None,
        # Exports from before names were looked up so met nothing there, in silence; they are refused, others go on.
        **({"plain_names": list(plain_names)} if plain_names else {}),
    }
    return Plan(
        kind="sequences",
        content=content,
        lineage=lineage_of(encoding, part, "sequences"),
        units=tokens.plan.units,
        totals={
            "rows": sum(commit.data.rows for commit in tokens.commits()),
            "seconds": sum(commit.seconds for commit in tokens.commits()),
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
