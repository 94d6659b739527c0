"""Transcripts as symbols of an alphabet, and back: characters, the pieces of a BPE, or, to be read, phones.

Both sides of every comparison pass through ``normalize``: Unicode is composed (NFC), then what the setting says, then
runs of white space become one space and the ends lose theirs. Symbol 0 is CTC's blank and no text. A character outside
the alphabet ends the run before training, named with the number of utterances that have it, or is dropped from its
transcript where the setting says so.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from pipeline.batches.survey import Parts
from pipeline.errors import SettingsError
from pipeline.metrics.spelling import english
from pipeline.tasks.asr.settings import Normalization, TextSettings, Units
from pipeline.tasks.phones import phones

BLANK = ""
_BLANK_PIECE = "<blank>"
_WORD_BEGINS = "\u2581"
_TOLD = 10
_TEXT = "text"
_WORDS_TOGETHER = 1000
CHARACTERS = "characters"
WORDS = "words"


def normalize(text: str, how: Normalization) -> str:
    """Give the text that is learned and compared.

    Args:
        text: A transcript.
        how: ``upper``, ``lower``, ``none``, or ``english``: whisper's rules without its table of British spellings.
    """
    text = unicodedata.normalize("NFC", text)
    if how == "english":
        text = english(text)
    elif how != "none":
        text = text.upper() if how == "upper" else text.lower()
    return " ".join(text.split())


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """What a recogniser can write.

    Attributes:
        units: Characters or BPE pieces.
        symbols: By number; the first is the blank. Pieces begin a word with U+2581.
        characters: Characters that transcripts may have.
        text_normalization: What is done to every text.
        drops_unknown: Whether other characters are dropped instead of refused.
        tokenizer: The BPE as JSON of ``tokenizers``; None for characters.
        phone_language: Language in whose phones texts are spelt, whose letters are the characters; None for others.
    """

    units: Units
    symbols: tuple[str, ...]
    characters: frozenset[str]
    text_normalization: Normalization
    drops_unknown: bool
    tokenizer: str | None = None
    phone_language: str | None = None

    def __len__(self) -> int:
        return len(self.symbols)

    def normalize(self, text: str) -> str:
        """Give the text as it is learned and compared."""
        return normalize(text, self.text_normalization)

    def spell(self, text: str) -> str:
        """Give what the alphabet's characters spell: the text as it is learned, or its phones."""
        text = self.normalize(text)
        return text if self.phone_language is None else phones(text, self.phone_language)

    def encode(self, text: str) -> list[int]:
        """Give the symbols of a transcript; none for an empty one.

        Raises:
            SettingsError: A character is not in the alphabet, and is not to be dropped.
        """
        text = self.spell(text)
        if strange := sorted(set(text) - self.characters):
            if not self.drops_unknown:
                raise SettingsError(_refusal({character: 1 for character in strange}))
            text = " ".join("".join(character for character in text if character in self.characters).split())
        if self.tokenizer is not None:
            return list(self._bpe.encode(text).ids) if text else []
        return [self._numbers[character] for character in text]

    def decode(self, numbers: Iterable[int]) -> str:
        """Give the text of symbols, blanks left out; the inverse of ``encode`` on normalised text."""
        text = "".join(self.symbols[number] for number in numbers)
        return " ".join(text.replace(_WORD_BEGINS, " ").split() if self.units == "bpe" else text.split())

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @cached_property
    def _bpe(self) -> Any:
        from tokenizers import Tokenizer

        assert self.tokenizer is not None
        return Tokenizer.from_str(self.tokenizer)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is made on demand behind."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON values; ``from_json`` takes them."""
        return {
            "units": self.units,
            "symbols": list(self.symbols),
            "characters": "".join(sorted(self.characters)),
            "text_normalization": self.text_normalization,
            "drops_unknown": self.drops_unknown,
            "tokenizer": self.tokenizer,
        } | ({} if self.phone_language is None else {"phone_language": self.phone_language})

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Alphabet":
        """Make an alphabet of what ``to_json`` gave."""
        characters = frozenset(given["characters"])
        return cls(**{**given, "symbols": tuple(given["symbols"]), "characters": characters})


def spelling(settings: TextSettings) -> Callable[[str], str]:
    """Give what spells a text in the characters of the alphabet that is to be made, as ``Alphabet.spell`` does."""
    how, language = settings.text_normalization, settings.phone_language
    if settings.units != "phones":
        return partial(normalize, how=how)
    return lambda text: phones(normalize(text, how), language)


