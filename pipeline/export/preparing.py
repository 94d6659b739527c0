"""What the driver settles before any row is written: pattern, settings, part, unit BPE, vocabulary. Needs no Ray."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pipeline.audio.loading import Manifest
from pipeline.errors import SettingsError
from pipeline.export.formats.arrays import Spelling
from pipeline.export.formats.registry import FORMATS
from pipeline.export.grouping import Grouping, Together
from pipeline.export.ids.encoding import Encoding, Interleaving
from pipeline.export.ids.merges import unit_bpe
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.prefix import fields_of, special_tokens
from pipeline.export.ids.rows import LABEL_COLUMNS, PlainEncoder, labels_of
from pipeline.export.ids.tokenizer_folder import TextTokenizer
from pipeline.export.ids.vocabularies import of_part, read_vocabulary, values_of, with_specials
from pipeline.export.ids.vocabulary import FRAMING, SPEECH, TEXT, Vocabulary
from pipeline.export.matching import Matching, match
from pipeline.export.plans import export_plan
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.shards.parts import Part, find_part, part_of, speaker_sides
from pipeline.export.together import SpokenDocument, put_together, shares_speakers
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.storage import Store, open_store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreparedExport:
    """What the driver knows before Ray starts.

    Attributes:
        config: The settings.
        tokens: The tokens dataset.
        manifest: Their manifest, None without.
        pattern: How frames become ids.
        text: The text tokenizer, None without.
        plan: Plan of the export's folder: the settings that all its parts share.
        part: The part that these tokens are, not yet claimed.
        matching: What word times and document pattern meet.
        grouping: What a document is, now that this is known.
        together: Documents that share speakers with others, whose side follows from these.
        no_audio_list: Why fairseq's list of recordings would be wrong; None where it is right.
    """

    config: ExportTokensConfig
    tokens: Dataset
    manifest: Manifest | None
    pattern: Pattern
    text: TextTokenizer | None
    plan: Plan
    part: Part
    matching: Matching
    grouping: Grouping
    together: Together
    no_audio_list: str | None

    def blocks(self, num_merges: int) -> Vocabulary:
        """Lay out the ids of text, layers and merges, without special tokens."""
        text_size = self.text.size if self.text else 0
        return Vocabulary.build(self.plan.content["num_clusters"], text_size=text_size, num_merges=num_merges)

    def special_tokens(self) -> list[str]:
        """Name the special tokens that this part needs, beside those of every vocabulary."""
        modality = (SPEECH, TEXT) if self.config.words is not None else ()
        values = values_of(self.manifest, fields_of(self.config.prefix))
        named = special_tokens(self.config.prefix, self.pattern.columns, values)
        return [*modality, *self.config.special_tokens, *named]


def prepare(config: ExportTokensConfig) -> PreparedExport:
    """Settle what can be settled without work, and refuse what cannot be exported. Writes nothing.

    Raises:
        SettingsError: Settings do not fit the tokens, the manifest or a format; or word times or a document pattern
            meet no utterance.
        ManifestError: With ``strict``, they do not meet some.
        DatasetError: An input is not finished.
        PlanMismatchError: The folder was made with other settings.
    """
    tokens = Dataset.open(config.tokens, kind="tokens")
    manifest = Manifest(config.manifest) if config.manifest is not None else None
    if manifest is not None:
        _check_manifest(tokens, manifest)
    pattern = pattern_of(config, tokens.plan.lineage["num_clusters"])
    text = TextTokenizer.open(config.text_tokenizer) if config.text_tokenizer is not None else None
    plan = export_plan(config, tokens, pattern, text)
    store = open_store(config.output)
    check_folder(store, plan)
    part = find_part(store, part_of(tokens, manifest.dataset if manifest else None, config.corpus))
    _check_limit(config, pattern)
    matching = match(config, tokens, manifest)
    grouping = replace(config.grouping, plain_names="document_pattern" in matching.plain_names)
    prepared = PreparedExport(
        config=config,
        tokens=tokens,
        manifest=manifest,
        pattern=pattern,
        text=text,
        plan=plan,
        part=part,
        matching=matching,
        grouping=grouping,
        together=_together(config, grouping, manifest, partial(speaker_sides, store, part)),
        no_audio_list=why_no_audio_list(config, manifest),
    )
    sketch = Spelling(
        vocabulary=prepared.blocks(num_merges=config.bpe_merges),
        pattern=pattern,
        frame_rate=tokens.plan.lineage["frame_rate"],
        lineage={},
    )
    # Raises where ids would pass int32.
    _ = sketch.vocabulary.dtype
    for name in config.formats:
        FORMATS[name].check(sketch, masked=config.words is not None)
    if "fairseq" in config.formats and prepared.no_audio_list is not None:
        logger.warning("fairseq: .km is written without .tsv: %s", prepared.no_audio_list)
    if config.strict:
        prepared.matching.passed_over.refuse(tokens.uri)
    return prepared


def why_no_audio_list(config: ExportTokensConfig, manifest: Manifest | None) -> str | None:
    """Say why a line of units is not a whole recording; None where each is.

    fairseq's ``.tsv`` names a file a line, without an offset or a channel, and ``hubert_dataset.py`` reads all of it.
    """
    if manifest is None:
        return "without --manifest nobody knows the recordings"
    if config.deduplicate:
        return "repeated frames are left out, so units and audio have other lengths"
    if config.max_document_ids:
        return "documents are cut after --max-document-ids"
    if config.documents not in ("utterance", "recording") or config.document_pattern is not None:
        return "documents are not recordings"
    parts = manifest.parts
    if parts is None:
        return "the manifest does not say whether its utterances are whole files; build it again"
    return None if parts == 0 else f"{parts:,} utterances are segments, channels or inside other files"


def _together(
    config: ExportTokensConfig,
    grouping: Grouping,
    manifest: Manifest | None,
    earlier: Callable[[], Mapping[str, bool | None]],
) -> Together:
    """Find the documents that share speakers, where sides are those of speakers."""
    if manifest is None or not (config.split_by_speaker and config.valid_fraction and shares_speakers(grouping)):
        return Together()
    spoken = (
        SpokenDocument(
            document_id=grouping.document_id(name, about),
            speaker=about["speaker"],
            seconds=about["num_samples"] / about["sample_rate"],
        )
        for _, rows in manifest.scan(["utterance_id", *LABEL_COLUMNS])
        for name, about in labels_of(rows, manifest.roots).items()
    )
    return put_together(spoken, config.valid_fraction, earlier())


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


def _check_limit(config: ExportTokensConfig, pattern: Pattern) -> None:
    least = FRAMING + len(config.prefix) + pattern.num_ids(1)
    if config.max_document_ids and config.max_document_ids < least:
        raise SettingsError(
            f"max_document_ids must be at least {least}: begin, prefix, one frame and end; "
            f"got {config.max_document_ids}"
        )


def encoding_of(prepared: PreparedExport, store: Store, part: Part) -> Encoding:
    """Settle unit BPE and vocabulary, which are written at the root of the export, and what else ids depend on.

    Raises:
        SettingsError: The special tokens of this part would make ids pass the number format of the parts before it.
    """
    config = prepared.config
    merges = None
    if config.bpe_merges:
        encode = PlainEncoder(pattern=prepared.pattern, vocabulary=prepared.blocks(num_merges=0))
        merges = unit_bpe(store, prepared.tokens, encode, num_merges=config.bpe_merges, max_ids=config.bpe_ids)
    found = read_vocabulary(store)
    if found is None:
        # Fewer merges than asked for, where no further pair occurs twice.
        found = prepared.blocks(num_merges=len(json.loads(merges)["model"]["merges"]) if merges else 0)
    vocabulary = of_part(store, part.name, with_specials(store, found, prepared.special_tokens()))
    return Encoding(
        pattern=prepared.pattern,
        vocabulary=vocabulary,
        frame_rate=prepared.tokens.plan.lineage["frame_rate"],
        grouping=prepared.grouping,
        prefix=config.prefix,
        valid_fraction=config.valid_fraction,
        split_by_speaker=config.split_by_speaker,
        together=prepared.together,
        max_document_ids=config.max_document_ids,
        bpe=merges,
        interleaving=_interleaving(prepared),
    )


def _interleaving(prepared: PreparedExport) -> Interleaving | None:
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
