"""Text and speech of an utterance in turns: some words are written, some are heard, each once.

    <|speech|> units of "how are" <|text|> ids of "you today" <|speech|> units of "fine"

Before each word but the first, the modality changes with probability 1 / ``mean_span_words``, so spans have that many
words on average (geometric, at least 1); the first modality is a fair coin. Draws depend on seed and utterance_id
alone. Spans tile the words and the frames: frame t belongs to the last word that begins no later than its middle, at
(t + 1/2) / ``frame_rate`` seconds; so a pause belongs to the word before it, and what is before the first word to the
first. Where a change would leave a span without a frame, there is none.

Source: T. A. Nguyen et al. 2024, Spirit LM: Interleaved Spoken and Written Language Model (word-level interleaving
with a token at each change of modality). There spans are of a range of lengths; here they are geometric.
Shapes: T frames, N ids, W words.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.audio.alignment import Names
from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.patterns import Pattern, UnitSequence, encode
from pipeline.export.ids.vocabulary import EMPTY, SPEECH, TEXT, Vocabulary

Loss = Literal["all", "speech", "text"]
OVERLAP_FRAMES = 1
"""How far a word may reach into the next one: times are rounded."""
OVERRUN_FRAMES = 2
"""How far a word may pass the last frame: the wav2vec 2.0 family gives none for the last 1.25 hops of a recording,
Wav2Vec2Bert for the last 1.75."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """The words of an utterance in order.

    Attributes:
        starts: float64 (W,), seconds from the beginning of the utterance.
        ends: float64 (W,), seconds.
        labels: The words; empty ones are pauses.
    """

    starts: np.ndarray
    ends: np.ndarray
    labels: tuple[str, ...]


NO_WORDS = Words(starts=np.zeros(0), ends=np.zeros(0), labels=())


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """Some words, heard or written.

    Attributes:
        speech: Whether they are heard.
        words: The words.
        first_frame: The first of their frames.
        num_frames: How many frames they last, at least 1.
        ids: int64 (N,): ``<|speech|>`` or ``<|text|>``, and what comes after it.
        durations: int32, frames that each kept frame lasted, none where words are written; None where the pattern
            leaves no frame out.
    """

    speech: bool
    words: tuple[str, ...]
    first_frame: int
    num_frames: int
    ids: np.ndarray
    durations: np.ndarray | None

    @property
    def num_kept(self) -> int:
        """Frames that have ids of their own."""
        if not self.speech:
            return 0
        return self.num_frames if self.durations is None else len(self.durations)


@dataclass(frozen=True, kw_only=True)
class Interleaver:
    """Interleaves utterances.

    Attributes:
        pattern: How frames become ids, each span by itself.
        vocabulary: Which ids; has text, ``<|speech|>`` and ``<|text|>``.
        frame_rate: Frames a second.
        text_ids: Gives the text ids of words that are joined by spaces; no space stands before them.
        mean_span_words: Words between changes of modality, on average; at least 1.
        seed: Seed of the draws.
    """

    pattern: Pattern
    vocabulary: Vocabulary
    frame_rate: float
    text_ids: Callable[[str], Sequence[int] | np.ndarray]
    mean_span_words: float
    seed: int

    def __post_init__(self) -> None:
        if not self.mean_span_words >= 1:
            raise SettingsError(f"mean_span_words must be at least 1, got {self.mean_span_words}")
        if not self.vocabulary.text_size:
            raise SettingsError("interleaving needs text ids; name a text tokenizer")
        for name in (SPEECH, TEXT):
            self.vocabulary.special(name)

    def __call__(self, utterance_id: str, tokens: Mapping[str, np.ndarray], words: Words) -> tuple[Span, ...]:
        """Interleave one utterance.

        Args:
            utterance_id: Whose draws.
            tokens: Integers (T,) for each column of the pattern.
            words: Its words; without any, it is all speech.

        Returns:
            Spans that tile its words and its frames, none where it has neither. Their ids one after the other are
            those of the utterance.

        Raises:
            SettingsError: Words overlap, are not sorted or lie outside the utterance; text ids are not those of the
                vocabulary.
            CorruptDatasetError: A token is past its codebook.
        """
        num_frames = len(tokens[self.pattern.columns[0]])
        starts, labels = _checked(utterance_id, words, num_frames, self.frame_rate)
        if not num_frames:
            return ()
        draws = _draws(self.seed, utterance_id, max(1, len(labels)))
        speech = not labels or bool(draws[0] < 0.5)
        first_frames = np.ceil(starts * self.frame_rate - 0.5).astype(np.int64)
        cuts = [(0, 0)]
        for word in range(1, len(labels)):
            if draws[word] * self.mean_span_words < 1 and cuts[-1][1] < first_frames[word] < num_frames:
                cuts.append((word, int(first_frames[word])))
        spans = []
        for place, ((word, frame), (next_word, next_frame)) in enumerate(
            zip(cuts, [*cuts[1:], (len(labels), num_frames)], strict=True)
        ):
            heard = speech ^ bool(place % 2)
            spans.append(self._span(utterance_id, tokens, labels[word:next_word], frame, next_frame, heard))
        return tuple(spans)

    def _span(
        self,
        utterance_id: str,
        tokens: Mapping[str, np.ndarray],
        words: tuple[str, ...],
        begin: int,
        end: int,
        speech: bool,
    ) -> Span:
        """Give the ids of some words that last from frame ``begin`` up to ``end``."""
        if speech:
            part = {column: tokens[column][begin:end] for column in self.pattern.columns}
            sequence = encode(part, self.pattern, self.vocabulary)
        else:
            ids = np.asarray(self.text_ids(" ".join(words)), np.int64)
            if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocabulary.text_size:
                raise SettingsError(
                    f"text ids of {utterance_id} lie outside 0 to {self.vocabulary.text_size - 1}; "
                    "the vocabulary was laid out for another text tokenizer"
                )
            durations = np.zeros(0, np.int32) if self.pattern.deduplicate else None
            sequence = UnitSequence(ids=ids, durations=durations)
        modality = self.vocabulary.special(SPEECH if speech else TEXT)
        return Span(
            speech=speech,
            words=words,
            first_frame=begin,
            num_frames=end - begin,
            ids=np.concatenate([np.array([modality]), sequence.ids]),
            durations=sequence.durations,
        )


def loss_mask(*, speech: bool, num_ids: int, loss: Loss) -> np.ndarray:
    """Say which ids of a span count; unit BPE may have merged some of them meanwhile.

    With ``all``, every id counts, as in Spirit LM. With ``speech`` or ``text``, those of that modality count and the
    token at the change does not: where it stands was drawn, and is not to be learned.

    Args:
        speech: Whether the span is heard.
        num_ids: Its ids, the first of them ``<|speech|>`` or ``<|text|>``.
        loss: What counts.

    Returns:
        bool (num_ids,).

    Raises:
        SettingsError: ``loss`` is something else.
    """
    if loss not in get_args(Loss):
        raise SettingsError(f"loss must be {', '.join(get_args(Loss))}, got {loss!r}")
    mask = np.full(num_ids, loss == "all" or (loss == "speech") == speech)
    mask[:1] = loss == "all"
    return mask


def speech_sequences(
    ids: np.ndarray, durations: np.ndarray | None, pattern: Pattern, vocabulary: Vocabulary
) -> list[UnitSequence]:
    """Find the speech in ids where speech and text take turns; ``sequences.decode`` gives the tokens of each.

    Args:
        ids: Integers (N,), without merges: spans one after the other, which may lie in documents.
        durations: Those of all spans one after the other; None where the pattern leaves no frame out.
        pattern: How frames became ids.
        vocabulary: Whose ids they are.

    Raises:
        CorruptDatasetError: There are more or fewer durations than frames.
    """
    numbers = ids.astype(np.int64)
    closing = (numbers >= vocabulary.units_end) & (numbers != vocabulary.special(EMPTY))
    places = np.r_[np.flatnonzero(closing), len(numbers)]
    found, kept = [], 0
    for begin, end in zip(places[:-1] + 1, places[1:], strict=True):
        if numbers[begin - 1] == vocabulary.special(SPEECH) and begin < end:
            until = kept + pattern.num_frames(int(end - begin))
            lasted = None if durations is None else durations[kept:until]
            found.append(UnitSequence(ids=numbers[begin:end], durations=lasted))
            kept = until
    if durations is not None and kept != len(durations):
        raise CorruptDatasetError(f"speech of {kept} kept frames comes with durations of {len(durations)}")
    return found


def words_of(batches: Iterable[pa.RecordBatch], utterance_ids: Collection[str]) -> dict[str, Words]:
    """Collect the words of some utterances.

    Args:
        batches: Rows of ``schema.ALIGNMENT`` in any order, whose labels are words.
        utterance_ids: Which.

    Returns:
        Words in the order of their times; an utterance without any is missing.
    """
    wanted = Names(utterance_ids)
    held = [wanted.rows_of(batch) for batch in batches]
    rows = pa.Table.from_batches(held, schema.ALIGNMENT).sort_by(
        [(name, "ascending") for name in ("utterance_id", "start_seconds", "end_seconds")]
    )
    starts, ends = rows["start_seconds"].to_numpy(), rows["end_seconds"].to_numpy()
    names, labels = rows["utterance_id"].to_pylist(), rows["label"].to_pylist()
    cuts = [0, *(place for place in range(1, len(names)) if names[place] != names[place - 1]), len(names)]
    return {
        names[begin]: Words(starts=starts[begin:end], ends=ends[begin:end], labels=tuple(labels[begin:end]))
        for begin, end in zip(cuts, cuts[1:], strict=False)
        if begin < end
    }


def _checked(utterance_id: str, words: Words, num_frames: int, frame_rate: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the beginnings of words that are no pauses, ascending, and the words."""
    starts, ends = words.starts, words.ends
    hop = 1 / frame_rate
    # 1e-6 s: what float64 loses of times with six digits after the point.
    problems = {
        "ends before it begins": ~(starts <= ends),
        "begins before the utterance": starts < -OVERLAP_FRAMES * hop - 1e-6,
        "ends past the utterance": ~(ends <= (num_frames + OVERRUN_FRAMES) * hop + 1e-6),
        "begins before the one before it has ended": np.r_[False, starts[1:] < ends[:-1] - OVERLAP_FRAMES * hop - 1e-6][
            : len(starts)
        ],
    }
    for problem, wrong in problems.items():
        if wrong.any():
            word = int(np.flatnonzero(wrong)[0])
            raise SettingsError(
                f"word {word} of utterance {utterance_id}, {words.labels[word]!r} at {starts[word]} to {ends[word]} s, "
                f"{problem}; its {num_frames} frames last {num_frames * hop:.3f} s. Mend its word times, or leave "
                "them out"
            )
    spoken = np.array([bool(label.strip()) for label in words.labels], bool)
    labels = tuple(label.strip() for label in words.labels if label.strip())
    if labels and not num_frames:
        raise SettingsError(f"utterance {utterance_id} has {len(labels)} words and no frames; leave them out")
    return np.maximum.accumulate(np.clip(starts[spoken], 0, None)), labels


def _draws(seed: int, utterance_id: str, count: int) -> np.ndarray:
    """Draw numbers in [0, 1) that belong to an utterance, from raw bits: numpy promises that those never change."""
    digest = hashlib.blake2b(f"{seed}\0{utterance_id}".encode(), digest_size=16).digest()
    raw = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(count)
    draws: np.ndarray = (raw >> np.uint64(11)) * 2.0**-53
    return draws
