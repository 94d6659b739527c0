"""From counts to cost: what the parts of a study take in GPU hours, bytes and dollars, before it starts.

On paper alone: arithmetic divided by what a device is assumed to do. Counted on one device; devices side by side share
the hours and do not lower their price. Loads no torch.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.study.costing.assumptions import Assumptions, Dtype
from pipeline.study.costing.shapes import StepCost
from pipeline.study.table import VOCODER

_WEIGHT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Passes:
    """A corpus through an encoder.

    Attributes:
        corpus: Its name.
        encoder: Its name.
        hours: Of audio.
        encoder_gflop_per_second: 10^9 operations for a second of audio.
        layers: Layers that are kept.
        dim: Values of a frame and layer that are kept: D of features, 1 of tokens.
        frames_per_second: Frames of a second of audio.
        kept: Frames that are kept; None for all of them.
        bytes_per_value: Of what is kept: 2 of features in float16 and of tokens.
        dtype: Of the encoder's arithmetic.
    """

    corpus: str
    encoder: str
    hours: float
    encoder_gflop_per_second: float
    layers: int
    dim: int
    frames_per_second: float = 50.0
    kept: int | None = None
    bytes_per_value: float = 2.0
    dtype: Dtype = "float32"

    @property
    def frames(self) -> float:
        """Frames that are kept."""
        there = self.hours * 3600 * self.frames_per_second
        return there if self.kept is None else min(float(self.kept), there)


@dataclass(frozen=True, kw_only=True)
class Fits:
    """K-means of some layers, each on its own.

    Attributes:
        name: Of the codebooks.
        frames: That are learned from, of each layer.
        dim: D.
        num_clusters: K.
        layers: How many.
        iterations: Of Lloyd.
    """

    name: str
    frames: int
    dim: int
    num_clusters: int
    layers: int
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trainings of a task that cost the same.

    Attributes:
        task: Of ``table.TASKS``.
        count: How many.
        steps: Of each.
        cost: Of a step, as ``step_flops`` gives it.
        evaluated_hours: Audio that each is judged on, validations with it.
        dtype: Of the arithmetic.
        name: What is told of it; default: the task.
    """

    task: str
    count: int
    steps: int
    cost: StepCost
    evaluated_hours: float = 0.0
    dtype: Dtype = "float32"
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What a kind of work takes.

    Attributes:
        kind: passes, kmeans or trials.
        what: As "wavlm-large on librispeech" or "asr".
        count: How many.
        audio_hours: That go through, epochs counted; 0 of K-means.
        flop: Operations.
        gpu_hours: On one device.
        bytes: That lie on the disk afterwards.
        dollars: Of both.
    """

    kind: str
    what: str
    count: int
    audio_hours: float
    flop: float
    gpu_hours: float
    bytes: float
    dollars: float

    def line(self) -> tuple[str, str]:
        """Give it as label and value."""
        audio = f"{self.audio_hours:,.1f} h of audio, " if self.audio_hours else ""
        return (
            f"{self.kind}: {self.what}",
            f"{self.count:,} times, {audio}{self.flop / 1e15:,.3g} PFLOP, {self.gpu_hours:,.2f} GPU h, "
            f"{self.bytes / 1e9:,.2f} GB, ${self.dollars:,.2f}",
        )


@dataclass(frozen=True, kw_only=True)
class StudyCost:
    """What a study costs.

    Attributes:
        rows: By kind of work.
        assumptions: That they rest on.
    """

    rows: tuple[CostRow, ...]
    assumptions: Assumptions

    @property
    def total(self) -> CostRow:
        """All rows together."""
        return _sum("total", "all", self.rows)

    def lines(self) -> list[tuple[str, str]]:
        """Give the cost as label and value pairs, rows of one name together."""
        named: dict[tuple[str, str], list[CostRow]] = {}
        for row in self.rows:
            named.setdefault((row.kind, row.what), []).append(row)
        together = [_sum(*name, rows) for name, rows in named.items()]
        return [*(row.line() for row in (*together, self.total)), *self.assumptions.lines()]

    def to_json(self) -> dict[str, Any]:
        """Give the cost as plain JSON values."""
        return {**asdict(self), "total": asdict(self.total)}


def _sum(kind: str, what: str, rows: Sequence[CostRow]) -> CostRow:
    return CostRow(
        kind=kind,
        what=what,
        count=sum(row.count for row in rows),
        audio_hours=sum(row.audio_hours for row in rows),
        flop=sum(row.flop for row in rows),
        gpu_hours=sum(row.gpu_hours for row in rows),
        bytes=sum(row.bytes for row in rows),
        dollars=sum(row.dollars for row in rows),
    )


def study_cost(
    passes: Sequence[Passes] = (),
    fits: Sequence[Fits] = (),
    trials: Sequence[Trials] = (),
    assumptions: Assumptions | None = None,
) -> StudyCost:
    """Say what a study costs.

    Args:
        passes: Corpora through encoders.
        fits: K-means.
        trials: Trainings with their evaluations.
        assumptions: Of hardware and prices; default: those of ``Assumptions``.
    """
    given = assumptions or Assumptions()
    rows = [_passes_row(each, given) for each in passes]
    rows += [_fits_row(each, given) for each in fits]
    rows += [_trials_row(each, given) for each in trials]
    return StudyCost(rows=tuple(rows), assumptions=given)


def _passes_row(passes: Passes, given: Assumptions) -> CostRow:
    flop = passes.hours * 3600 * passes.encoder_gflop_per_second * 1e9
    return _row(
        "passes",
        f"{passes.encoder} on {passes.corpus}",
        1,
        audio_hours=passes.hours,
        flop=flop,
        seconds=given.seconds(flop, given.encoder_share, passes.dtype),
        size=passes.frames * passes.layers * passes.dim * passes.bytes_per_value,
        given=given,
    )


def _fits_row(fits: Fits, given: Assumptions) -> CostRow:
    flop = 2.0 * fits.frames * fits.num_clusters * fits.dim * fits.layers * fits.iterations
    return _row(
        "kmeans",
        f"{fits.name}, K = {fits.num_clusters}",
        fits.layers,
        audio_hours=0.0,
        flop=flop,
        seconds=given.seconds(flop, given.kmeans_share, "float32"),
        size=fits.num_clusters * fits.dim * fits.layers * _WEIGHT_BYTES,
        given=given,
    )


def _trials_row(trials: Trials, given: Assumptions) -> CostRow:
    cost, count = trials.cost, trials.count
    trained = trials.steps * cost.audio_seconds
    flop = count * (trained * cost.training + trials.evaluated_hours * 3600 * cost.forward)
    share = given.vocoder_share if trials.task == VOCODER else given.training_share
    return _row(
        "trials",
        trials.name or trials.task,
        count,
        audio_hours=count * (trained / 3600 + trials.evaluated_hours),
        flop=flop,
        seconds=given.seconds(flop, share, trials.dtype) + count * trials.steps * given.step_seconds,
        size=count * cost.saved_parameters * _WEIGHT_BYTES,
        given=given,
    )


def _row(
    kind: str,
    what: str,
    count: int,
    *,
    audio_hours: float,
    flop: float,
    seconds: float,
    size: float,
    given: Assumptions,
) -> CostRow:
    stored = size / 1e9 * given.months * given.price_per_gb_month
    return CostRow(
        kind=kind,
        what=what,
        count=count,
        audio_hours=audio_hours,
        flop=flop,
        gpu_hours=seconds / 3600,
        bytes=size,
        dollars=seconds / 3600 * given.price_per_gpu_hour + stored,
    )


def remaining(measured: Mapping[str, float], to_do: Mapping[str, int], at_once: int) -> float:
    """Say how long the trials that are left will take, from those of this study that have finished.

    Trials are begun in the order of ``to_do``, each as soon as one of those side by side has ended.

    Args:
        measured: Seconds of one trial, by task.
        to_do: Trials that are left, by task.
        at_once: Trials side by side.

    Returns:
        Seconds from now, of whole trials: those that run already count as not begun.

    Raises:
        SettingsError: A task that is left has no measured trial, or nothing runs side by side.
    """
    if at_once < 1:
        raise SettingsError(f"trials side by side must be at least 1, got {at_once}")
    if unknown := [task for task, count in to_do.items() if count and task not in measured]:
        raise SettingsError(
            f"no trial of {', '.join(unknown)} has finished in this study, so what is left of it has no measure; let "
            "one of each finish, or leave it out"
        )
    ends = [0.0] * at_once
    for task, count in to_do.items():
        for _ in range(count):
            heapq.heapreplace(ends, ends[0] + measured[task])
    return max(ends)
