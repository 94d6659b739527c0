"""Tokens written for texts: with kept keys and without, alone and among others, in both orders of the layers."""

import numpy as np
import pytest
import torch
from made_tts import COLUMNS, SIZES, model_of, task_of

from pipeline.seeds import rng
from pipeline.tasks.tts.choosing import choose, drawing
from pipeline.tasks.tts.decoding import ReadText, Writer, most_frames
from pipeline.tasks.tts.settings import GenerationSettings

TEXTS = ("abc", "a", "cabbage cab", "bab")
GREEDY = GenerationSettings(temperature=0.0)
GUIDED = GenerationSettings(seed=3, guidance=2.0)


def written(model, task, texts=TEXTS, settings=GREEDY, most=40, **how):
    given = [ReadText(key=text, symbols=tuple(task.symbols(text)), speaker=None, most_frames=most) for text in texts]
    found = dict(Writer(model, task, settings, "cpu", **how).write(given))
    return [found[place] for place in range(len(texts))]


def alike(one, other):
    return one.stopped == other.stopped and np.array_equal(one.tokens, other.tokens)


@pytest.mark.parametrize("fusion", ["attention", "concat"])
@pytest.mark.parametrize("pattern", ["parallel", "delay"])
@pytest.mark.parametrize("settings", [GREEDY, GenerationSettings(seed=3), GUIDED], ids=["greedy", "drawn", "guided"])
def test_tokens_are_the_same_with_kept_keys_without_and_alone(pattern, fusion, settings):
    task = task_of(pattern, text_dropout=0.1)
    model = model_of(task, fusion)
    together = written(model, task, settings=settings)
    again = written(model, task, settings=settings, cached=False)
    alone = [written(model, task, [text], settings)[0] for text in TEXTS]
    told = [(len(each.tokens), each.stopped) for each in together]
    print(pattern, fusion, told)
    assert all(alike(one, other) for one, other in zip(together, again, strict=True))
    assert all(alike(one, other) for one, other in zip(together, alone, strict=True))
    assert len({each.tokens.tobytes() for each in together}) == len(TEXTS)
    assert len({len(each.tokens) for each in together}) > 2
    for each in together:
        assert each.tokens.shape[1] == len(SIZES)
        assert (each.tokens >= 0).all()
        assert (each.tokens < np.array(SIZES)).all()


@pytest.mark.parametrize("pattern", ["parallel", "delay"])
def test_what_is_written_is_what_the_network_says_of_it_in_one_pass(pattern):
    task = task_of(pattern)
    model = model_of(task)
    for text, found in zip(TEXTS, written(model, task), strict=True):
        if pattern == "delay" and not found.stopped:
            continue
        batch = {**task.laid([found.tokens.astype(np.uint16)]), **task.tensors([text])}
        with torch.no_grad():
            _, output = model(batch)
        row = task.rows(model.head, output, batch)[0]
        last = len(found.tokens) - 1
        assert sum(row[f"wrong_{column}"] for column in COLUMNS) == 0
        assert (row["stop_frame"], row["last_frame"]) == (last if found.stopped else -1, last)


def test_a_text_that_never_stops_is_given_up_at_its_limit_and_others_are_not_touched():
    task = task_of()
    model = model_of(task)
    with torch.no_grad():
        model.head.stop.weight.zero_()
        model.head.stop.bias.fill_(-1.0)
    found = written(model, task, most=7)
    assert [(len(each.tokens), each.stopped) for each in found] == 4 * [(7, False)]
    with torch.no_grad():
        model.head.stop.bias.fill_(1.0)
    assert [(len(each.tokens), each.stopped) for each in written(model, task)] == 4 * [(1, True)]


def test_with_delays_all_layers_have_the_frames_of_the_first():
    task = task_of("delay")
    model = model_of(task)
    with torch.no_grad():
        model.head.stop.weight.zero_()
        model.head.stop.bias.fill_(1.0)
    assert [(each.tokens.shape, each.stopped) for each in written(model, task)] == 4 * [((1, 3), True)]


def test_speakers_change_what_is_written_and_each_row_has_its_own():
    task = task_of(speaker_input="table")
    model = model_of(task)

    def said(names):
        given = [
            ReadText(key=str(n), symbols=tuple(task.symbols("cabbage")), speaker=name, most_frames=30)
            for n, name in enumerate(names)
        ]
        found = dict(Writer(model, task, GREEDY, "cpu").write(given))
        return [found[n].tokens.tobytes() for n in range(len(names))]

    one, other, first = said([0, 1, 0])
    assert one == first
    assert one != other
    assert said([1])[0] == other


def test_the_limit_follows_the_text_or_the_setting():
    task = task_of()
    assert most_frames(task, 10, GREEDY, 50.0) == 100 + 90
    assert most_frames(task, 1_000_000, GREEDY, 50.0) == 3_000
    assert most_frames(task, 10, GenerationSettings(max_seconds=1.5), 50.0) == 75


def test_draws_follow_the_probabilities_within_top_p():
    # Probabilities 0.5, 0.3, 0.15, 0.05: top_p 0.7 keeps the first two, whose shares become 5/8 and 3/8.
    logits = torch.log(torch.tensor([[0.15, 0.5, 0.05, 0.3]])).float().repeat(4_000, 1)
    settings = GenerationSettings(temperature=1.0, top_p=0.7)
    draws = drawing(settings, [str(n) for n in range(4_000)], 1)
    counts = np.bincount(choose([logits], settings, draws)[:, 0].numpy(), minlength=4)
    assert counts[0] == counts[2] == 0
    assert counts[1] / 4_000 == pytest.approx(5 / 8, abs=0.03)
    cold = GenerationSettings(temperature=0.5, top_p=1.0)
    found = choose([logits], cold, drawing(cold, [str(n) for n in range(4_000)], 1))[:, 0].numpy()
    squares = np.array([0.15, 0.5, 0.05, 0.3]) ** 2
    assert np.bincount(found, minlength=4) / 4_000 == pytest.approx(squares / squares.sum(), abs=0.03)


def test_draws_are_those_of_the_utterance_alone():
    draws = drawing(GenerationSettings(seed=2), ["a", "b"], 3)
    first = draws.step()
    assert np.array_equal(first[1], rng(2, "speak", "b").random(3))
    draws.keep_rows([1])
    own = rng(2, "speak", "b")
    own.random(3)
    assert np.array_equal(draws.step()[0], own.random(3))
    assert drawing(GREEDY, ["a"], 3) is None
