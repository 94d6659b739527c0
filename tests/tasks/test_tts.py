"""The network of text to speech and its losses: padding, gradients, values by hand, and what it learns by heart."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_tasks import task_config, write_task_corpus
from made_tts import BY_HEART, COLUMNS, SIZES, model_of, task_of

from pipeline.batches.sides import TRAIN
from pipeline.export.ids.patterns import delay
from pipeline.tasks.blocks.rotary import places_at, rotate
from pipeline.tasks.stage import prepare, train_task
from pipeline.tasks.trained import open_trained
from pipeline.tasks.tts.criterion import guided_losses, stop_losses, token_losses
from pipeline.tasks.tts.decoding import ReadText, Writer
from pipeline.tasks.tts.metrics import measure, rows
from pipeline.tasks.tts.model import Written
from pipeline.tasks.tts.settings import GenerationSettings

TEXTS = ("abc", "cabbage cab", "b", "")
FRAMES = (7, 12, 5, 1)


def batch_of(task, texts=TEXTS, frames=FRAMES, seed=1, speakers=None):
    """Make a micro-batch of random tokens: those of a text are the same in any batch."""
    laid = []
    for text, count in zip(texts, frames, strict=True):
        rng = np.random.default_rng([seed, len(text), count])
        laid.append(np.stack([rng.integers(size, size=count) for size in SIZES], axis=1).astype(np.uint16))
    found = {**task.laid(laid), **task.tensors(texts)}
    return found | ({} if speakers is None else {"speakers": torch.tensor(speakers)})


def of_row(output, row, steps, symbols):
    """Give all that is said of a row within its own steps."""
    logits = [each[row, :steps].flatten() for each in output.logits]
    return torch.cat([*logits, output.stop[row, :steps], output.attention[row, :steps, :symbols].flatten()])


@pytest.mark.parametrize("fusion", ["attention", "concat"])
@pytest.mark.parametrize("pattern", ["parallel", "delay"])
def test_padding_and_neighbours_change_nothing(pattern, fusion):
    task = task_of(pattern)
    model = model_of(task, fusion)
    batch = batch_of(task)
    with torch.no_grad():
        _, together = model(batch)
        worst = 0.0
        for row, (text, frames) in enumerate(zip(TEXTS, FRAMES, strict=True)):
            _, alone = model(batch_of(task, [text], [frames]))
            steps, symbols = frames + max(task.delays), len(text) + 1
            one, other = of_row(together, row, steps, symbols), of_row(alone, 0, steps, symbols)
            worst = max(worst, float((one - other).abs().max()))
    print(f"{pattern}, {fusion}: max abs error of rows alone and among others {worst:.1e}")
    assert worst < 1e-5


@pytest.mark.parametrize("pattern", ["parallel", "delay"])
def test_what_lies_in_padding_changes_no_gradient(pattern):
    task = task_of(pattern, tts_dropout=0.0, target_dropout=0.0)

    def gradients(fill):
        model = model_of(task).train()
        batch = batch_of(task)
        batch["frames"] = torch.where(batch["frames_mask"][..., None], batch["frames"], fill)
        batch["text"] = torch.where(batch["text_mask"], batch["text"], fill)
        _, output = model(batch)
        task.loss(model.head, output, batch).backward()
        return {name: weights.grad for name, weights in model.named_parameters()}

    for (name, one), other in zip(gradients(0).items(), gradients(2).values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


@pytest.mark.parametrize("pattern", ["parallel", "delay"])
def test_gradients_reach_every_parameter(pattern):
    task = task_of(pattern, speaker_input="table")
    model = model_of(task).train()
    batch = batch_of(task, speakers=[0, 1, 1, 0])
    _, output = model(batch)
    task.loss(model.head, output, batch).backward()
    absent = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert absent == []


def test_a_step_hears_no_token_of_its_own_or_later_and_the_one_before():
    task = task_of()
    model = model_of(task)
    batch = batch_of(task, ["cabbage"], [9])
    changed = batch | {"frames": batch["frames"].clone()}
    changed["frames"][0, 4, 1] = (changed["frames"][0, 4, 1] + 1) % SIZES[1]
    with torch.no_grad():
        one, other = model(batch)[1], model(changed)[1]
    pairs = list(zip(one.logits, other.logits, strict=True))
    differs = [any(not torch.equal(a[0, step], b[0, step]) for a, b in pairs) for step in range(9)]
    assert differs == 5 * [False] + 4 * [True]


def test_a_rotation_makes_products_depend_on_distance_alone():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8)

    def product(place, other):
        turned = [rotate(x, places_at(torch.tensor([at]), 8)) for x, at in ((query, place), (key, other))]
        return float((turned[0] * turned[1]).sum())

    assert product(0.0, 0.0) == pytest.approx(float((query * key).sum()), abs=1e-5)
    assert product(7.0, 4.5) == pytest.approx(product(1002.5, 1000.0), abs=1e-3)
    assert product(7.0, 4.5) != pytest.approx(product(7.0, 5.5), abs=1e-2)


def test_delayed_layers_are_those_of_the_export_and_absent_where_they_have_no_token():
    task = task_of("delay")
    tokens = [np.array([[1, 2, 3], [4, 5, 0]], np.uint16), np.array([[0, 6, 1]], np.uint16)]
    found = task.laid(tokens)
    assert found["frames_lengths"].tolist() == [4, 3]
    for row, each in enumerate(tokens):
        exported = delay(each.astype(np.int64), (0, 1, 2), -1)
        here = found["frames_present"][row, : len(exported)].numpy()
        assert (here == (exported >= 0)).all()
        assert (found["frames"][row, : len(exported)].numpy()[here] == exported[exported >= 0]).all()
    assert not found["frames_present"][1, 3].any()


def test_losses_are_those_by_hand():
    torch.manual_seed(1)
    logits = [torch.randn(1, 3, 4), torch.randn(1, 3, 2)]
    tokens = torch.tensor([[[1, 0], [3, 1], [0, 1]]])
    present = torch.tensor([[[True, False], [True, True], [False, True]]])
    found = token_losses(logits, tokens, present)
    first, second = -F.log_softmax(logits[0][0], -1), -F.log_softmax(logits[1][0], -1)
    assert found[0].tolist() == pytest.approx(
        [float(first[0, 1]) / 2, float(first[1, 3] + second[1, 1]) / 2, float(second[2, 1]) / 2], abs=1e-6
    )
    stop = torch.tensor([[0.5, -1.0, 2.0, 9.0]])
    real = torch.tensor([[True, True, True, False]])
    sigmoid = [1 / (1 + math.exp(-value)) for value in (0.5, -1.0, 2.0)]
    wanted = [-math.log(1 - sigmoid[0]), -math.log(1 - sigmoid[1]), -3 * math.log(sigmoid[2]), 0.0]
    assert stop_losses(stop, real, positive=3.0)[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_guided_attention_is_the_papers_sum_and_nothing_on_the_diagonal():
    # Four steps over two symbols, and a padded row; sigma 0.4.
    attention = torch.tensor([[[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0]] * 4])
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    text_mask = torch.tensor([[True, True], [True, False]])
    away = [[1 - math.exp(-((n / 2 - s / 4) ** 2) / (2 * 0.4**2)) for n in range(2)] for s in range(4)]
    wanted = [sum(a * w for a, w in zip(attention[0, s].tolist(), away[s], strict=True)) for s in range(4)]
    found = guided_losses(attention, mask, text_mask, sigma=0.4)
    assert found[0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert wanted[0] == wanted[2] == 0.0
    assert found[1].tolist() == 4 * [0.0]


def test_the_loss_adds_up_by_its_weights_and_counts_frames():
    task = task_of("delay", stop_weight=0.25, guided_weight=2.0)
    model = model_of(task)
    batch = batch_of(task)
    with torch.no_grad():
        _, output = model(batch)
        whole = float(task.loss(model.head, output, batch))
        plain = replace(task, settings=replace(task.settings, stop_weight=0.0, guided_weight=0.0))
        tokens = float(plain.loss(model.head, output, batch))
        watched = {name: float(sums.value) for name, sums in task.watched(output, batch).items()}
    assert int(task.count(batch)) == sum(FRAMES)
    assert whole == pytest.approx(tokens + 0.25 * watched["stop_nats"] + 2.0 * watched["off_diagonal"], rel=1e-5)


def test_rows_count_wrong_tokens_and_stops():
    tokens = torch.tensor([[[1, 0], [2, 1], [0, 1]], [[3, 0], [0, 0], [0, 0]]])
    present = torch.tensor([3 * [[True, True]], [[True, True], [False, False], [False, False]]])
    said = torch.tensor([[[1, 1], [2, 1], [1, 1]], [[3, 0], [1, 1], [1, 1]]])
    logits = [F.one_hot(said[..., 0], 4).float(), F.one_hot(said[..., 1], 2).float()]
    stop = torch.tensor([[-1.0, 1.0, 1.0], [-1.0, 5.0, 5.0]])
    written = Written(logits=logits, stop=stop, attention=None)
    found = rows(written, tokens, present, ["one", "two"], ["layer_01", "layer_02"])
    assert [row["wrong_layer_01"] for row in found] == [1, 0]
    assert [row["wrong_layer_02"] for row in found] == [1, 0]
    assert [(row["stop_frame"], row["last_frame"]) for row in found] == [(1, 2), (-1, 0)]
    assert [row["hypothesis"] for row in found] == [
        "33.3% of the tokens wrong, stop -1 frames",
        "0.0% of the tokens wrong, no stop",
    ]
    figures = measure(found)
    assert figures["token_error_rate"] == pytest.approx(2 / 8)
    assert figures["token_error_layer_01"] == figures["token_error_layer_02"] == pytest.approx(1 / 4)
    assert (figures["stop_early"], figures["stop_late"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("pattern", "units"), [("parallel", "characters"), ("delay", "characters"), ("parallel", "phones")]
)
def test_a_corpus_learned_by_heart_is_spoken_token_by_token(tmp_path, pattern, units):
    if units == "phones":
        pytest.importorskip("espeakng_loader", reason="espeak-ng is not installed (extra phones)")
    write_task_corpus(tmp_path, 8, change=lambda labels: labels | {"split": "train"})
    text = {"units": units, "text_normalization": "lower"}
    config = task_config(tmp_path, tmp_path / "out", "tts", stream_pattern=pattern, **BY_HEART, **text)
    report = train_task(config)
    trained = open_trained(str(tmp_path / "out"))
    task = trained.task()
    prepared = prepare(config)
    pieces = []
    for ticket, _ in prepared.recipe.source().tickets(None):
        pieces += ticket.pieces
        if len(pieces) == 8:
            break
    texts = [
        ReadText(key=p.utterance_id, symbols=tuple(task.symbols(p.labels["text"])), speaker=None, most_frames=200)
        for p in pieces
    ]
    assert len({text.symbols for text in texts}) == len(texts) == 8
    writer = Writer(trained.model(task), task, GenerationSettings(temperature=0.0), "cpu")
    said = dict(writer.write(texts))
    right = [said[n].stopped and np.array_equal(said[n].tokens, piece.tokens) for n, piece in enumerate(pieces)]
    print(f"{pattern}: {sum(right)} of 8 texts spoken token by token; {report.metrics}")
    assert all(right)
    assert prepared.division.facts[TRAIN].utterances == 8
    assert task.columns == ("layer_00", "layer_03", "layer_06") != COLUMNS
    seconds = prepared.division.facts[TRAIN].seconds
    symbols = sum(len(text.symbols) for text in texts)
    assert task.frames_per_symbol == pytest.approx(seconds * 50 / symbols)


def test_frames_before_are_hidden_whole_in_training_alone():
    task = task_of(tts_dropout=0.0, target_dropout=0.0, hidden_frames=0.5)
    head = model_of(task).head
    frames = torch.ones(4, 500, head.input.in_features)
    assert torch.equal(head.eval()._partly_hidden(frames), frames)
    shown = head.train()._partly_hidden(frames)
    whole = shown.mean(dim=-1)
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    assert float(whole.mean()) == pytest.approx(0.5, abs=0.05)
