"""What befell the attempts to read one recording, and what that says of it.

A recording is rejected for what another machine would find too: it is refused again when it is read again, by a reader
that notices failed reads; or it kills process after process by a signal of their own, each alone with it. What comes
from outside (kills, failed reads, a process that was halted) is tried again, and then stops the run: the recording may
be fine.
"""

import time
from collections.abc import Mapping
from typing import Any

from pipeline.audio.decode_process import DecodeDeath
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason
from pipeline.work.deaths import DEATHS_ALONE, FOREIGN_DEATHS, wait_after

_LATE = 2
"""Times that a recording must take too long, before it is rejected for it."""

_FAILED_READS = 6
"""Failed reads of one recording after which the run stops."""

_READ_AGAIN = frozenset(
    {
        Reason.NOT_AUDIO,
        Reason.TRUNCATED,
        Reason.HEADER_LIES,
        Reason.TOO_SHORT,
        Reason.EMPTY,
        Reason.BAD_SEGMENT,
        Reason.NOT_FINITE,
        Reason.UNREADABLE,
        Reason.DECODER_MEMORY,
        Reason.DECODER_CRASH,
    }
)
"""Reasons that a read which failed in silence may look like, or a process that an earlier recording has harmed."""

_FRESH = frozenset({Reason.DECODER_MEMORY, Reason.DECODER_CRASH})


class Trials:
    """The attempts at one recording.

    Attributes:
        careful: Whether it is to be read by the reader that notices failed reads.
        fresh: Whether it is to be read in a process that has read nothing else.
    """

    def __init__(self, name: str, key: str, timeout_seconds: float) -> None:
        """Begin.

        Args:
            name: The recording, for messages.
            key: The utterance, for messages.
            timeout_seconds: What one attempt may take.
        """
        self._name, self._key, self._timeout_seconds = name, key, timeout_seconds
        self._own = self._late = self._foreign = self._failed = 0
        self._refused: AudioDecodeError | None = None
        self.careful = self.fresh = False

    def died(self, error: DecodeDeath, *, alone: bool) -> AudioDecodeError | None:
        """Count the end of a process that was reading the recording; waits where it came from outside.

        Args:
            error: How it ended.
            alone: Whether it had read nothing else.

        Returns:
            The reject that the recording has earned, None: it is to be read again.

        Raises:
            StorageError: It ended from outside again and again.
        """
        death = error.death
        self.fresh = True
        if not death.own:
            self._foreign += 1
            if self._foreign >= FOREIGN_DEATHS:
                raise StorageError(
                    f"the decode process {death.how} while it read {self._name}, the last of {self._foreign} ends from "
                    "outside, which say nothing of the recording: is memory short? What is committed stays; run the "
                    "same command again"
                ) from error
            time.sleep(wait_after(self._foreign))
        elif error.late:
            self._late += 1
            if self._late >= _LATE:
                return AudioDecodeError(
                    Reason.DECODER_TIMEOUT,
                    f"{self._key} was not decoded within {self._timeout_seconds:g} s, {self._late} times",
                )
        else:
            self._own += alone
            if self._own >= DEATHS_ALONE:
                return AudioDecodeError(
                    Reason.DECODER_CRASH,
                    f"the decode process {death.how} while it read {self._key}, {self._own} times with nothing else",
                )
        return None

    def refused(self, header: Mapping[str, Any]) -> AudioDecodeError | None:
        """Hear a refusal; waits where a read failed.

        Args:
            header: The answer of the decode process: ``reason``, ``detail`` and, of a read that failed, its ``errno``.

        Returns:
            The reject that the recording has earned, None: it is to be read again.

        Raises:
            StorageError: Reads fail again and again.
        """
        if header.get("errno") is not None:
            self._failed += 1
            if self._failed >= _FAILED_READS:
                raise StorageError(
                    f"{self._name} cannot be read here ({header['detail']}), which says nothing of the recording; what "
                    "is committed stays: run the same command again when its disk answers"
                )
            time.sleep(wait_after(self._failed))
            return None
        reason = Reason(header["reason"])
        found = AudioDecodeError(reason, f"{header['detail']} ({self._name})")
        if self._refused is None and reason in _READ_AGAIN:
            self._refused, self.careful, self.fresh = found, True, reason in _FRESH
            return None
        return self._refused if self._refused is not None and self._refused.reason == reason else found
