"""The meter on Ray: values go to Ray's metrics agents by ``ray.util.metrics``, and Prometheus scrapes them there.

A metrics agent forgets a gauge that was not set for 20 s (Ray 2.60), so what was said last is said again every few
seconds: until the meter is closed, and for a minute more where the process lives on, so that what a short stage ended
with is scraped. An agent keeps counters as long as it lives. Nothing here raises: a job does not end because nobody
can hear of it.
"""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from pipeline.work.meters import TAGS, Metric

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 4.0
"""Time after which gauges are set again: two of Ray's reports, 10 s apart, miss none."""
LINGER_SECONDS = 60.0
"""Time for which the gauges of a closed meter are still set."""

_KINDS = {"counter": Counter, "gauge": Gauge}
_Key = tuple[Metric, tuple[tuple[str, str], ...]]


@dataclass(kw_only=True)
class _Held:
    """A gauge that is set again and again, by the meter that set it last, and until when it is."""

    meter: "RayMeter"
    value: float
    until: float = float("inf")


class RayMeter:
    """Hands values to Ray; see ``meters.Meter``. The process must be connected to Ray."""

    _told_of_failure = False
    # Of the process, not of a meter: where a stage runs twice, one value of a gauge is set again, not two in turns.
    _lock = threading.Lock()
    _gauges: dict[_Key, _Held] = {}
    _thread: threading.Thread | None = None

    def __init__(self) -> None:
        self._made: dict[Metric, Any] = {}
        self._closed = False

    def set(self, metric: Metric, value: float, **tags: str) -> None:
        """Set a gauge, now and every few seconds; see ``Meter.set``."""
        with RayMeter._lock:
            if self._closed:
                return
            RayMeter._gauges[metric, tuple(tags.items())] = _Held(meter=self, value=float(value))
            self._give(metric, "set", float(value), tags)
            if RayMeter._thread is None:
                RayMeter._thread = threading.Thread(target=_set_again, name="metrics", daemon=True)
                RayMeter._thread.start()

    def add(self, metric: Metric, value: float, **tags: str) -> None:
        """Let a counter grow; Ray refuses to let it grow by 0."""
        with RayMeter._lock:
            if value > 0 and not self._closed:
                self._give(metric, "inc", float(value), tags)

    def close(self) -> None:
        """Let the gauges go, a minute from now."""
        with RayMeter._lock:
            self._closed = True
            for held in RayMeter._gauges.values():
                if held.meter is self:
                    held.until = time.monotonic() + LINGER_SECONDS

    @classmethod
    def set_held(cls) -> bool:
        """Set again what is held; say whether anything is."""
        # The lock for all of it: an old value set after a new one would stay.
        with cls._lock:
            now = time.monotonic()
            cls._gauges = {key: held for key, held in cls._gauges.items() if held.until > now}
            if not (cls._gauges and ray.is_initialized()):
                cls._gauges, cls._thread = {}, None
                return False
            for (metric, tags), held in cls._gauges.items():
                held.meter._give(metric, "set", held.value, dict(tags))
            return True

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


def _set_again() -> None:
    time.sleep(AGAIN_SECONDS)
    while RayMeter.set_held():
        time.sleep(AGAIN_SECONDS)
