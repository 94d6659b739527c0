"""Text to speech that is guided by its text: what is hidden in training, and what guidance adds when it speaks."""

import numpy as np
import pytest
import torch
from made_tts import model_of, task_of

from pipeline.errors import SettingsError
from pipeline.tasks.tts.decoding import Guided, ReadText, Writer
from pipeline.tasks.tts.model import TEXT_END, Written
from pipeline.tasks.tts.settings import GenerationSettings


class Said:
    """Steps that always say the same."""

    def __init__(self, logits, stop):
        self.written = Written(logits=[torch.tensor([[logits]])], stop=torch.tensor([[stop]]), attention=None)
        self.kept = []

    def step(self, fused):
        return self.written

    def keep_rows(self, index):
        self.kept += index.tolist()


def tokens(task, model, **settings):
    text = ReadText(key="k", symbols=tuple(task.symbols("cab")), speaker=None, most_frames=30)
    ((_, found),) = Writer(model, task, GenerationSettings(**settings), "cpu").write([text])
    return found.tokens


def test_what_the_text_adds_is_taken_so_many_times_and_it_alone_says_when_to_stop():
    told, untold = Said([1.0, 3.0, -1.0], 0.5), Said([1.0, 1.0, 0.0], -4.0)
    guided = Guided(told, untold, 2.5)
    found = guided.step(None)
    assert found.logits[0].tolist() == [[[1.0, 6.0, -2.5]]]
    assert found.stop.tolist() == [[0.5]]
    guided.keep_rows(torch.tensor([0]))
    assert (told.kept, untold.kept) == ([0], [0])


def test_guidance_of_one_is_no_guidance():
    task = task_of(text_dropout=0.1)
    model = model_of(task)
    plain, one, two = (tokens(task, model, seed=5, **more) for more in ({}, {"guidance": 1.0}, {"guidance": 4.0}))
    assert np.array_equal(plain, one)
    assert not np.array_equal(plain, two)


def test_whole_texts_are_hidden_in_training_alone_and_their_end_is_left():
    head = model_of(task_of(text_dropout=0.25)).head
    text = torch.randint(1, 4, (400, 9))
    mask = torch.arange(9) < torch.randint(2, 10, (400, 1))
    same, all_real, none = head.eval()._partly_untold(text, mask)
    assert torch.equal(same, text)
    assert torch.equal(all_real, mask)
    assert not none.any()
    shown, real, told = head.train()._partly_untold(text, mask)
    hidden = (shown == TEXT_END).all(dim=1)
    assert torch.equal(told.squeeze(1), hidden)
    assert float(hidden.float().mean()) == pytest.approx(0.25, abs=0.08)
    assert torch.equal(shown[~hidden], text[~hidden])
    assert torch.equal(real[~hidden], mask[~hidden])
    assert real[hidden].sum(dim=1).tolist() == [1] * int(hidden.sum())


def test_a_hidden_text_is_one_without_a_character():
    task = task_of(tts_dropout=0.0, target_dropout=0.0, text_dropout=0.999999)
    head = model_of(task).head.train()
    fused, mask = torch.randn(1, 6, head.input.in_features), torch.ones(1, 6, dtype=torch.bool)
    batch = task.tensors(["abba", ""])
    text, real = batch["text"], batch["text_mask"]
    hidden = head(fused, mask, text[:1], real[:1])
    empty = head.eval()(fused, mask, text[1:], real[1:])
    assert not hidden.attention.any()
    for one, other in zip(hidden.logits, empty.logits, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_network_that_always_had_a_text_cannot_be_guided():
    task = task_of()
    with pytest.raises(SettingsError, match="guidance 2 needs a tts that was trained with --text-dropout"):
        Writer(model_of(task), task, GenerationSettings(guidance=2.0), "cpu")


@pytest.mark.parametrize("guidance", [0.5, -1.0, float("nan"), float("inf")])
def test_less_than_the_text_asks_for_is_refused(guidance):
    with pytest.raises(SettingsError, match="guidance must be at least 1"):
        GenerationSettings(guidance=guidance)
