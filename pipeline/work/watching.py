"""Tells a meter where a running stage stands, with the numbers that its log and report have, and watches for stalls."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from pipeline.redaction import redact_uri
from pipeline.work import meters
from pipeline.work.meters import Meter
from pipeline.work.reporting import Tally
from pipeline.work.stalls import StallWatch, some_of
from pipeline.work.units import Done
from pipeline.work.waiting import waiting

_LEAST_SECONDS = 5.0
_COST_SHARE = 0.01
"""Share of a run that adding up what encoders waited for may take: with many shards it is done more rarely."""
_AGREEMENT = "agreement"
"""The note of a commit that has, by layer's column, frames compared and frames equal of each checked utterance."""


class StageWatch:
    """Watches the units of a stage as they are committed.

    Args:
        tally: The counts that log and report are made of; it has counted a unit before this hears of it.
        pending: Units without a commit.
        meter: Takes the values; it is closed with the watch.
    """

    def __init__(self, tally: Tally, pending: Sequence[str], meter: Meter) -> None:
        start = tally.start
        self._tally, self._meter = tally, meter
        self._tags = {"stage": start.kind, "output": redact_uri(start.uri)}
        self._pending = dict.fromkeys(pending)
        self._agreement: dict[str, Counter[str]] = {}
        self._waiting_at = 0.0
        self._stalls = StallWatch(start.kind, "no unit was committed", self._say_pending, told=self._tell_stall)

    def __enter__(self) -> Self:
        """Tell what there is, and begin to watch."""
        began, total = time.time(), self._tally.start.total_seconds
        self._set(meters.STARTED, began)
        self._set(meters.LAST_COMMIT, began)
        self._set(meters.STALLED, 0)
        if total:
            self._set(meters.AUDIO_PLANNED, total)
        self._tell()
        self._stalls.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the gauges are gone with the run."""
        self._stalls.__exit__(kind, error, trace)
        self._tell_waiting(last=True)
        self._meter.close()

    def committed(self, done: Done) -> None:
        """Take in a unit that has just been committed."""
        commit = done.commit
        self._pending.pop(commit.unit, None)
        self._stalls.moved(commit.unit)
        self._set(meters.LAST_COMMIT, time.time())
        self._add(meters.UNITS, 1)
        self._add(meters.AUDIO, commit.seconds)
        self._add(meters.ROWS, commit.data.rows)
        for reason, count in commit.notes.get("reasons", {}).items():
            self._add(meters.REJECTS, count, reason=reason)
        self._tell()
        self._tell_waiting()
        self._tell_agreement(commit.notes)

    def _tell(self) -> None:
        tally = self._tally
        self._set(meters.UNITS_DONE, tally.units_done)
        self._set(meters.UNITS_PENDING, tally.start.units - tally.units_done)
        if tally.audio_seconds:
            self._set(meters.AUDIO_DONE, tally.audio_seconds)
        if tally.seconds:
            self._set(meters.REAL_TIME, tally.speed)
        if tally.rows + tally.rejects:
            self._set(meters.REJECTS_RATIO, tally.rejects / (tally.rows + tally.rejects))

    def _tell_waiting(self, *, last: bool = False) -> None:
        """Add up what encoders did, as the report does; until the end no encoder waits for the others' last shards."""
        began = time.monotonic()
        if began < self._waiting_at and not last:
            return
        found = waiting(self._tally.actors.values(), time.time() if last else 0.0)
        if found is not None:
            shares = asdict(found)
            self._set(meters.DEVICE_RATIO, shares.pop("busy"))
            for cause, share in shares.items():
                self._set(meters.WAITING_RATIO, share, cause=cause)
        ended = time.monotonic()
        self._waiting_at = ended + max(_LEAST_SECONDS, (ended - began) / _COST_SHARE)

    def _tell_agreement(self, notes: Mapping[str, Any]) -> None:
        for column, found in notes.get(_AGREEMENT, {}).items():
            counts = self._agreement.setdefault(column, Counter())
            counts.update(frames=sum(int(n) for n, _ in found), equal=sum(int(k) for _, k in found))
            if counts["frames"]:
                self._set(meters.AGREEMENT_RATIO, counts["equal"] / counts["frames"], layer=column)

    def _tell_stall(self, stalled: bool) -> None:
        self._set(meters.STALLED, stalled)

    def _say_pending(self) -> str:
        # A copy: the thread that watches reads it while units are committed.
        names = list(self._pending)
        return f"{len(names):,} of {self._tally.start.units:,} units pending: {some_of(names)}"

    def _set(self, metric: meters.Metric, value: float, **tags: str) -> None:
        self._meter.set(metric, value, **self._tags, **tags)

    def _add(self, metric: meters.Metric, value: float, **tags: str) -> None:
        self._meter.add(metric, value, **self._tags, **tags)
