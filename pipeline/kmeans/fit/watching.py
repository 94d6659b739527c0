"""Tells a meter where the fits of a run stand, with the numbers that the log has, and watches for stalls."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from pipeline.kmeans.fit.lloyd import relative_improvement
from pipeline.kmeans.fit.state import Fit, Target
from pipeline.redaction import redact_uri
from pipeline.work import meters
from pipeline.work.meters import SILENT, Meter
from pipeline.work.stalls import StallWatch, some_of


class FitWatch:
    """Watches iterations: a codebook is committed once in hours, but every iteration is kept.

    Args:
        uri: The codebooks dataset.
        units: Its codebooks.
        meter: Takes the values; it is closed with the watch.
        now: Gives the time in seconds since the epoch.
    """

    def __init__(self, uri: str, units: list[str], meter: Meter = SILENT, now: Callable[[], float] = time.time) -> None:
        self._meter, self._now = meter, now
        self._tags = {"stage": "codebooks", "output": redact_uri(uri)}
        self._units = units
        self._active: list[str] = []
        self._stalls = StallWatch("codebooks", "no iteration ended", self._say_pending, told=self._tell_stall)

    def __enter__(self) -> Self:
        """Tell what there is, and begin to watch."""
        began = self._now()
        for metric in (meters.STARTED, meters.LAST_COMMIT):
            self._set(metric, began)
        self._set(meters.STALLED, 0)
        self._set(meters.UNITS_PENDING, len(self._units))
        self._stalls.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the gauges are gone with the run."""
        self._stalls.__exit__(kind, error, trace)
        self._meter.close()

    def begun(self, target: Target) -> None:
        """Take in that a fit has its first centroids, which may take long where there are many frames."""
        self._stalls.moved(f"the first centroids of {target.unit}")
        self._set(meters.LAST_COMMIT, self._now())

    def stepped(self, frames: float, done: int, fits: Mapping[Target, Fit]) -> None:
        """Take one iteration of all fits in.

        Args:
            frames: Frames that the iteration went over, summed over the fits.
            done: Codebooks that are committed.
            fits: The fits that it was of, those that ended with it too.
        """
        self._active = [f"{target.unit} {fit.line()}" for target, fit in fits.items()]
        self._stalls.moved(f"an iteration of {some_of([target.unit for target in fits])}")
        self._set(meters.LAST_COMMIT, self._now())
        self._set(meters.UNITS_DONE, done)
        self._set(meters.UNITS_PENDING, len(self._units) - done)
        self._meter.add(meters.KMEANS_FRAMES, frames, **self._tags)
        for target, fit in fits.items():
            tags = {"layer": str(target.layer), "codebook": target.unit}
            self._set(meters.KMEANS_ITERATION, sum(fit.warm_iterations) + len(fit.inertia), **tags)
            if fit.inertia:
                self._set(meters.KMEANS_INERTIA, fit.inertia[-1], **tags)
            if len(fit.inertia) > 1:
                self._set(meters.KMEANS_IMPROVEMENT, relative_improvement(*fit.inertia[-2:]), **tags)

    def _say_pending(self) -> str:
        if not self._active:
            return f"{len(self._units):,} codebooks pending: {some_of(self._units)}"
        return f"the last iterations were of: {some_of(self._active)}"

    def _tell_stall(self, stalled: bool) -> None:
        self._set(meters.STALLED, stalled)

    def _set(self, metric: meters.Metric, value: float, **tags: str) -> None:
        self._meter.set(metric, value, **self._tags, **tags)
