"""Runs what a dataset lacks: chooses who does it, shows progress, finishes the dataset and reports."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pipeline import faults
from pipeline.passed_over import NOTE, PassedOver
from pipeline.store.completion import Account, check_rejects, finish, status, unless_finished
from pipeline.store.dataset import Dataset
from pipeline.store.provenance import recorded_estimate
from pipeline.store.redoing import goes_on, reopen
from pipeline.work.choice import Choice
from pipeline.work.meters import SILENT, Meter
from pipeline.work.reporting import Progress, StageReport, Tally
from pipeline.work.units import Load, MakerFactory
from pipeline.work.watching import StageWatch
from pipeline.work.worker_shape import Placement, WorkerShape, worker_shape

logger = logging.getLogger(__name__)


def stage_shape(choice: Choice, placement: Placement | None = None, *, use_gpu: bool = True) -> WorkerShape:
    """Fit a stage into what its runner has; with ``use_gpu``, onto its GPUs where it has any.

    Args:
        choice: The runner.
        placement: What is wanted; default is one thread per worker and as many workers as fit.
        use_gpu: Whether the stage has work for GPUs.

    Raises:
        ClusterShapeError: It does not fit.
    """
    runner = choice.runner
    shape = worker_shape(runner.nodes(), placement or Placement(), use_gpu=use_gpu)
    return replace(shape, runner=runner.name)


def run_stage(
    dataset: Dataset,
    *,
    load: Load | None,
    factory: Callable[[WorkerShape], MakerFactory],
    choice: Choice,
    placement: Placement | None = None,
    use_gpu: bool = True,
    numerics_mode: str,
    max_reject_fraction: float | None,
    redo_rejects: Sequence[str] = (),
    strict: bool = False,
) -> StageReport:
    """Do what a dataset lacks, and make anew what was asked for; see ``_run_stage``.

    Args:
        dataset: The dataset being written.
        load: See ``Runner.units``.
        factory: Gives what builds a maker, for the shape that the stage has.
        choice: The runner.
        placement: How the stage wants to lie on it.
        use_gpu: Whether the stage has work for GPUs.
        numerics_mode: See ``Runner.units``.
        max_reject_fraction: Share of the input's utterances that may be rejected; None: all may be.
        redo_rejects: Reasons of rejects; units that hold such are made again.
        strict: Whether to stop at the first unit of which something is passed over.

    Raises:
        ManifestError: Something is passed over, and ``strict`` is set; what is done stays.
        TooManyRejectsError: More were rejected; what is done stays.
    """
    run = partial(
        _run_stage,
        dataset,
        load=load,
        factory=factory,
        choice=choice,
        placement=placement,
        use_gpu=use_gpu,
        numerics_mode=numerics_mode,
        max_reject_fraction=max_reject_fraction,
        strict=strict,
    )
    if not redo_rejects:
        return run()
    if dataset.pending():
        going_on = goes_on(dataset, redo_rejects)
        report = run()
        if going_on:
            return report
    reopen(dataset, redo_rejects)
    return run()


def _run_stage(
    dataset: Dataset,
    *,
    load: Load | None,
    factory: Callable[[WorkerShape], MakerFactory],
    choice: Choice,
    placement: Placement | None,
    use_gpu: bool,
    numerics_mode: str,
    max_reject_fraction: float | None,
    strict: bool,
) -> StageReport:
    """Do what a dataset lacks, show progress, finish it and report. Where nothing is lacking, no runner is chosen.

    Raises:
        ManifestError: Something is passed over, and ``strict`` is set; what is done stays.
        TooManyRejectsError: More were rejected; what is done stays.
    """
    start = status(dataset)
    if strict:
        PassedOver.of(start.passed_over).refuse(dataset.uri)
    tally = Tally(start)
    pending = dataset.pending()
    workers = ""
    meter: Meter = SILENT
    if pending:
        shape = stage_shape(choice, placement, use_gpu=use_gpu)
        workers, meter = str(shape), choice.runner.meter()
        logger.info("%s: %d of %d units to do; %s", dataset.plan.kind, len(pending), start.units, shape)
    with unless_finished(dataset), Progress(tally) as progress, StageWatch(tally, pending, meter) as watch:
        if pending:
            units = choice.runner.units(
                dataset, pending, load=load, factory=factory(shape), shape=shape, numerics_mode=numerics_mode
            )
            for done in units:
                tally.add(done)
                watch.committed(done)
                progress.show()
                if strict:
                    PassedOver.of(done.commit.notes.get(NOTE, {})).refuse(f"{done.commit.unit} of {dataset.uri}")
                faults.point("driver_after_commit", done.commit.unit)
    account = Account.of(dataset)
    end = account.status()
    PassedOver.of(end.passed_over).log(logger, dataset.uri)
    if max_reject_fraction is not None:
        check_rejects(end, max_reject_fraction)
    report = tally.report(end, workers=workers, dataset_sha256=finish(dataset, account=account))
    whole = report.units_done_now == report.units
    return replace(report, predicted_seconds=recorded_estimate(dataset.store) if whole else None)
