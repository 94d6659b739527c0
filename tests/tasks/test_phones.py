"""Texts are spelt in phones: the same in any order and process, and an alphabet keeps what spelt it."""

import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra phones)")

from pipeline.audio.synthetic import SyntheticSpec, plan_utterance, render
from pipeline.errors import SettingsError
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.asr.text import Alphabet, build_alphabet, spelling
from pipeline.tasks.phones import phones
from pipeline.tasks.tts.reading import text_problem

SETTINGS = TextSettings(units="phones", text_normalization="lower")


def alphabet_of(*texts):
    spell = spelling(SETTINGS)
    return build_alphabet(SETTINGS, Counter(letter for text in texts for letter in set(spell(text))), {})


def test_words_are_spelt_as_they_sound_and_clauses_keep_their_marks():
    spelt = "\u03b8\u0279\u02c8u\u02d0, \u00f0\u02cco\u028a; t\u02c8\u028cf?"
    assert phones("through, though; tough?", "en-us") == spelt
    assert phones("2 trails.", "en-us") == phones("two trails.", "en-us")
    assert phones("", "en-us") == ""


def test_each_language_spells_its_own_way_in_any_order():
    first = phones("die hand", "de")
    assert phones("die hand", "en-us") != first
    assert phones("die hand", "de") == first


def test_the_synthetic_corpus_spoken_in_between_changes_nothing_on_either_side():
    utterance = plan_utterance(SyntheticSpec(num_utterances=1), 0)
    before, spelt = render(utterance)[0], phones("the danger trail", "en-us")
    assert phones("the danger trail", "en-us") == spelt
    assert (render(utterance)[0] == before).all()


def test_another_process_spells_alike():
    code = "from pipeline.tasks.phones import phones; print(ascii(phones('a new record', 'en-us')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(phones("a new record", "en-us"))


def test_a_language_that_espeak_lacks_is_refused():
    with pytest.raises(SettingsError, match="no language 'xx-none'"):
        phones("word", "xx-none")


def test_an_alphabet_of_phones_is_read_back_and_refuses_phones_that_it_lacks():
    alphabet = alphabet_of("a cab", "the bag")
    again = Alphabet.from_json(alphabet.to_json())
    assert again == alphabet
    assert again.encode("The CAB") == alphabet.encode("the cab")
    assert text_problem(alphabet, "a bag", drops_unknown=False) is None
    reason, detail = text_problem(alphabet, "a ship", drops_unknown=False)
    assert (reason, "'\\u0283'" in detail) == ("unknown_characters", True)
    assert text_problem(alphabet, "...", drops_unknown=True) is not None
