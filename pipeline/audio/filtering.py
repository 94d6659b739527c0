"""Which rows of a manifest are kept: those of which a condition is true, and of these a sample of some hours.

A sample is what comes first in the order of a hash of seed and utterance_id, as few as reach its hours. So an
utterance's place hangs on nothing but its id, a smaller sample is part of a larger one, and a corpus that grows only
pushes out what is last. Memory: 25 bytes an utterance.
"""

import hashlib
import logging

import numpy as np
import pyarrow as pa

from pipeline.audio.filter_settings import FilterSettings
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

logger = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000
_PER_HOUR = 3600 * _MICROSECONDS


def kept_rows(rows: pa.Table, filters: FilterSettings, corpus: str) -> tuple[pa.Table, PassedOver]:
    """Keep the rows that the settings ask for.

    Args:
        rows: Rows of a manifest, without duplicates.
        filters: What is asked for.
        corpus: What the rows are of, for messages.

    Returns:
        The rows that are kept, in their order, and what was left out.

    Raises:
        ManifestError: There are rows, and none is kept.
        SettingsError: The condition cannot be evaluated.
    """
    left_out = PassedOver()
    if not rows.num_rows:
        return rows, left_out
    condition = filters.condition()
    if condition is not None:
        true, unknown = condition.verdicts(rows)
        for name, out in (("where", ~true & ~unknown), ("where: missing label", unknown)):
            _count(left_out, Kind.FILTERED, rows, out, name)
        if not true.any():
            raise ManifestError(
                f"--where {filters.where!r} keeps none of the {rows.num_rows:,} utterances of {corpus} that can be "
                f"used; {int(unknown.sum()):,} of them lack a label that it reads. Give another condition and a new "
                "--output"
            )
        rows = rows.filter(pa.array(true))
    if filters.sample_hours is not None:
        sampled = in_sample(rows, filters.sample_hours, filters.sample_seed)
        hours = float(_microseconds(rows).sum()) / _PER_HOUR
        if hours < filters.sample_hours:
            logger.warning("%s: all %.3f h are kept, --sample-hours asks for %g", corpus, hours, filters.sample_hours)
        _count(left_out, Kind.NOT_SAMPLED, rows, ~sampled, "")
        rows = rows.filter(pa.array(sampled))
    left_out.log(logger, corpus)
    return rows, left_out


def in_sample(rows: pa.Table, hours: float, seed: int) -> np.ndarray:
    """Say which rows are in a sample.

    Args:
        rows: N rows of a manifest.
        hours: Hours of the sample: it is at most one utterance longer.
        seed: Any integer.

    Returns:
        bool (N,).
    """
    prefix = f"{seed}\0sample_hours\0"
    names = rows["utterance_id"].to_pylist()
    digests = (hashlib.blake2b((prefix + name).encode(), digest_size=8).digest() for name in names)
    order = np.argsort(np.frombuffer(b"".join(digests), "<u8"), kind="stable")
    # Whole microseconds, so that no order of sums matters.
    lengths = _microseconds(rows)[order]
    found = np.zeros(rows.num_rows, bool)
    found[order[np.cumsum(lengths) - lengths < round(hours * _PER_HOUR)]] = True
    return found


def _microseconds(rows: pa.Table) -> np.ndarray:
    samples = rows["num_samples"].to_numpy().astype(np.float64)
    lengths: np.ndarray = np.rint(samples / rows["sample_rate"].to_numpy() * _MICROSECONDS).astype(np.int64)
    return lengths


def _count(left_out: PassedOver, kind: Kind, rows: pa.Table, out: np.ndarray, name: str) -> None:
    places = np.flatnonzero(out)
    if len(places):
        left_out.add(kind, len(places), example=rows["utterance_id"][int(places[0])].as_py(), name=name)
