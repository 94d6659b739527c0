"""Greedy and beam decoding, with and without a language model."""

import math

import pytest
import torch
from made_tasks import alphabet_of

from pipeline.errors import SettingsError
from pipeline.tasks.asr.decoding import BeamDecoder, decode, greedy
from pipeline.tasks.asr.metrics import measure, rows
from pipeline.tasks.asr.settings import DecodingSettings, TextSettings

ALPHABET = alphabet_of(TextSettings(), ["see the sea", "a tea"])
ARPA = """
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>\t0
-99\t<s>\t0
-1.0\t</s>
-2.0\tSEA\t0
-0.2\tTEA\t0

\\2-grams:
-0.1\t<s> TEA
-0.1\tTEA </s>
-2.0\t<s> SEA

\\end\\
"""


def emit(symbols, sure=0.9):
    """Give log-probabilities whose likeliest symbols are those given; - is the blank."""
    probs = torch.full((len(symbols), len(ALPHABET)), (1 - sure) / (len(ALPHABET) - 1))
    for frame, symbol in enumerate(symbols):
        probs[frame, 0 if symbol == "-" else ALPHABET.symbols.index(symbol)] = sure
    return probs.log()


@pytest.mark.parametrize("beam_width", [1, 8])
def test_repeats_are_merged_and_blanks_left_out(beam_width):
    beam = BeamDecoder(ALPHABET, DecodingSettings(beam_width=beam_width)) if beam_width > 1 else None
    log_probs = torch.stack([emit("SSE-E-  TT-HE"), emit("TEA----------")])
    assert list(decode(log_probs, torch.tensor([13, 3]), ALPHABET, beam)) == ["SEE THE", "TEA"]


@pytest.mark.parametrize("beam_width", [1, 8])
def test_blanks_alone_and_no_frames_give_the_empty_text(beam_width):
    beam = BeamDecoder(ALPHABET, DecodingSettings(beam_width=beam_width)) if beam_width > 1 else None
    assert list(decode(torch.stack([emit("----"), emit("TEA-")]), torch.tensor([4, 0]), ALPHABET, beam)) == ["", ""]


def test_what_lies_in_padding_is_not_decoded():
    assert greedy(emit("TEA SEA")[None], torch.tensor([3]), ALPHABET) == ["TEA"]


def test_a_beam_adds_up_alignments_that_greedy_decoding_does_not():
    probs = torch.full((2, len(ALPHABET)), 1e-9)
    probs[:, 0], probs[:, ALPHABET.symbols.index("A")] = 0.6, 0.4
    assert greedy(probs.log()[None], torch.tensor([2]), ALPHABET) == [""]
    assert BeamDecoder(ALPHABET, DecodingSettings(beam_width=8))(probs.log()[None], torch.tensor([2])) == ["A"]


def test_a_language_model_prefers_its_words(tmp_path):
    path = tmp_path / "words.arpa"
    path.write_text(ARPA)
    log_probs = emit("SEA", sure=0.5)
    log_probs[0, ALPHABET.symbols.index("T")] = math.log(0.45)
    assert greedy(log_probs[None], torch.tensor([3]), ALPHABET) == ["SEA"]
    heard = DecodingSettings(beam_width=16, language_model=str(path), lm_weight=1.0)
    assert BeamDecoder(ALPHABET, heard)(log_probs[None], torch.tensor([3])) == ["TEA"]
    unheard = DecodingSettings(beam_width=16, language_model=str(path), lm_weight=0.0)
    assert BeamDecoder(ALPHABET, unheard)(log_probs[None], torch.tensor([3])) == ["SEA"]


def test_pieces_of_a_bpe_are_decoded_by_a_beam_too():
    pieces = alphabet_of(TextSettings(units="bpe", vocab_size=20), ["see the sea", "a tea"])
    numbers = pieces.encode("see a tea")
    log_probs = torch.full((2 * len(numbers), len(pieces)), -9.0)
    log_probs[torch.arange(0, 2 * len(numbers), 2), torch.tensor(numbers)] = -0.01
    log_probs[1::2, 0] = -0.01
    found = BeamDecoder(pieces, DecodingSettings(beam_width=8))(log_probs[None], torch.tensor([2 * len(numbers)]))
    assert found == greedy(log_probs[None], torch.tensor([2 * len(numbers)]), pieces) == ["SEE A TEA"]


def test_a_language_model_that_is_not_there_or_has_no_beam_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="there is no language model at"):
        BeamDecoder(ALPHABET, DecodingSettings(beam_width=2, language_model=str(tmp_path / "gone.arpa")))
    with pytest.raises(SettingsError, match="needs a beam"):
        DecodingSettings(language_model="words.arpa")


def test_rows_compare_texts_normalised_alike_on_both_sides():
    found = rows(["see  the", "", "tea"], ["See the", "a tea", ""], ALPHABET)
    assert [row["words_length"] for row in found] == [2, 2, 0]
    assert measure(found) == {"wer": 3 / 4, "cer": (5 + 3) / 12}
