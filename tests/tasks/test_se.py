"""Enhancement's loss and figures by hand, and long inputs in pieces."""

import math

import numpy as np
import pytest
import torch
from made_enhancement import TINY

from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.tasks.blocks.settings import ConformerSettings
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.se.criterion import token_losses, wrong_tokens
from pipeline.tasks.se.enhancing import enhance_tokens, enhanced_pieces
from pipeline.tasks.se.metrics import measure, rows
from pipeline.tasks.se.model import SeModel
from pipeline.tasks.se.targets import TargetLayer
from pipeline.tasks.se.task import SeTask, said_tokens

COLUMNS, SIZES = ("layer_02", "layer_05"), (3, 5)
MASK = torch.tensor([[True, True, True], [True, False, False]])


def task_of(columns=COLUMNS):
    targets = tuple(
        TargetLayer(column=name, num_clusters=size, codebook_sha256=name)
        for name, size in zip(COLUMNS, SIZES, strict=True)
    )
    return SeTask(settings=ConformerSettings(**TINY), targets=targets, columns=columns)


def logits_of(tokens):
    """Give logits whose largest are those of tokens (B, T, L)."""
    return [torch.nn.functional.one_hot(tokens[..., place], size).float() for place, size in enumerate(SIZES)]


def batch_of(noisy, clean):
    lengths = MASK.sum(dim=1)
    return {"frames": noisy, "frames_mask": MASK, "frames_lengths": lengths, "clean": clean}


def test_the_loss_is_the_mean_in_nats_over_real_frames_and_layers():
    clean = torch.tensor([[[0, 4], [2, 1], [1, 0]], [[1, 3], [9, 9], [9, 9]]])
    task, logits = task_of(), [torch.randn(2, 3, size) for size in SIZES]
    batch = batch_of(clean, clean)
    by_hand = []
    for row, frame in ((0, 0), (0, 1), (0, 2), (1, 0)):
        for place in range(2):
            scores = logits[place][row, frame].double().exp()
            by_hand.append(-math.log(float(scores[clean[row, frame, place]] / scores.sum())))
    assert int(task.count(batch)) == len(by_hand) == 8
    assert float(task.loss(None, logits, batch)) == pytest.approx(sum(by_hand), abs=1e-4)
    even = [torch.zeros(2, 3, size) for size in SIZES]
    expected = torch.tensor([[math.log(3), math.log(5)]] * 4)
    torch.testing.assert_close(token_losses(even, clean, MASK), expected)


def test_figures_are_those_counted_by_hand():
    clean = torch.tensor([[[0, 4], [2, 1], [1, 0]], [[1, 3], [0, 0], [0, 0]]])
    said = torch.tensor([[[0, 4], [2, 2], [0, 2]], [[1, 3], [2, 2], [2, 2]]])
    noisy = torch.tensor([[[1, 4], [0, 1], [0, 0]], [[1, 0], [1, 1], [1, 1]]])
    assert torch.equal(said_tokens(logits_of(said)), said)
    assert wrong_tokens(said, clean, MASK).tolist() == [[1, 2], [0, 0]]
    task = task_of()
    found = task.rows(None, logits_of(said), batch_of(noisy, clean))
    assert found[0] == {
        "tokens_per_layer": 3,
        "token_error_rate": 3 / 6,
        "wrong_layer_02": 1,
        "wrong_layer_05": 2,
        "noisy_token_error_rate": 3 / 6,
        "noisy_wrong_layer_02": 3,
        "noisy_wrong_layer_05": 0,
    }
    assert task.measure(found) == {
        "token_error_rate": 3 / 8,
        "token_error_rate_layer_02": 1 / 4,
        "token_error_rate_layer_05": 2 / 4,
        "noisy_token_error_rate": 4 / 8,
        "noisy_token_error_rate_layer_02": 3 / 4,
        "noisy_token_error_rate_layer_05": 1 / 4,
    }
    assert float(task.watched(logits_of(said), batch_of(noisy, clean))["wrong_share"].value) == 3


def test_a_layer_that_the_input_has_not_has_no_noisy_rate_and_features_have_none():
    clean = torch.tensor([[[0, 4], [2, 1], [1, 0]], [[1, 3], [0, 0], [0, 0]]])
    one = task_of(("layer_09", "layer_05")).rows(None, logits_of(clean), batch_of(clean, clean))
    assert set(measure(one)) == {
        *("token_error_rate", "token_error_rate_layer_02", "token_error_rate_layer_05"),
        "noisy_token_error_rate_layer_05",
    }
    none = task_of(()).rows(None, logits_of(clean), batch_of(torch.randn(2, 3, 2, 4), clean))
    assert not any(name.startswith("noisy") for name in measure(none))


def test_rates_of_a_set_weigh_utterances_by_their_frames():
    found = rows(np.array([[1], [0]]), None, np.array([1, 9]), ["layer_02"])
    assert [row["token_error_rate"] for row in found] == [1.0, 0.0]
    assert measure(found)["token_error_rate"] == 0.1


def test_a_task_is_made_again_of_what_it_says():
    assert SeTask.from_json(task_of().to_json()) == task_of()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = FuserSpec(
        settings=FusionSettings(embedding_dim=8),
        kind="tokens",
        columns=COLUMNS,
        dim=None,
        encoder_sha256="e",
        num_clusters=dict(zip(COLUMNS, SIZES, strict=True)),
        codebook_sha256=dict.fromkeys(COLUMNS, "c"),
    )
    # An input of two layers, an output of three.
    return TaskModel(build_fuser(spec), SeModel(8, (3, 5, 4), ConformerSettings(**TINY))).eval()


@pytest.mark.parametrize("piece_frames", [1, 7, 50, 100, 1_000])
def test_pieces_join_to_the_logits_of_the_whole_without_a_seam(model, piece_frames):
    tokens = torch.stack([torch.randint(size, (100,)) for size in SIZES], dim=1)
    with torch.no_grad():
        _, whole = model({"frames": tokens[None], "frames_mask": torch.ones(1, 100, dtype=torch.bool)})
    parts = list(enhanced_pieces(model, tokens, piece_frames=piece_frames))
    assert len(parts) == -(-100 // piece_frames)
    for place, logits in enumerate(whole):
        joined = torch.cat([part[place] for part in parts])
        assert float((joined - logits[0]).abs().max()) < 1e-5
    said = enhance_tokens(model, tokens, piece_frames=piece_frames)
    assert torch.equal(said, said_tokens(whole)[0])


def test_a_piece_hears_its_context_and_no_more(model, monkeypatch):
    heard = []
    forward = model.head.forward
    monkeypatch.setattr(model.head, "forward", lambda fused, mask: heard.append(fused.shape[1]) or forward(fused, mask))
    tokens = torch.zeros(10_000, 2, dtype=torch.int64)
    assert enhance_tokens(model, tokens, piece_frames=500).shape == (10_000, 3)
    assert max(heard) == 500 + 2 * model.head.context_frames
    assert model.head.context_frames == 2 * (6 + 2)


def test_no_frame_gives_no_token(model):
    assert enhance_tokens(model, torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 3)
