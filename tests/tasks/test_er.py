"""The weighted loss of emotions against hand computations, and its figures."""

import math

import pytest
import torch

from pipeline.errors import SettingsError
from pipeline.tasks.blocks.classes import confusion
from pipeline.tasks.er.criterion import class_losses, inverse_frequency, weight_of
from pipeline.tasks.er.metrics import measure, rows
from pipeline.tasks.er.settings import ErSettings


def test_weights_make_all_classes_weigh_alike():
    weights = inverse_frequency([6, 3, 1])
    assert [weight * count for weight, count in zip(weights, [6, 3, 1], strict=True)] == pytest.approx([10 / 3] * 3)
    with pytest.raises(ValueError, match="every class needs an utterance"):
        inverse_frequency([3, 0])


def test_the_weighted_mean_is_that_of_torch():
    logits, classes, weights = torch.randn(8, 3), torch.arange(8) % 3, (0.5, 2.0, 1.5)
    mean = class_losses(logits, classes, weights).sum() / weight_of(classes, weights)
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(logits, classes, torch.tensor(weights)))
    assert weight_of(classes, None) == 8
    torch.testing.assert_close(class_losses(torch.zeros(2, 3), classes[:2], None), torch.full((2,), math.log(3)))


def test_figures_are_those_counted_by_hand():
    logits = torch.tensor([[2.0, 0], [2, 0], [2, 0], [0, 2]])
    found = rows(logits, torch.tensor([0, 0, 1, 1]), ["calm", "glad"])
    assert found[0]["score"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert measure(found) == {"accuracy": 0.75, "error": 0.25, "uar": 0.75}
    assert confusion(found, ["calm", "glad"]).tolist() == [[2, 0], [1, 1]]


def test_an_unknown_weighting_is_refused():
    with pytest.raises(SettingsError, match="class_weights must be"):
        ErSettings(class_weights="square")
