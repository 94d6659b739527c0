"""What a study will cost, before it starts: trials and passes counted from its plan, arithmetic from its networks.

Hours and lengths come from manifests that are there, and from what the study expects of the others. Where trials of
the study have been run, what is left of it is told by them too. Writes nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.audio.loading import Manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.store.storage import open_store
from pipeline.study.costing.costing import Fits, Passes, StudyCost, Trials, remaining, study_cost
from pipeline.study.costing.encoders import EncoderShape, encoder_shape
from pipeline.study.costing.flops import step_flops
from pipeline.study.costing.shapes import StepCost, TokenShape
from pipeline.study.planning.cells import Cell
from pipeline.study.planning.parts import Parts
from pipeline.study.planning.trials import Trial, plan_trials, unlike
from pipeline.study.ran import read_ran
from pipeline.study.settings import RunStudyConfig
from pipeline.study.stage import at_once, read_named, trials_to_run
from pipeline.study.table import VOCODER, Study
from pipeline.study.taking import take
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.vocoder.training.settings import TrainVocoderConfig
from pipeline.work.choice import Choice

ITERATIONS = 100
"""Of K-means, that an estimate counts."""


@dataclass(frozen=True, kw_only=True)
class StudyEstimate:
    """What a study will cost.

    Attributes:
        stage: ``estimate``.
        output: The folder that it will write.
        trials: Of each task.
        parts: That trials share, by kind.
        cost: On paper.
        left: Trials of each task that are not done.
        left_seconds: That those take, by the ones that are; None where a task has none yet.
    """

    stage: str
    output: str
    trials: Mapping[str, int]
    parts: Mapping[str, int]
    cost: StudyCost
    left: Mapping[str, int]
    left_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Give the estimate as plain JSON values."""
        return {**asdict(self), "cost": self.cost.to_json()}

    def lines(self) -> list[tuple[str, str]]:
        """Give the estimate as label and value pairs."""
        listed = ", ".join(f"{task} {count}" for task, count in self.trials.items())
        lines = [("trials", f"{sum(self.trials.values()):,}: {listed}")]
        lines.append(("made once", ", ".join(f"{count} {kind}" for kind, count in self.parts.items())))
        lines += self.cost.lines()
        if self.left_seconds is not None:
            told = f"{sum(self.left.values()):,} trials, {self.left_seconds / 3600:.1f} h, by those that are done"
            lines.append(("left", told))
        return lines


def estimate_study(config: RunStudyConfig) -> StudyEstimate:
    """Say what a study will cost, and what is left of one that was begun.

    Raises:
        SettingsError: The study is wrong, or does not say how large a corpus is.
    """
    config = config.located()
    _, study = read_named(config.study)
    planned, parts = plan_trials(study, config)
    trials = unlike(planned)
    sizes = _Sizes(study, parts)
    cost = study_cost(
        passes=list(_passes(study, parts, sizes)),
        fits=list(_fits(study, parts, sizes)),
        trials=list(_trials(trials, sizes)),
        assumptions=config.assuming,
    )
    here = {trial.key: ran for trial in trials if (ran := read_ran(open_store(trial.folder))) is not None}
    taken = take(config.results_from, [trial for trial in trials if trial.key not in here], config.output)
    left = Counter(trial.cell.task.name for trial in trials_to_run(trials, (), here, taken.found))
    done = {**here, **taken.ran}
    seconds: dict[str, list[float]] = {}
    for trial in trials:
        if trial.key in done:
            seconds.setdefault(trial.cell.task.name, []).append(done[trial.key].seconds)
    measured = {task: sum(each) / len(each) for task, each in seconds.items()}
    told = bool(done) and set(left) <= set(measured)
    return StudyEstimate(
        stage="estimate",
        output=config.output,
        trials=dict(Counter(trial.cell.task.name for trial in trials)),
        parts=dict(Counter(part.kind for part in parts.all())),
        cost=cost,
        left=dict(left),
        left_seconds=remaining(measured, left, _at_once(config)) if told else None,
    )


def _at_once(config: RunStudyConfig) -> int:
    return config.trials_at_once or at_once(
        Choice("here" if config.work.runner == "here" else "ray", 0.0).runner, config
    )


