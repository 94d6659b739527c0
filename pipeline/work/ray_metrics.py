"""The meter on Ray: values go to Ray's metrics agents by ``ray.util.metrics``, and Prometheus scrapes them there.

A metrics agent forgets a gauge that was not set for 20 s (Ray 2.60), so what was said last is said again every few
seconds, until the meter is closed; then it is gone from Prometheus half a minute later. An agent keeps counters as long
as it lives. Nothing here raises: a job does not end because nobody can hear of it.
"""

import logging
import threading
from typing import Any

from ray.util.metrics import Counter, Gauge

from pipeline.work.meters import TAGS, Metric

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 4.0
"""Time after which gauges are set again: two of Ray's reports, 10 s apart, miss none."""

_KINDS = {"counter": Counter, "gauge": Gauge}


class RayMeter:
    """Hands values to Ray; see ``meters.Meter``. The process must be connected to Ray."""

    _told_of_failure = False

    def __init__(self) -> None:
        self._made: dict[Metric, Any] = {}
        self._gauges: dict[tuple[Metric, tuple[tuple[str, str], ...]], float] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def set(self, metric: Metric, value: float, **tags: str) -> None:
        """Set a gauge, now and every few seconds; see ``Meter.set``."""
        with self._lock:
            if self._ended.is_set():
                return
            self._gauges[metric, tuple(tags.items())] = float(value)
            self._give(metric, "set", float(value), tags)
            if self._thread is None:
                self._thread = threading.Thread(target=self._again, name="metrics", daemon=True)
                self._thread.start()

    def add(self, metric: Metric, value: float, **tags: str) -> None:
        """Let a counter grow; Ray refuses to let it grow by 0."""
        with self._lock:
            if value > 0 and not self._ended.is_set():
                self._give(metric, "inc", float(value), tags)

    def close(self) -> None:
        """Set no gauge again."""
        with self._lock:
            self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _again(self) -> None:
        while not self._ended.wait(AGAIN_SECONDS):
            # The lock for all of it: an old value set after a new one would stay.
            with self._lock:
                for (metric, tags), value in self._gauges.items():
                    self._give(metric, "set", value, dict(tags))

    def _give(self, metric: Metric, how: str, value: float, tags: dict[str, str]) -> None:
        try:
            if metric not in self._made:
                self._made[metric] = _KINDS[metric.kind](metric.name, metric.meaning, (*TAGS, *metric.tags))
            getattr(self._made[metric], how)(value, tags)
        except Exception as error:
            if not RayMeter._told_of_failure:
                RayMeter._told_of_failure = True
                logger.warning(
                    "Ray takes no metrics (%s: %s); the work goes on, and this is said once",
                    type(error).__name__,
                    error,
                )
