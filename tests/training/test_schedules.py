"""Learning rates over a run: each schedule against its formula, newbob against validations by hand."""

import math

import pytest

from pipeline.training.schedules import learning_rate, remember
from pipeline.training.settings import OptimizerSettings


def settings(**changes):
    return OptimizerSettings(**{"warmup_steps": 10, "lr": 1e-2, **changes})


def rates(num_steps, **changes):
    return [learning_rate(settings(**changes), num_steps, step) for step in range(num_steps)]


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant", "newbob", "exponential", "cyclic", "noam"])
def test_the_rate_rises_in_a_line_over_the_warm_up(decay):
    assert rates(100, decay=decay)[:10] == pytest.approx([1e-3 * step for step in range(1, 11)])


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant", "newbob", "exponential"])
def test_the_rate_is_highest_when_the_warm_up_ends(decay):
    assert rates(100, decay=decay)[10] == pytest.approx(1e-2)
    assert max(rates(100, decay=decay)) == pytest.approx(1e-2)


@pytest.mark.parametrize("end", [0.0, 0.05])
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_rate_falls_in_a_line_or_a_cosine_to_its_end_at_the_last_step(decay, end):
    found = rates(111, lr_end=end, decay=decay)[10:]
    assert found[-1] == pytest.approx(1e-2 * end, abs=1e-9)
    assert found[50] == pytest.approx(1e-2 * (end + (1 - end) * 0.5))
    assert sorted(found, reverse=True) == found


def test_a_cosine_is_one():
    assert rates(111, decay="cosine")[35] == pytest.approx(1e-2 * (1 + math.cos(math.pi / 4)) / 2)


def test_without_warm_up_the_first_step_has_the_highest_rate_and_one_step_is_a_run():
    assert learning_rate(settings(warmup_steps=0), 100, 0) == pytest.approx(1e-2)
    assert learning_rate(settings(warmup_steps=0), 1, 0) == pytest.approx(1e-2)
    assert learning_rate(settings(warmup_steps=10), 11, 10) == pytest.approx(1e-2)


def test_constant_stays():
    assert rates(100, decay="constant", lr_end=0.5)[10:] == [1e-2] * 90


def test_noam_falls_with_the_root_of_the_step_from_the_end_of_its_warm_up():
    """Vaswani et al., equation 3, scaled to a highest rate of lr."""
    found = rates(1_000, decay="noam", warmup_steps=100)
    by_hand = [1e-2 * 100**0.5 * min(n**-0.5, n * 100**-1.5) for n in range(1, 1_001)]
    assert found == pytest.approx(by_hand)
    assert max(found) == found[99] == pytest.approx(1e-2)


def test_exponential_multiplies_every_so_many_steps():
    found = rates(50, decay="exponential", decay_factor=0.5, decay_steps=15)
    assert found[10:25] == [1e-2] * 15
    assert found[25:40] == pytest.approx([5e-3] * 15)
    assert found[40] == pytest.approx(2.5e-3)


def test_cyclic_is_a_triangle_between_the_lowest_and_the_highest_rate():
    found = rates(81, decay="cyclic", warmup_steps=0, decay_steps=20, lr_end=0.1)
    assert [found[step] for step in (0, 20, 40, 60, 80)] == pytest.approx([1e-3, 1e-2, 1e-3, 1e-2, 1e-3])
    assert found[10] == pytest.approx(5.5e-3)
    assert found[30] == pytest.approx(5.5e-3)


def newbob(values, **changes):
    """Give the factor after each of some validations."""
    memory, factors = None, []
    for value in values:
        memory = remember(settings(decay="newbob", **changes), memory, value)
        factors.append(memory["factor"])
    return factors


def test_newbob_multiplies_where_a_validation_is_not_better_by_the_threshold():
    # 1.0 to 0.9: better. 0.9 to 0.899: by a thousandth only. 0.899 to 0.95: worse. 0.95 to 0.5: better.
    assert newbob([1.0, 0.9, 0.899, 0.95, 0.5]) == pytest.approx([1.0, 1.0, 0.8, 0.64, 0.64])
    assert newbob([1.0, 0.9, 0.899], newbob_threshold=0.001) == [1.0, 1.0, 1.0]
    assert newbob([1.0, 2.0], decay_factor=0.5) == [1.0, 0.5]


def test_newbob_forgives_as_often_as_its_patience_says():
    assert newbob([1.0] * 7, newbob_patience=2) == pytest.approx([1.0, 1.0, 1.0, 0.8, 0.8, 0.8, 0.64])


def test_newbob_takes_a_metric_that_is_zero_or_not_a_number_for_no_improvement():
    assert newbob([0.0, 0.0]) == [1.0, 0.8]
    assert newbob([1.0, float("nan")]) == [1.0, 0.8]


def test_a_rate_of_newbob_is_what_it_remembers():
    memory = remember(settings(decay="newbob"), remember(settings(decay="newbob"), None, 1.0), 1.0)
    assert learning_rate(settings(decay="newbob"), 100, 50, memory) == pytest.approx(8e-3)
    assert learning_rate(settings(decay="newbob"), 100, 50, None) == pytest.approx(1e-2)