class _Sizes:
    """How large corpora are, and what encoders are like: counted where they are there, else expected."""

    def __init__(self, study: Study, parts: Parts) -> None:
        self._study, self._parts = study, parts
        self._encoders: dict[str, EncoderShape] = {}

    def hours(self, corpus: str) -> float:
        """Give the hours of a corpus."""
        return self._size(corpus)[0]

    def utterance_seconds(self, corpus: str) -> float:
        """Give the mean length of its utterances, seconds."""
        return self._size(corpus)[1]

    def _size(self, name: str) -> tuple[float, float]:
        try:
            manifest = Manifest(self._parts.manifest(name).uri)
            return manifest.seconds / 3600, manifest.seconds / max(1, manifest.num_rows)
        except DatasetError:
            pass
        corpus = self._study.corpora[name]
        if {"hours", "utterance_seconds"} <= set(corpus.expected):
            return float(corpus.expected["hours"]), float(corpus.expected["utterance_seconds"])
        if corpus.of is not None and not corpus.expected:
            return self._size(corpus.of)
        raise SettingsError(
            f"corpora.{name} is not there yet; say expected = {{ hours = ..., utterance_seconds = ... }} in its table"
        )

    def encoder(self, name: str, corpus: str) -> EncoderShape:
        """Give what an encoder computes and gives on a corpus."""
        encoder = self._study.encoders[name]
        if name not in self._encoders:
            like = self._study.encoders[encoder.like] if encoder.like is not None else encoder
            self._encoders[name] = encoder_shape(
                str(like.settings["encoder"]),
                top_layer=max(encoder.settings["layers"]),
                seconds=self.utterance_seconds(corpus),
            )
        return self._encoders[name]


def _passes(study: Study, parts: Parts, sizes: _Sizes) -> Iterator[Passes]:
    for part in parts.all():
        if part.kind == "features":
            corpus, encoder = part.of
            shape, settings = sizes.encoder(encoder, corpus), study.encoders[encoder].settings
            yield Passes(
                corpus=corpus,
                encoder=encoder,
                hours=sizes.hours(corpus),
                encoder_gflop_per_second=shape.gflop_per_second,
                layers=len(settings["layers"]),
                dim=shape.dim,
                frames_per_second=shape.frames_per_second,
                kept=part.config.flat()["sample_frames"],
                dtype=settings.get("dtype", "float32"),
            )


def _fits(study: Study, parts: Parts, sizes: _Sizes) -> Iterator[Fits]:
    sampled = {part.of: part.config.flat()["sample_frames"] for part in parts.all() if part.kind == "features"}
    for part in parts.all():
        if part.kind == "codebooks":
            encoder, *corpora = part.of
            shape = sizes.encoder(encoder, corpora[0])
            frames = 0.0
            for corpus in corpora:
                there = sizes.hours(corpus) * 3600 * shape.frames_per_second
                frames += min(there, sampled[corpus, encoder] or there)
            yield Fits(
                name=part.name,
                frames=int(frames),
                dim=shape.dim,
                num_clusters=part.config.flat()["num_clusters"][0],
                layers=len(study.encoders[encoder].settings["layers"]),
                iterations=ITERATIONS,
            )


def _trials(trials: Sequence[Trial], sizes: _Sizes) -> Iterator[Trials]:
    """Give a row per task of trials that cost the same."""
    same: dict[tuple[str, StepCost, int, float, Any], int] = {}
    for trial in trials:
        settings = trial.training.training
        validations = settings.num_steps // settings.validate_every if settings.validate_every else 0
        hours = validations * trial.training.data.valid_minutes / 60 + _tested(trial.cell, sizes)
        cost = step_flops(_numbered(trial), _shape(trial.cell, sizes))
        # Discriminators are not under autocast.
        dtype = "float32" if trial.cell.task.name == VOCODER else settings.dtype
        row = (trial.cell.task.name, cost, settings.num_steps, hours, dtype)
        same[row] = same.get(row, 0) + 1
    for (task, cost, steps, hours, dtype), count in same.items():
        yield Trials(task=task, count=count, steps=steps, cost=cost, evaluated_hours=hours, dtype=dtype)


def _numbered(trial: Trial) -> TrainTaskConfig | TrainVocoderConfig:
    """Give the settings of a trial with its layers counted from 0: as many other layers cost the same, counted once."""
    count = len(trial.cell.layers)
    changes: dict[str, Any] = {"layers": tuple(range(count))}
    if trial.cell.task.name == "se":
        changes["target_layers"] = changes["layers"]
    if trial.training.fusing.fusion == "single":
        changes["fusion_layer"] = f"layer_{count - 1:02d}"
    return trial.training.but(**changes)


def _tested(cell: Cell, sizes: _Sizes) -> float:
    if "tested_hours" in cell.task.expected:
        return float(cell.task.expected["tested_hours"])
    return sizes.hours(cell.task.test) if cell.task.test is not None else 0.1 * sizes.hours(cell.task.corpus)


def _shape(cell: Cell, sizes: _Sizes) -> TokenShape:
    encoder = sizes.encoder(cell.tokens.encoder, cell.task.corpus)
    vocabulary = cell.task.expected.get("vocabulary", 0)
    if not vocabulary and cell.task.name in ("asr", "sid", "er", "tts"):
        raise SettingsError(
            f"tasks.{cell.task.name}: say expected = {{ vocabulary = ... }}, its symbols or classes, for an estimate"
        )
    return TokenShape(
        layers=tuple(range(len(cell.layers))),
        num_clusters=cell.tokens.num_clusters,
        dim=encoder.dim,
        vocabulary=int(vocabulary),
        utterance_seconds=sizes.utterance_seconds(cell.task.corpus),
        hop_length=round(16_000 / encoder.frames_per_second),
    )
