"""How a child process ended, and whether what it worked on may be the cause.

A decoder or an encoder that a recording breaks dies of a fault of its own: a bad address, an abort, a division by zero.
SIGKILL, SIGTERM and SIGBUS come from outside (a person, an out-of-memory killer, a disk that went away), SIGALRM from
our clock, and an exit status from the interpreter's end: none of them says anything about a recording.
"""

import signal
from dataclasses import dataclass

OWN_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP})
"""Signals that a process raises by what it does."""

DEATHS_ALONE = 3
"""Deaths of one recording, each alone in a fresh process by a signal of its own, after which it is rejected."""

FOREIGN_DEATHS = 10
"""Deaths from outside, over one recording or unit, after which the run stops."""

_LONGEST_WAIT = 2.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """The end of a child process.

    Attributes:
        how: In words, as ``died by SIGSEGV``.
        own: Whether what it worked on may be the cause.
    """

    how: str
    own: bool

    @classmethod
    def of(cls, status: int) -> "Death":
        """Read an exit status as ``subprocess`` gives it: minus the signal, where one ended the process."""
        if status >= 0:
            return cls(how=f"ended with status {status}", own=False)
        known = {number.value: number.name for number in signal.Signals}
        return cls(how=f"died by {known.get(-status, f'signal {-status}')}", own=-status in OWN_SIGNALS)


def wait_after(foreign_deaths: int) -> float:
    """Give the seconds to wait after a number of deaths from outside: memory that is short may come back."""
    return min(_LONGEST_WAIT, 0.05 * float(2 ** min(foreign_deaths, 10)))
