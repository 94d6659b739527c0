"""AdamW: its rates over a run, what decays, and moments that survive a checkpoint to the bit."""

import math

import pytest
import torch

from pipeline.errors import CheckpointError
from pipeline.training.optimizer import learning_rate, make_optimizer, moments, restore_moments
from pipeline.training.settings import TrainingSettings


def settings(**changes):
    return TrainingSettings(**{"num_steps": 100, "warmup_steps": 10, "lr": 1e-2, **changes})


def test_the_rate_rises_in_a_line_and_is_highest_when_the_warm_up_ends():
    rates = [learning_rate(settings(), step) for step in range(100)]
    assert rates[:10] == pytest.approx([1e-3 * step for step in range(1, 11)])
    assert rates[10] == pytest.approx(1e-2)
    assert max(rates) == pytest.approx(1e-2)


@pytest.mark.parametrize("end", [0.0, 0.05])
def test_the_rate_falls_in_a_line_or_a_cosine_to_its_end_at_the_last_step(end):
    for decay, middle in (("linear", 0.5), ("cosine", 0.5)):
        run = settings(num_steps=111, lr_end=end, decay=decay)
        rates = [learning_rate(run, step) for step in range(10, 111)]
        assert rates[-1] == pytest.approx(1e-2 * end, abs=1e-9)
        assert rates[50] == pytest.approx(1e-2 * (end + (1 - end) * middle))
        assert sorted(rates, reverse=True) == rates
    quarter = learning_rate(settings(num_steps=111, decay="cosine"), 35)
    assert quarter == pytest.approx(1e-2 * (1 + math.cos(math.pi / 4)) / 2)


def test_without_warm_up_the_first_step_has_the_highest_rate_and_one_step_is_a_run():
    assert learning_rate(settings(warmup_steps=0), 0) == pytest.approx(1e-2)
    assert learning_rate(settings(num_steps=1, warmup_steps=0), 0) == pytest.approx(1e-2)
    assert learning_rate(settings(num_steps=11, warmup_steps=10), 10) == pytest.approx(1e-2)


class Mixed(torch.nn.Module):
    """A matrix, a convolution, a norm, a bias, a scalar, and a matrix that is not trained."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)
        self.conv = torch.nn.Conv1d(2, 3, 5)
        self.norm = torch.nn.LayerNorm(4)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.frozen = torch.nn.Parameter(torch.ones(3, 3), requires_grad=False)


def mixed(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Mixed()


def step(model, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_matrices_decay_and_vectors_do_not():
    model = mixed()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, settings(weight_decay=0.5))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        share = 1 - 1e-2 * 0.5 if name in ("linear.weight", "conv.weight") else 1
        torch.testing.assert_close(parameter.detach(), before[name] * share)


def test_steps_are_those_of_adamw_by_its_formula():
    model = mixed()
    run = settings(weight_decay=0.1, beta1=0.8, beta2=0.9)
    optimizer = make_optimizer(model, run)
    weight = model.linear.weight.detach().double()
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for count in range(1, 6):
        step(model, optimizer, count)
        gradient = model.linear.weight.grad.double()
        weight = weight * (1 - 1e-2 * 0.1)
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        weight = weight - 1e-2 * (first / (1 - 0.8**count)) / ((second / (1 - 0.9**count)).sqrt() + 1e-6)
    torch.testing.assert_close(model.linear.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)


def test_moments_survive_to_the_bit():
    model = mixed()
    optimizer = make_optimizer(model, settings())
    for seed in range(3):
        step(model, optimizer, seed)
    weights, saved = {n: t.clone() for n, t in model.state_dict().items()}, moments(model, optimizer)
    assert len(saved) == 2 * 7
    saved = {name: tensor.clone() for name, tensor in saved.items()}
    other = mixed(1)
    other.load_state_dict(weights)
    resumed = make_optimizer(other, settings())
    restore_moments(other, resumed, saved, 3)
    again = moments(other, resumed)
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in saved.items())
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, resumed, seed)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    # What was given stays as it was.
    assert not torch.equal(moments(other, resumed)["exp_avg.linear.weight"], saved["exp_avg.linear.weight"])


@pytest.mark.parametrize("fault", ["absent", "shape"])
def test_moments_that_do_not_fit_are_refused_by_name(fault):
    model = mixed()
    optimizer = make_optimizer(model, settings())
    step(model, optimizer, 0)
    saved = moments(model, optimizer)
    if fault == "absent":
        del saved["exp_avg_sq.conv.bias"]
    else:
        saved["exp_avg_sq.conv.bias"] = torch.zeros(4)
    with pytest.raises(CheckpointError, match=r"exp_avg_sq of conv\.bias"):
        restore_moments(model, optimizer, saved, 1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"warmup_steps": 100}, "warmup_steps 100 must be below num_steps 100"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"beta2": 1.0}, "beta2"),
        ({"lr_end": 1.5}, "lr_end"),
        ({"num_workers": 3, "batches_per_step": 2}, "batches_per_step is 2"),
        ({"max_workers": 3, "batches_per_step": 2}, "batches_per_step is 2"),
        ({"num_workers": 3, "max_workers": 2, "batches_per_step": 4}, "num_workers 3 is above max_workers 2"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"log_every": 0}, "log_every"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes, match):
    with pytest.raises(ValueError, match=match):
        settings(**changes)
