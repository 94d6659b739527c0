"""Says in the log how far the fits of a run are: a line every few seconds, and one at the end."""

import logging
import time
from collections.abc import Callable, Mapping

from pipeline.kmeans.fit.state import Fit

logger = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 5.0
"""Iterations over a small corpus take a hundredth of a second: a line for each would fill the log."""


class FitLog:
    """Counts iterations and frames, and logs them when it is time.

    Args:
        num_codebooks: Codebooks of the run.
        now: Gives the time in seconds.
    """

    def __init__(self, num_codebooks: int, now: Callable[[], float] = time.monotonic) -> None:
        self._num_codebooks = num_codebooks
        self._now = now
        self._began = self._told = self._stepped = now()
        self._iterations, self._frames, self._frames_told = 0, 0.0, 0.0

    def step(self, frames: float, done: int, active: Mapping[str, Fit]) -> None:
        """Take one iteration of all active fits in, and log it if the last line is some seconds old.

        Args:
            frames: Frames that the iteration went over, summed over the fits.
            done: Codebooks that are committed.
            active: The fits that go on, by unit; the line at the end comes when there is none.
        """
        now = self._now()
        logger.debug("K-means: iteration of %.3f s", now - self._stepped)
        self._stepped = now
        self._iterations += 1
        self._frames += frames
        if not active:
            logger.info(
                "K-means: %d of %d codebooks done after %d iterations in %.1f s, %.0f frames per second",
                done,
                self._num_codebooks,
                self._iterations,
                now - self._began,
                self._frames / max(1e-9, now - self._began),
            )
        elif now - self._told >= LOG_EVERY_SECONDS:
            logger.info(
                "K-means: %d of %d codebooks done, %.0f frames per second; %s",
                done,
                self._num_codebooks,
                (self._frames - self._frames_told) / (now - self._told),
                "; ".join(f"{unit} {fit.line()}" for unit, fit in active.items()),
            )
            self._told, self._frames_told = now, self._frames
