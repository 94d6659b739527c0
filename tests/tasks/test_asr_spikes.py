"""The symbols of the greedy path and their frames."""

from itertools import groupby

import pytest
import torch
from made_tasks import alphabet_of

from pipeline.tasks.asr.decoding import greedy
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.asr.spikes import spikes

ALPHABET = alphabet_of(TextSettings(), ["see the sea", "a tea"])


def log_probs_of(symbols, sure):
    """Give log-probabilities (T, V) whose likeliest symbol of each frame has the probability given; - is the blank."""
    probs = torch.zeros(len(symbols), len(ALPHABET))
    for frame, (symbol, most) in enumerate(zip(symbols, sure, strict=True)):
        probs[frame] = (1 - most) / (len(ALPHABET) - 1)
        probs[frame, 0 if symbol == "-" else ALPHABET.symbols.index(symbol)] = most
    return probs.log().numpy()


def test_a_symbol_stands_at_the_likeliest_frame_of_its_run_and_blanks_part_equals():
    found = spikes(log_probs_of("-SSSE-E T", [0.9, 0.6, 0.8, 0.7, 0.9, 0.5, 0.6, 0.9, 0.9]), ALPHABET)
    assert [(one.symbol, one.frame) for one in found] == [("S", 2), ("E", 4), ("E", 6), (" ", 7), ("T", 8)]
    assert [one.probability for one in found] == pytest.approx([0.8, 0.9, 0.6, 0.9, 0.9])


def test_of_equally_likely_frames_the_first_is_given():
    (one,) = spikes(log_probs_of("TTT", [0.7, 0.7, 0.7]), ALPHABET)
    assert one.frame == 0


def test_blanks_alone_and_no_frames_have_no_spikes():
    assert spikes(log_probs_of("---", [0.9, 0.9, 0.9]), ALPHABET) == []
    assert spikes(log_probs_of("", []), ALPHABET) == []


@pytest.mark.parametrize("units", ["characters", "bpe"])
def test_spikes_spell_what_greedy_decoding_writes(units):
    alphabet = alphabet_of(TextSettings(units=units, vocab_size=20), ["see the sea", "a tea"])
    log_probs = torch.randn(60, len(alphabet), generator=torch.Generator().manual_seed(3)).log_softmax(dim=1)
    found = spikes(log_probs.numpy(), alphabet)
    numbers = [alphabet.symbols.index(one.symbol) for one in found]
    assert [alphabet.decode(numbers)] == greedy(log_probs[None], torch.tensor([60]), alphabet)
    best = [number for number, _ in groupby(log_probs.argmax(dim=1).tolist()) if number]
    assert numbers == best
    assert [one.frame for one in found] == sorted({one.frame for one in found})
