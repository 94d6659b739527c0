"""How an export turns utterances into rows: everything that the ids depend on, in one picklable value."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.audio.alignment import Alignment
from pipeline.export.grouping import Grouping, Together
from pipeline.export.ids.bpe import UnitBpe
from pipeline.export.ids.interleaving import NO_WORDS, Interleaver, Loss, Words, loss_mask, words_of
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.prefix import Prefix
from pipeline.export.ids.rows import Encode, Naming, PlainEncoder, Stretch
from pipeline.export.ids.tokenizer_folder import TextTokenizer
from pipeline.export.ids.vocabulary import FRAMING, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Interleaving:
    """How text and speech take turns.

    Attributes:
        words: URI of an alignment whose labels are words.
        text: Content of the text tokenizer's tokenizer.json.
        span_words: Words between changes, on average.
        loss_on: Ids that count for the loss.
        seed: Seed of the spans.
    """

    words: str
    text: bytes
    span_words: float
    loss_on: Loss
    seed: int

    def words_of(self, utterance_ids: Collection[str]) -> dict[str, Words]:
        """Read the words of some utterances, in one pass over the file."""
        return words_of(Alignment(self.words).batches(), utterance_ids)

    def interleaver(self, encoding: "Encoding") -> Interleaver:
        """Build what interleaves."""
        return Interleaver(
            pattern=encoding.pattern,
            vocabulary=encoding.vocabulary,
            frame_rate=encoding.frame_rate,
            text_ids=TextTokenizer.from_bytes(self.text, "the text tokenizer of this export"),
            mean_span_words=self.span_words,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What ids and documents depend on.

    Attributes:
        pattern: How frames become ids.
        vocabulary: Which ids.
        frame_rate: Frames a second.
        grouping: What a document is.
        prefix: Templates of the special tokens that it begins with.
        valid_fraction: Share of documents on the validation side.
        split_by_speaker: Whether all of a speaker is on one side.
        together: Documents that share speakers with others.
        max_document_ids: Most ids of a document, 0 for no limit.
        bpe: Content of the unit BPE's tokenizer.json, None without.
        interleaving: How text and speech take turns, None without text.
    """

    pattern: Pattern
    vocabulary: Vocabulary
    frame_rate: float
    grouping: Grouping
    prefix: tuple[str, ...] = ()
    valid_fraction: float = 0.0
    split_by_speaker: bool = False
    together: Together = Together()
    max_document_ids: int = 0
    bpe: bytes | None = None
    interleaving: Interleaving | None = None

    @property
    def max_row_ids(self) -> int:
        """Most ids of a row, so that a document of one row keeps the limit; 0 for no limit."""
        return self.max_document_ids and self.max_document_ids - FRAMING - len(self.prefix)

    def encoder(self, words: Mapping[str, Words]) -> Encode:
        """Build what turns an utterance's tokens into stretches of ids.

        Args:
            words: Word times of the utterances; read where text and speech are interleaved.
        """
        encode: Encode = PlainEncoder(pattern=self.pattern, vocabulary=self.vocabulary, max_ids=self.max_row_ids)
        loss_on: Loss = "all"
        if self.interleaving is not None:
            loss_on = self.interleaving.loss_on
            encode = _Interleaved(self.interleaving.interleaver(self), words, loss_on)
        return encode if self.bpe is None else _Merged(encode, self._unit_bpe, loss_on)

    @cached_property
    def _unit_bpe(self) -> UnitBpe:
        assert self.bpe is not None
        return UnitBpe.from_bytes(self.bpe, self.vocabulary, "the unit BPE of this export")

    def naming(self) -> Naming:
        """Build what decides an utterance's document."""
        return Naming(
            grouping=self.grouping,
            prefix=Prefix.of(self.prefix, self.pattern.columns, self.vocabulary),
            valid_fraction=self.valid_fraction,
            split_by_speaker=self.split_by_speaker,
            together=self.together,
        )


class _Interleaved:
    """Encodes utterances as spans of text and of speech, a stretch each."""

    def __init__(self, interleaver: Interleaver, words: Mapping[str, Words], loss_on: Loss) -> None:
        self._interleaver, self._words, self._loss_on = interleaver, words, loss_on

    def __call__(self, utterance_id: str, tokens: Mapping[str, np.ndarray]) -> list[Stretch]:
        """Encode one utterance; see ``Encode``."""
        spans = self._interleaver(utterance_id, tokens, self._words.get(utterance_id, NO_WORDS))
        return [
            Stretch(
                first_frame=span.first_frame,
                num_frames=span.num_frames,
                num_kept=span.num_kept,
                ids=span.ids,
                durations=span.durations,
                speech=span.speech,
                loss_mask=None
                if self._loss_on == "all"
                else loss_mask(speech=span.speech, num_ids=len(span.ids), loss=self._loss_on),
            )
            for span in spans
        ]


class _Merged:
    """Merges the ids that another encoder gives."""

    def __init__(self, encode: Encode, bpe: UnitBpe, loss_on: Loss) -> None:
        self._encode, self._bpe, self._loss_on = encode, bpe, loss_on

    def __call__(self, utterance_id: str, tokens: Mapping[str, np.ndarray]) -> list[Stretch]:
        """Encode one utterance; see ``Encode``."""
        stretches = self._encode(utterance_id, tokens)
        merged = self._bpe.encode_many([stretch.ids for stretch in stretches])
        return [
            replace(
                stretch,
                ids=ids,
                loss_mask=None
                if stretch.loss_mask is None
                else loss_mask(speech=stretch.speech, num_ids=len(ids), loss=self._loss_on),
            )
            for stretch, ids in zip(stretches, merged, strict=True)
        ]
