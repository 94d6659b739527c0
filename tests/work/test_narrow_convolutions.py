"""bfloat16 convolutions of few channels are right on every CPU, those with AMX included."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from pipeline.features.encoders.encoder import SslEncoder
from pipeline.work.narrow_convolutions import widen_narrow_convolutions

CPU = torch.device("cpu")


def line(channels, groups, taps):
    torch.manual_seed(0)
    return torch.nn.Conv1d(channels * groups, channels * groups, taps, padding=taps // 2, groups=groups)


def strided(channels, groups, taps):
    torch.manual_seed(0)
    return torch.nn.Conv1d(channels * groups, channels * groups, taps, 4, groups=groups)


def plane(channels, groups, taps):
    torch.manual_seed(0)
    return torch.nn.Conv2d(channels * groups, channels * groups, (3, taps), padding=(1, taps // 2), groups=groups)


def error(found, right):
    """Give the mean error over the mean absolute value."""
    return ((found.float() - right).abs().mean() / right.abs().mean()).item()


NARROW = [(12, 16, 8), (12, 4, 16), (8, 1, 8), (4, 2, 24), (2, 3, 32)]


@pytest.mark.parametrize(
    ("make", "channels", "groups", "taps"),
    [(make, *sizes) for make in (line, plane) for sizes in NARROW] + [(strided, 16, 1, 8), (strided, 24, 2, 4)],
)
def test_values_are_those_of_float32_up_to_their_rounding(make, channels, groups, taps):
    network = make(channels, groups, taps)
    values = torch.randn(2, channels * groups, *(40, 40)[: 2 if make is plane else 1])
    right = network(values)
    network.bfloat16()
    assert widen_narrow_convolutions(network, CPU, torch.bfloat16) == 1
    found = network(values.bfloat16())
    assert found.dtype == torch.bfloat16
    assert 0 < error(found, right) < 0.01


def test_a_network_learns_from_right_values_and_keeps_its_weights_and_its_copies():
    network, values = torch.nn.Sequential(line(12, 4, 16)), torch.randn(2, 48, 40)
    network(values).square().mean().backward()
    right = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    names = list(network.state_dict())
    widen_narrow_convolutions(network, CPU, torch.bfloat16)
    assert list(network.state_dict()) == names
    with torch.autocast("cpu", torch.bfloat16):
        found = network(values)
    assert found.dtype == torch.bfloat16
    found.float().square().mean().backward()
    for name, weight in network.named_parameters():
        assert weight.dtype == torch.float32
        assert error(weight.grad, right[name]) < 0.02
    copied = deepcopy(network)
    with torch.no_grad():
        copied[0].weight.zero_()
        copied[0].bias.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert copied(values).abs().max() == 0
        assert torch.equal(network(values), found)


@pytest.mark.parametrize(
    ("channels", "taps", "device", "dtype"),
    [
        (32, 8, "cpu", torch.bfloat16),
        (1, 128, "cpu", torch.bfloat16),
        (12, 7, "cpu", torch.bfloat16),
        (12, 8, "cpu", torch.float32),
        (12, 8, "cuda", torch.bfloat16),
    ],
)
def test_others_are_left_as_they_are(channels, taps, device, dtype):
    network = line(channels, 4, taps)
    before = {**vars(network)}
    assert widen_narrow_convolutions(network, torch.device(device), dtype) == 0
    assert vars(network) == before


def test_the_encoder_that_ships_gives_in_bfloat16_what_it_gives_in_float32():
    waveform = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    wide, narrow = (
        SslEncoder.from_pretrained("encoder-small", layers=[2, 4, 6], dtype=dtype).encode([waveform])[0]
        for dtype in ("float32", "bfloat16")
    )
    for layer in range(3):
        assert 0 < np.abs(narrow[layer] - wide[layer]).mean() < 0.03 * np.abs(wide[layer]).mean()
