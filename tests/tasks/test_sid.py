"""The angular margin against hand computations, and trials of embeddings."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline.errors import SettingsError
from pipeline.tasks.sid.criterion import margin_losses, with_margin
from pipeline.tasks.sid.metrics import rows, verify
from pipeline.tasks.sid.model import Speakers
from pipeline.tasks.sid.settings import SidSettings


def test_the_loss_is_that_computed_by_hand():
    cosines = torch.tensor([[math.cos(0.5), math.cos(1.2), 0.0]])
    (loss,) = margin_losses(cosines, torch.tensor([0]), margin=0.2, scale=10).tolist()
    right, wrong, other = (math.exp(10 * value) for value in (math.cos(0.7), math.cos(1.2), 0.0))
    assert loss == pytest.approx(-math.log(right / (right + wrong + other)), rel=1e-5)


def test_without_a_margin_it_is_the_softmax_of_scaled_cosines():
    cosines, speakers = torch.rand(6, 4) * 2 - 1, torch.arange(6) % 4
    found = margin_losses(cosines, speakers, margin=0.0, scale=30)
    torch.testing.assert_close(found, cross_entropy(30 * cosines, speakers, reduction="none"))


def test_the_margin_falls_in_the_angle_throughout():
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    found = with_margin(angles.cos(), 0.3)
    # Within an angle of 0.001 (sines below the least one) cosines differ by less than a part in a million.
    assert (found.diff() < 1e-6).all()
    inside = (angles > 0.01) & (angles < math.pi - 0.3)
    torch.testing.assert_close(found[inside], (angles[inside] + 0.3).cos())


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1 + 1e-6, -1 - 1e-6])
def test_loss_and_gradient_are_finite_where_the_sine_is_0(cosine):
    cosines = torch.tensor([[cosine, 0.3]], requires_grad=True)
    loss = margin_losses(cosines, torch.tensor([0]), margin=0.2, scale=30)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert cosines.grad.isfinite().all()


def test_a_speaker_is_the_largest_cosine_without_a_margin():
    found = Speakers(embeddings=torch.zeros(1, 2), cosines=torch.tensor([[0.50, 0.51]]))
    assert rows(found, torch.tensor([0]), ["ann", "bob"]) == [
        {"hypothesis": "bob", "reference": "ann", "score": pytest.approx(0.51)}
    ]


def test_trials_are_judged_by_the_cosine_of_their_embeddings():
    embeddings = np.array([[1.0, 0.1], [9.0, 0.0], [0.0, 2.0], [0.1, 1.0]])
    first, second = np.array([0, 2, 0, 1]), np.array([1, 3, 2, 3])
    found = verify(embeddings, first, second, np.array([True, True, False, False]))
    assert (found.eer, found.min_dcf, found.trials) == (0, 0, 4)


@pytest.mark.parametrize("given", [{"margin": 2.0}, {"margin": -0.1}, {"scale": 0.0}])
def test_a_margin_or_scale_that_cannot_work_is_refused(given):
    with pytest.raises(SettingsError, match=f"{next(iter(given))} must be"):
        SidSettings(**given)
