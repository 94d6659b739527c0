"""How a study writes its figures: the same in sentences, tables and pictures."""

from pipeline.metrics.uncertainty import Interval, OverSeeds
from pipeline.study.metrics import METRICS

PLUS_MINUS = "\u00b1"
CANNOT_TELL = "cannot be told apart"


def number(value: float) -> str:
    """Write a figure, as 0.1234 or 56.78."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"


def signed(value: float) -> str:
    """Write a difference, as +0.1234."""
    return f"{value:+.4f}" if abs(value) < 10 else f"{value:+,.2f}"


def over_seeds(figure: OverSeeds) -> str:
    """Write a mean over seeds with its standard error, as 0.1234 +- 0.0012; a single seed has none."""
    if figure.standard_error is None:
        return f"{number(figure.mean)} (one seed)"
    return f"{number(figure.mean)} {PLUS_MINUS} {number(figure.standard_error)}"


def interval(found: Interval) -> str:
    """Write a figure with the ends of its interval."""
    return f"{number(found.value)} ({number(found.low)} to {number(found.high)})"


def difference(found: Interval) -> str:
    """Write a difference with the ends of its interval, each with its sign."""
    return f"{signed(found.value)} ({signed(found.low)} to {signed(found.high)})"


def direction(metric: str) -> str:
    """Say which way a metric is better."""
    return f"{'lower' if METRICS[metric].lower_is_better else 'higher'} is better"


def percent(share: float) -> str:
    """Write a share from 0 to 1 as a percentage."""
    return f"{100 * share:.1f} %"


def bits(bits_per_second: float) -> str:
    """Write a bitrate, bits per second."""
    return f"{bits_per_second:,.0f}"


def took(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"


def size(num_bytes: float) -> str:
    """Write bytes in the unit that suits them."""
    for unit, of in (("TB", 1e12), ("GB", 1e9)):
        if num_bytes >= of:
            return f"{num_bytes / of:,.1f} {unit}"
    return f"{num_bytes / 1e6:,.1f} MB"
