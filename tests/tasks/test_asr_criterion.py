"""CTC against torch on single rows, and utterances without an alignment."""

import pytest
import torch
from torch.nn.functional import ctc_loss

from pipeline.tasks.asr.criterion import ctc_counts, ctc_losses, frames_needed

LENGTHS = torch.tensor([9, 3, 4, 6, 5])
TARGETS = torch.tensor([[1, 2, 2, 3], [1, 1, 2, 0], [4, 4, 4, 4], [0, 0, 0, 0], [3, 1, 0, 0]])
TARGET_LENGTHS = torch.tensor([4, 3, 1, 0, 2])


def log_probs(seed=0):
    torch.manual_seed(seed)
    return torch.randn(5, 9, 5, requires_grad=True)


def test_frames_needed_are_symbols_and_blanks_between_repeats():
    assert frames_needed(TARGETS, TARGET_LENGTHS).tolist() == [5, 4, 1, 0, 2]


def test_each_loss_is_that_of_the_row_alone_without_padding():
    logits = log_probs()
    found = ctc_losses(logits.log_softmax(-1), LENGTHS, TARGETS, TARGET_LENGTHS)
    worst = 0.0
    for row in (0, 2, 3, 4):
        alone = logits[row, : LENGTHS[row]].log_softmax(-1)
        target = TARGETS[row, : TARGET_LENGTHS[row]]
        expected = ctc_loss(alone[:, None], target[None], LENGTHS[[row]], TARGET_LENGTHS[[row]], reduction="sum")
        worst = max(worst, float((found[row] - expected).detach().abs()))
    print(f"max abs error of CTC against single rows: {worst:.1e}")
    assert worst < 1e-5


def test_an_empty_transcript_costs_all_blanks():
    logits = log_probs()
    found = ctc_losses(logits.log_softmax(-1), LENGTHS, TARGETS, TARGET_LENGTHS)
    torch.testing.assert_close(found[3], -logits.log_softmax(-1)[3, :6, 0].sum())


def test_an_utterance_too_short_for_its_transcript_is_counted_and_adds_neither_loss_nor_gradient():
    logits = log_probs()
    losses = ctc_losses(logits.log_softmax(-1), LENGTHS, TARGETS, TARGET_LENGTHS)
    losses.sum().backward()
    assert losses[1] == 0
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()
    assert logits.grad[0, :9].any()
    counts = ctc_counts(LENGTHS, TARGETS, TARGET_LENGTHS)
    assert (counts.utterances, counts.symbols, counts.too_short) == (4, 7, 1)


@pytest.mark.parametrize("length", [1, 3])
def test_a_micro_batch_without_any_alignment_has_loss_0_and_can_be_learned_from(length):
    logits = log_probs()[:1]
    losses = ctc_losses(logits.log_softmax(-1), torch.tensor([length]), TARGETS[:1], TARGET_LENGTHS[:1])
    losses.sum().backward()
    assert losses.tolist() == [0]
