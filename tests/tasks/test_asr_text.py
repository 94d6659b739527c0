"""Alphabets: what is written is read again, and what cannot be written is named."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_tasks import alphabet_of, counted

from pipeline.errors import SettingsError
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.asr.text import Alphabet, check_characters, normalize

TRANSCRIPTS = ["one two three", "Two  three four ", "seven eleven", ""]
LETTERS = alphabet_of(TextSettings(), TRANSCRIPTS)
PIECES = alphabet_of(TextSettings(units="bpe", vocab_size=30), TRANSCRIPTS)


def test_texts_are_normalised_as_said():
    assert normalize("  Don\u2019t\tgo ", "none") == "Don\u2019t go"
    assert normalize("Cafe\u0301", "upper") == "CAF\u00c9"
    assert normalize("Ab  C", "lower") == "ab c"
    assert normalize("Mr. Brown, he won't", "english") == "mister brown he will not"


def test_symbols_are_the_blank_and_the_characters_of_the_transcripts():
    assert LETTERS.symbols == ("", " ", *"EFHLNORSTUVW")
    assert LETTERS.encode("two") == [LETTERS.symbols.index(letter) for letter in "TWO"]
    assert len(LETTERS) == len(LETTERS.symbols)


def test_a_bpe_has_the_blank_first_and_pieces_longer_than_characters():
    assert PIECES.symbols[0] == ""
    assert len(PIECES) == 30
    assert max(map(len, PIECES.symbols)) > 2
    assert len(PIECES.encode("three three")) < len("three three")


def test_a_bpe_of_counted_words_is_that_of_the_texts_themselves():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(["one", "two", "three", "seven", "even"], rng.integers(1, 9))) for _ in range(300)]
    settings = TextSettings(units="bpe", vocab_size=24, alphabet="ehnotvrsw ", unknown="drop")
    made = alphabet_of(settings, [*texts, "one-two x"])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    letters = sorted("EHNOTVRSW\u2581")
    trainer = trainers.BpeTrainer(
        vocab_size=24, special_tokens=["<blank>"], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([*map(str.upper, texts), "ONETWO"], trainer)
    assert dict(enumerate(made.symbols[1:], 1)) == {
        number: piece for piece, number in tokenizer.get_vocab().items() if number
    }


@pytest.mark.parametrize("alphabet", [LETTERS, PIECES], ids=["characters", "bpe"])
@given(words=st.lists(st.text("OneTWhrfuSvl", min_size=1, max_size=6), max_size=5))
def test_what_is_encoded_is_decoded_again_and_has_no_blank(alphabet, words):
    text = " ".join(words)
    numbers = alphabet.encode(text)
    assert 0 not in numbers
    assert alphabet.decode(numbers) == alphabet.normalize(text)


@pytest.mark.parametrize("alphabet", [LETTERS, PIECES], ids=["characters", "bpe"])
def test_an_alphabet_is_the_same_after_json_and_pickle(alphabet):
    alphabet.encode("one")
    again = Alphabet.from_json(json.loads(json.dumps(alphabet.to_json())))
    assert again == alphabet == pickle.loads(pickle.dumps(alphabet))
    assert again.encode("two three") == alphabet.encode("two three")


@pytest.mark.parametrize("alphabet", [LETTERS, PIECES], ids=["characters", "bpe"])
def test_an_empty_transcript_has_no_symbols(alphabet):
    assert alphabet.encode(" ") == []
    assert alphabet.decode([0, 0]) == ""


@pytest.mark.parametrize("alphabet", [LETTERS, PIECES], ids=["characters", "bpe"])
def test_characters_outside_the_alphabet_are_named_with_their_utterances(alphabet):
    with pytest.raises(SettingsError, match=r"'Q' in 2 utterances.*'Z' in 1 utterances.*--unknown drop"):
        check_characters(alphabet, counted(TextSettings(), ["quiz", "q q", "one"])["characters"])
    with pytest.raises(SettingsError, match="'Q'"):
        alphabet.encode("q")


@pytest.mark.parametrize("units", ["characters", "bpe"])
def test_characters_outside_a_given_alphabet_may_be_dropped(units):
    given = TextSettings(units=units, alphabet="abc ", unknown="drop", vocab_size=12)
    alphabet = alphabet_of(given, ["abc cab", "a zz b!"])
    assert alphabet.decode(alphabet.encode("a zz b!")) == "A B"
    assert alphabet.decode(alphabet.encode("zz")) == ""
    with pytest.raises(SettingsError, match="outside the alphabet"):
        alphabet_of(TextSettings(units=units, alphabet="abc "), ["a zz b!"])


def test_an_alphabet_of_nothing_and_a_bpe_without_room_are_refused():
    with pytest.raises(SettingsError, match="all empty"):
        alphabet_of(TextSettings(), ["", " "])
    with pytest.raises(SettingsError, match="vocab_size must be at least 14"):
        alphabet_of(TextSettings(units="bpe", vocab_size=5), TRANSCRIPTS)
