"""Settings of export_tokens."""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping
from pipeline.export.ids.prefix import fields_of
from pipeline.export.shards.planning import ShardSettings
from pipeline.settings import Settings
from pipeline.work.choice import RunnerSettings
from pipeline.work.worker_shape import Placement

FORMAT_NAMES = ("megatron", "nanotron", "olmo", "parquet", "webdataset", "slamkit", "fairseq")


@dataclass(frozen=True, kw_only=True)
class ExportTokensConfig(Settings):
    """Settings of export_tokens."""

    tokens: str
    """Tokens dataset, local or s3://. Another one into the same output becomes its next part."""
    output: str
    """Folder of the export, local or s3://."""
    manifest: str | None = None
    """Manifest that the tokens were made from: recordings, speakers, languages and text of the documents."""
    corpus: str | None = None
    """What the card calls these tokens; default: the last name of the tokens' path before "tokens"."""
    formats: tuple[str, ...] = ("megatron", "parquet")
    """Formats to write: megatron, nanotron, olmo, parquet, webdataset; experimental, since tests imitate their readers:
    slamkit, fairseq."""
    layers: tuple[int, ...] = ()
    """Layers, coarse one first; default: all, the highest first, each with its residual stages."""
    delays: tuple[int, ...] = ()
    """For each layer (and residual stage), how many frames later its tokens come; default: none."""
    deduplicate: bool = False
    """Leave out frames that repeat the one before them in all layers; how long each lasted is kept."""
    bpe_merges: int = 0
    """Merges of unit BPE on top; 0: none. It is trained on the first part."""
    bpe_ids: int = 5_000_000
    """Ids that unit BPE is trained on at most; each takes about 100 bytes of the driver."""
    text_tokenizer: str | None = None
    """Tokenizer whose ids come before those of the units: a Hugging Face name or folder."""
    words: str | None = None
    """Alignment with word times (utterance_id, start, end, label); text and speech are interleaved by it."""
    span_words: float = 8.0
    """Words in a row that are text, or speech, where they are interleaved: the mean."""
    loss_on: Literal["all", "speech", "text"] = "all"
    """Ids that count for the loss, where text and speech are interleaved."""
    documents: str = "utterance"
    """What a document is: utterance, recording (all its segments in order), or a column of the manifest."""
    document_pattern: str | None = None
    """Regular expression whose first group, found in the utterance_id, names the document, as '^(.+)-[^-]+$'."""
    max_document_ids: int = 0
    """Longer documents become several; 0: no limit."""
    special_tokens: tuple[str, ...] = ()
    """Further special tokens of the vocabulary, as <|speech|>."""
    prefix: tuple[str, ...] = ()
    """Special tokens that each document begins with, as <|speech|> or <|{language}|>; of {language}, {speaker},
    {emotion}, {split} and {layers}, one a token."""
    valid_fraction: float = 0.01
    """Share of documents on the validation side, chosen by a hash of their ids."""
    split_by_speaker: bool = False
    """Choose the side by the speaker instead, so that each speaker is on one side."""
    order: Literal["source", "shuffled"] = "source"
    """Order of documents: as they come, or shuffled over the whole part."""
    seed: int = 0
    """Seed of the shuffle and of interleaving."""
    shard_ids: int = 100_000_000
    """Ids of a shard, about; shards of a part differ by 5 % at most."""
    strict: bool = False
    """Stop, before anything is written, where --words, --document-pattern or a label do not meet all utterances."""
    num_workers: int | None = None
    """Workers; default: as many as the CPUs carry."""
    max_workers: int | None = None
    """Workers up to which the pool may grow while the job runs."""
    numerics: Literal["same", "any"] = "same"
    """Whether a dataset may mix machines whose library versions differ."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if not self.formats or len(set(self.formats)) < len(self.formats):
            raise SettingsError(f"formats must name formats that differ, got {list(self.formats)}")
        if unknown := [name for name in self.formats if name not in FORMAT_NAMES]:
            raise SettingsError(f"formats must be of {', '.join(FORMAT_NAMES)}, got {', '.join(unknown)}")
        if len(set(self.layers)) < len(self.layers):
            raise SettingsError(f"layers must differ, got {list(self.layers)}")
        for name in ("bpe_merges", "max_document_ids", "seed"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("bpe_ids", "shard_ids"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.valid_fraction < 1:
            raise SettingsError(f"valid_fraction must be in [0, 1), got {self.valid_fraction}")
        if not self.span_words >= 1:
            raise SettingsError(f"span_words must be at least 1, got {self.span_words}")
        if self.words is not None and self.text_tokenizer is None:
            raise SettingsError("words need --text-tokenizer, the one whose ids the text gets")
        if self.words is not None and self.max_document_ids:
            raise SettingsError("max_document_ids cannot cut text and speech that are interleaved; leave one away")
        if self.loss_on != "all" and self.words is None:
            raise SettingsError(f"loss_on {self.loss_on} needs --words: without text all ids are speech")
        _ = self.placement, self.grouping
        read = fields_of(self.prefix)
        if self.manifest is None and (self.documents != "utterance" or self.split_by_speaker or read):
            raise SettingsError(
                "--documents, --split-by-speaker and fields of --prefix need --manifest, the one of the tokens"
            )

    @property
    def placement(self) -> Placement:
        """How the work wants to lie on the cluster."""
        return Placement(num_workers=self.num_workers, max_workers=self.max_workers, gpus_per_worker=0)

    @property
    def grouping(self) -> Grouping:
        """What a document is."""
        return Grouping(by=self.documents, pattern=self.document_pattern)

    @property
    def shards(self) -> ShardSettings:
        """How documents are put into shards."""
        return ShardSettings(
            shard_ids=self.shard_ids,
            max_document_ids=self.max_document_ids,
            order=self.order,
            seed=self.seed,
            by_offset=self.documents == "recording",
        )
