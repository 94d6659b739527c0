"""Optimizers: what decays, steps by their formulas, state that survives a checkpoint to the bit; settings refused."""

import pytest
import torch

from pipeline.errors import CheckpointError, SettingsError
from pipeline.training.optimizer import make_optimizer, optimizer_state, restore_optimizer
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together, learning_content

ALGORITHMS = [{"algorithm": name} for name in ("adamw", "adam", "adadelta", "sgd")]
ALGORITHMS.append({"algorithm": "sgd", "momentum": 0.9})


def settings(**changes):
    return OptimizerSettings(**{"warmup_steps": 10, "lr": 1e-2, **changes})


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


def by_formula(changes, weight, gradients):
    """Give a weight after steps with some gradients, as written in the papers; weight decay 0.1."""
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    for count, gradient in enumerate(gradients, start=1):
        gradient = gradient + 0.1 * weight
        if changes["algorithm"] == "adam":
            first, second = 0.9 * first + 0.1 * gradient, 0.98 * second + 0.02 * gradient**2
            step = (first / (1 - 0.9**count)) / ((second / (1 - 0.98**count)).sqrt() + 1e-6)
        elif changes["algorithm"] == "adadelta":
            first = 0.95 * first + 0.05 * gradient**2
            step = gradient * (second + 1e-6).sqrt() / (first + 1e-6).sqrt()
            second = 0.95 * second + 0.05 * step**2
        else:
            first = changes.get("momentum", 0.0) * first + gradient
            step = first
        weight = weight - 1e-2 * step
    return weight


@pytest.mark.parametrize("changes", ALGORITHMS[1:])
def test_steps_of_the_others_are_those_of_their_formulas(changes):
    model = mixed()
    optimizer = make_optimizer(model, settings(weight_decay=0.1, **changes))
    weight, gradients = model.linear.weight.detach().double(), []
    for count in range(5):
        step(model, optimizer, count)
        gradients.append(model.linear.weight.grad.double())
    expected = by_formula(changes, weight, gradients)
    torch.testing.assert_close(model.linear.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", ALGORITHMS)
def test_state_survives_to_the_bit(changes):
    model = mixed()
    optimizer = make_optimizer(model, settings(**changes))
    for seed in range(3):
        step(model, optimizer, seed)
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    saved = {n: t.clone() for n, t in optimizer_state(model, optimizer).items()}
    other = mixed(1)
    other.load_state_dict(weights)
    resumed = make_optimizer(other, settings(**changes))
    restore_optimizer(other, resumed, saved)
    again = optimizer_state(other, resumed)
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in saved.items())
    given = {name: tensor.clone() for name, tensor in saved.items()}
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(other, resumed, seed)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    # What was given stays as it was.
    assert all(torch.equal(saved[name], tensor) for name, tensor in given.items())


def test_state_is_named_by_weight_and_holds_no_settings():
    model = mixed()
    optimizer = make_optimizer(model, settings())
    step(model, optimizer, 0)
    names = {f"state.{weight}.{part}" for weight, parameter in model.named_parameters() if parameter.requires_grad
             for part in ("step", "exp_avg", "exp_avg_sq")}  # fmt: skip
    assert set(optimizer_state(model, optimizer)) == names


def test_a_rate_is_not_taken_from_a_checkpoint():
    model = mixed()
    optimizer = make_optimizer(model, settings())
    step(model, optimizer, 0)
    saved = optimizer_state(model, optimizer)
    other = mixed()
    resumed = make_optimizer(other, settings(lr=0.5, weight_decay=0.25))
    restore_optimizer(other, resumed, saved)
    assert {group["lr"] for group in resumed.param_groups} == {0.5}
    assert [group["weight_decay"] for group in resumed.param_groups] == [0.25, 0.0]


@pytest.mark.parametrize("fault", ["absent", "shape"])
def test_state_that_does_not_fit_is_refused_by_name(fault):
    model = mixed()
    optimizer = make_optimizer(model, settings())
    step(model, optimizer, 0)
    saved = optimizer_state(model, optimizer)
    if fault == "absent":
        del saved["state.conv.bias.exp_avg_sq"]
    else:
        saved["state.conv.bias.exp_avg_sq"] = torch.zeros(4)
    fresh = mixed()
    with pytest.raises(CheckpointError, match=r"no state\.conv\.bias\.exp_avg_sq \(3,\)"):
        restore_optimizer(fresh, make_optimizer(fresh, settings()), saved)


def test_a_network_of_vectors_alone_can_be_trained():
    model = torch.nn.LayerNorm(4)
    optimizer = make_optimizer(model, settings())
    step(model, optimizer, 0)
    other = torch.nn.LayerNorm(4)
    restore_optimizer(other, make_optimizer(other, settings()), optimizer_state(model, optimizer))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"beta2": 1.0}, "beta2"),
        ({"rho": 1.0}, "rho"),
        ({"momentum": -0.1}, "momentum"),
        ({"eps": 0.0}, "eps"),
        ({"lr_end": 1.5}, "lr_end"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"decay_factor": 0.0}, "decay_factor"),
        ({"decay_factor": 1.1}, "decay_factor"),
        ({"decay_steps": 0}, "decay_steps"),
        ({"newbob_patience": -1}, "newbob_patience"),
        ({"newbob_threshold": -0.1}, "newbob_threshold"),
        ({"decay": "noam", "warmup_steps": 0}, "noam"),
    ],
)
def test_settings_of_an_optimizer_out_of_range_are_refused_by_name(changes, match):
    with pytest.raises(SettingsError, match=match):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_workers": 3, "batches_per_step": 2}, "batches_per_step is 2"),
        ({"max_workers": 3, "batches_per_step": 2}, "batches_per_step is 2"),
        ({"num_workers": 3, "max_workers": 2, "batches_per_step": 4}, "num_workers 3 is above max_workers 2"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"log_every": 0}, "log_every"),
        ({"loaders": 0}, "loaders"),
        ({"patience": 3}, "best_by must name"),
        ({"patience": -1, "best_by": "validation_loss"}, "patience"),
        ({"best_by": "validation_loss", "validate_every": 0}, "validate_every must be at least 1"),
        ({"max_hours": 0.0}, "max_hours"),
    ],
)
def test_settings_of_training_out_of_range_are_refused_by_name(changes, match):
    with pytest.raises(SettingsError, match=match):
        TrainingSettings(**{"num_steps": 100, **changes})


def test_settings_that_do_not_fit_each_other_are_refused():
    training = TrainingSettings(num_steps=100, validate_every=0)
    with pytest.raises(SettingsError, match="warmup_steps 100 must be below num_steps 100"):
        check_together(training, settings(warmup_steps=100))
    with pytest.raises(SettingsError, match="newbob waits for validations"):
        check_together(training, settings(decay="newbob"))
    check_together(training, settings(warmup_steps=4_000, decay="noam"))


def test_a_content_key_holds_what_is_learned_and_newer_settings_where_they_are_set():
    """Folders made before a setting came stay valid."""
    known = {
        *("num_steps", "batches_per_step", "dtype", "seed", "validate_every", "lr", "warmup_steps", "lr_end", "decay"),
        *("beta1", "beta2", "weight_decay", "clip_norm"),
    }
    training = TrainingSettings(num_steps=100, num_workers=1, loaders=3, max_hours=2.0, checkpoint_every=7)
    assert set(learning_content(training, settings())) == known
    newer = {"algorithm": "adadelta", "rho": 0.9, "newbob_patience": 1}
    content = learning_content(TrainingSettings(num_steps=100, best_by="dev_wer"), settings(**newer))
    assert set(content) == known | set(newer) | {"best_by"}
