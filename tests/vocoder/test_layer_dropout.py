"""Layer dropout is uniform in the number of layers and in their sets; validation has fixed sets."""

import itertools
from collections import Counter
from math import comb

import pytest
import torch
from scipy.stats import chisquare

from pipeline.vocoder.layer_dropout import draw_layers
from pipeline.vocoder.layer_sets import validation_sets

LAYERS = 4
DRAWS = 20000


def draws(seed=0):
    return draw_layers(DRAWS, LAYERS, torch.Generator().manual_seed(seed))


def test_the_number_kept_is_uniform_on_1_to_l_and_so_is_each_set_of_that_number():
    kept = draws()
    assert kept.shape == (DRAWS, LAYERS)
    assert kept.dtype == torch.bool
    numbers = Counter(kept.sum(dim=1).tolist())
    assert sorted(numbers) == [1, 2, 3, 4]
    assert chisquare([numbers[number] for number in range(1, LAYERS + 1)]).pvalue > 0.01
    sets = Counter(map(tuple, kept.tolist()))
    every = [each for each in itertools.product((False, True), repeat=LAYERS) if any(each)]
    wanted = [DRAWS / LAYERS / comb(LAYERS, sum(each)) for each in every]
    assert chisquare([sets[each] for each in every], wanted).pvalue > 0.01


def test_dropping_each_layer_by_a_coin_would_be_noticed():
    coins = torch.rand(DRAWS, LAYERS, generator=torch.Generator().manual_seed(0)) < 0.5
    numbers = Counter(coins[coins.any(dim=1)].sum(dim=1).tolist())
    counts = [numbers[number] for number in range(1, LAYERS + 1)]
    assert chisquare(counts).pvalue < 1e-6


def test_draws_follow_from_their_generator_alone():
    torch.manual_seed(1)
    first = draws()
    torch.manual_seed(2)
    assert torch.equal(draws(), first)
    assert not torch.equal(draws(seed=1), first)
    generator = torch.Generator().manual_seed(5)
    draw_layers(10, LAYERS, generator)
    state = generator.get_state()
    after = draw_layers(10, LAYERS, generator)
    resumed = torch.Generator()
    resumed.set_state(state)
    assert torch.equal(draw_layers(10, LAYERS, resumed), after)


@pytest.mark.parametrize(
    ("columns", "sets"),
    [
        (("a",), {"all": ("a",)}),
        (("a", "b"), {"all": ("a", "b"), "a": ("a",), "b": ("b",)}),
        (
            ("a", "b", "c"),
            {"all": tuple("abc"), "a": ("a",), "b": ("b",), "c": ("c",), "lower": ("a", "b"), "upper": ("b", "c")},
        ),
        (
            tuple("abcd"),
            {"all": tuple("abcd"), **{each: (each,) for each in "abcd"}, "lower": ("a", "b"), "upper": ("c", "d")},
        ),
    ],
)
def test_validation_speaks_all_layers_each_one_and_both_halves(columns, sets):
    assert validation_sets(columns) == sets