def transcript_parts(settings: TextSettings) -> tuple[Parts, ...]:
    """Say what is counted of transcripts: utterances that have each character, and for a BPE each word."""
    how = settings.text_normalization
    given = None if settings.alphabet is None or settings.unknown == "error" else _cased(settings.alphabet, how)

    def words(text: str) -> list[str]:
        known = normalize(text, how)
        return (known if given is None else "".join(letter for letter in known if letter in given)).split()

    spell = spelling(settings)
    characters = Parts(name=CHARACTERS, column=_TEXT, of=lambda text: set(spell(text)))
    return (characters, *([Parts(name=WORDS, column=_TEXT, of=words)] if settings.units == "bpe" else []))


def build_alphabet(settings: TextSettings, characters: Mapping[str, int], words: Mapping[str, int]) -> Alphabet:
    """Make the alphabet of training transcripts.

    Args:
        settings: Units, normalisation, and characters where they are given.
        characters: Transcripts that have each character, as ``transcript_parts`` gives them.
        words: How often transcripts have each word; for a BPE alone.

    Raises:
        SettingsError: No transcript has a character, a BPE is too small for its characters, or a transcript has one
            that the given alphabet has not.
    """
    how = settings.text_normalization
    # A given alphabet is not normalised as a text: that would strip its space, and whisper's rules are for words.
    known = frozenset(characters) if settings.alphabet is None else frozenset(_cased(settings.alphabet, how))
    if not known:
        raise SettingsError("the training transcripts are all empty: there is no character to recognise")
    common: dict[str, Any] = {
        "characters": known,
        "text_normalization": how,
        "drops_unknown": settings.unknown == "drop",
    }
    found = Alphabet(units="characters", symbols=(BLANK, *sorted(known)), **common)
    if settings.units == "phones":
        found = replace(found, units="phones", phone_language=settings.phone_language)
    check_characters(found, characters)
    if settings.units != "bpe":
        return found
    return Alphabet(units="bpe", **_train_bpe(words, known, settings.vocab_size), **common)


def _cased(alphabet: str, how: Normalization) -> str:
    composed = unicodedata.normalize("NFC", alphabet)
    return {"upper": composed.upper(), "lower": composed.lower(), "english": composed.lower()}.get(how, composed)


def _train_bpe(words: Mapping[str, int], characters: frozenset[str], vocab_size: int) -> dict[str, Any]:
    """Train a BPE whose pieces do not cross words; gives its symbols and its JSON."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    letters = sorted((characters - {" "}) | {_WORD_BEGINS})
    if vocab_size < 1 + len(letters):
        raise SettingsError(f"vocab_size must be at least {1 + len(letters)}: the characters and the blank")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_WORD_BEGINS, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[_BLANK_PIECE], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(_spelt_out(words), trainer)
    # Without its name a transcript that spells the blank piece stays text.
    told = json.loads(tokenizer.to_str())
    told["added_tokens"] = []
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {"symbols": (BLANK, *(piece for piece, _ in pieces[1:])), "tokenizer": json.dumps(told)}


def _spelt_out(words: Mapping[str, int]) -> Iterator[str]:
    """Write each word as often as it was counted."""
    for word, count in sorted(words.items()):
        for first in range(0, count, _WORDS_TOGETHER):
            yield " ".join([word] * min(_WORDS_TOGETHER, count - first))


def check_characters(alphabet: Alphabet, characters: Mapping[str, int]) -> None:
    """Refuse characters outside an alphabet, all of them at once, before training.

    Args:
        alphabet: It.
        characters: Transcripts that have each character.

    Raises:
        SettingsError: There are some, and they are not to be dropped.
    """
    strange = {character: count for character, count in characters.items() if character not in alphabet.characters}
    if strange and not alphabet.drops_unknown:
        raise SettingsError(_refusal(strange))


def _refusal(found: Mapping[str, int]) -> str:
    told = [f"{character!a} in {count} utterances" for character, count in sorted(found.items())]
    more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
    return (
        f"transcripts have characters outside the alphabet: {', '.join(told[:_TOLD])}{more}; give --alphabet with "
        "them, another --text-normalization, or --unknown drop to leave them out"
    )
