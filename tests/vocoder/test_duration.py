"""Runs of tokens, how long they last, and the way back."""

import pytest
import torch
from made_vocoder import mask, spec, tokens, vocoder

from pipeline.vocoder.duration import duration_loss, expand, runs_of, whole_durations

GIVEN = torch.tensor([[[1, 5], [1, 5], [1, 6], [2, 6], [2, 6]], [[3, 3], [3, 3], [3, 3], [9, 9], [8, 8]]])
REAL = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def test_a_run_ends_where_the_token_of_a_present_layer_changes():
    runs = runs_of(GIVEN, REAL)
    assert runs.durations.tolist() == [[2, 1, 2], [3, 0, 0]]
    assert runs.mask.tolist() == [[True] * 3, [True, False, False]]
    assert runs.tokens[0].tolist() == [[1, 5], [1, 6], [2, 6]]
    first = runs_of(GIVEN, REAL, torch.tensor([True, False]))
    assert first.durations.tolist() == [[3, 2], [3, 0]]
    rows = runs_of(GIVEN, REAL, torch.tensor([[False, True], [True, True]]))
    assert rows.durations.tolist() == [[2, 3], [3, 0]]


def test_runs_expand_to_the_frames_they_came_from():
    runs = runs_of(GIVEN, REAL)
    expanded, real = expand(runs.tokens, runs.durations, runs.mask)
    assert torch.equal(real, REAL)
    assert torch.equal(expanded, GIVEN.masked_fill(~REAL.unsqueeze(-1), 0))
    with pytest.raises(ValueError, match="less than one frame"):
        expand(runs.tokens, runs.durations - 1, runs.mask)


def test_the_loss_is_the_squared_error_of_logs_over_real_runs():
    durations = torch.tensor([[1, 4], [2, 0]])
    real = torch.tensor([[True, True], [True, False]])
    predicted = torch.tensor([[0.5, 0.0], [0.0, 77.0]], requires_grad=True)
    loss = duration_loss(predicted, durations, real)
    logs = torch.tensor([4.0, 2.0]).log()
    assert loss.item() == pytest.approx(float(0.25 + logs.square().sum()) / 3)
    loss.backward()
    assert predicted.grad[1, 1] == 0.0


def test_predicted_durations_are_whole_frames_and_at_least_one():
    logs = torch.tensor([[-9.0, 0.95, 0.9]])
    assert whole_durations(logs, torch.tensor([[True, True, False]])).tolist() == [[1, 3, 0]]


def test_the_predictor_learns_durations_and_hears_nothing_of_padding():
    made = spec(duration_predictor=True, duration_channels=16, duration_dropout=0.0)
    speaks, given = vocoder(made), tokens(made)
    durations = given[..., 0] + 1
    with torch.no_grad():
        batch = speaks.log_durations(given, mask())
        alone = speaks.log_durations(given[1:, :14], mask((14,)))
    torch.testing.assert_close(batch[1:, :14], alone, atol=1e-5, rtol=1e-5)
    assert bool((batch[1, 14:] == 0).all())
    before = speaks.fuser.inputs.table.detach().clone()
    optimizer = torch.optim.Adam(speaks.duration.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = duration_loss(speaks.log_durations(given, mask()), durations, mask())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    assert speaks.fuser.inputs.table.grad is None
    assert torch.equal(speaks.fuser.inputs.table, before)
    with pytest.raises(ValueError, match="trained without durations"):
        vocoder(spec()).log_durations(given, mask())
