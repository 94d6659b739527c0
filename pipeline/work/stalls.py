"""Notices that a job does nothing for long, says so once, and says when it goes on; knows no Ray."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

STALL_SECONDS = 300.0
"""Time without a commit after which a job is stalled. The alert ``StrataStalled`` waits as long. A unit may take
longer on a slow machine; the warning ends nothing."""

_LOOKS = 30
"""Looks at the clock in that time, so that a stall is told of at most a thirtieth late."""


def _ignore(stalled: bool) -> None:
    pass


class StallWatch:
    """Watches that things are done, from a thread: whoever waits for them cannot say that they do not come.

    Args:
        subject: What the job makes, as the line begins.
        missed: What does not happen in a stall, as ``no unit was committed``.
        pending: Says what is to be done still; called from the thread, once per stall.
        seconds: Time without anything done after which it is a stall; default ``STALL_SECONDS``.
        told: Hears of the beginning (True) and the end (False) of a stall.
        now: Gives the time in seconds, for differences.
    """

    def __init__(
        self,
        subject: str,
        missed: str,
        pending: Callable[[], str],
        *,
        seconds: float | None = None,
        told: Callable[[bool], None] = _ignore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subject, self._missed, self._pending = subject, missed, pending
        self._seconds = STALL_SECONDS if seconds is None else seconds
        self._told, self._now = told, now
        self._last, self._moved_at = "", now()
        self._since = time.strftime("%H:%M:%S")
        self._stalled = False
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def moved(self, what: str) -> None:
        """Take in that something was done, as ``shard-00003``; says that the job goes on where it was stalled."""
        with self._lock:
            now = self._now()
            waited, was_stalled = now - self._moved_at, self._stalled
            self._last, self._moved_at, self._stalled = what, now, False
            self._since = time.strftime("%H:%M:%S")
        if was_stalled:
            logger.warning("%s goes on after %.1f minutes, with %s", self._subject, waited / 60, what)
            self._told(False)

    def look(self) -> None:
        """Say that the job is stalled, where it is and that was not said."""
        with self._lock:
            waited = self._now() - self._moved_at
            if self._stalled or waited < self._seconds:
                return
            self._stalled = True
            last, since = self._last, self._since
        after = f"{last} was the last" if last else "it is where it began"
        logger.warning(
            "%s is stalled: %s for %.1f minutes, since %s (%s); %s",
            self._subject,
            self._missed,
            waited / 60,
            since,
            after,
            self._pending(),
        )
        self._told(True)

    def _work(self) -> None:
        while not self._ended.wait(self._seconds / _LOOKS):
            self.look()


def some_of(names: list[str], most: int = 3) -> str:
    """Name a few of many: ``a, b, c and 7 more``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
