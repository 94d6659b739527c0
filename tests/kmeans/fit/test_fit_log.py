import logging

import numpy as np
import pytest

from pipeline.kmeans.fit.state import Fit
from pipeline.kmeans.fit.telling import LOG_EVERY_SECONDS, FitLog


class Clock:
    """A clock that is set by hand."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO)
    clock = Clock()
    return FitLog(2, clock), clock, caplog


def fit(iterations=3):
    return Fit(centroids=np.zeros((2, 1)), counts=np.zeros(2), inertia=[4.0] * iterations, empty=[0] * iterations)


def test_many_quick_iterations_share_a_line(told):
    log, clock, found = told
    for number in range(1, 641):
        clock.seconds = number / 64
        log.step(50, 0, {"layer_01_k2": fit(number)})
    assert len(found.messages) == int(10 / LOG_EVERY_SECONDS)
    assert all("3200 frames per second; layer_01_k2 iteration" in message for message in found.messages)


def test_slow_iterations_have_a_line_each(told):
    log, clock, found = told
    for number in (1, 2):
        clock.seconds = number * 20.0
        log.step(100, 1, {"layer_01_k2": fit(number)})
    assert [message.split(";")[0] for message in found.messages] == 2 * [
        "K-means: 1 of 2 codebooks done, 5 frames per second"
    ]


def test_the_end_is_told_at_once(told):
    log, clock, found = told
    clock.seconds = 0.5
    log.step(100, 1, {"layer_01_k2": fit()})
    log.step(100, 2, {})
    assert found.messages == ["K-means: 2 of 2 codebooks done after 2 iterations in 0.5 s, 400 frames per second"]
