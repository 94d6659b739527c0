"""What a study found, as plain data: what the statistics give and the report shows. Nothing here computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.metrics.uncertainty import Interval, OverSeeds

SEEDS = "seeds"
"""What is called what the factors leave of the variance of trials."""
Better = Literal["level", "centre"]
Verdict = Literal["held", "not held", "not decidable"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A metric of a trial: a row of ``results.parquet``.

    Attributes:
        trial: Key of the trial.
        task: Of ``table.TASKS``.
        factor: That is changed; "" for the centre.
        level: Of the factor; "centre" for the centre.
        seed: Of the training.
        condition: For the vocoder: the set of layers that is spoken; "" for other tasks.
        metric: A name of ``metrics.METRICS``.
        value: On all test utterances.
        low: Lower end of the 95 % bootstrap interval over utterances, of this trial alone.
        high: Upper end.
        utterances: N.
        encoder: A name of the study's encoders.
        layers: That were used.
        num_clusters: K.
        codebooks_of: Corpora of K-means.
        bits_per_second: Of the tokens that were used: frame rate times log2 K of each layer.
        seconds: That the trial took, training and evaluation.
        overhead_seconds: From the start of the trial to its first step.
        starts: How often it was begun.
        layer_use: Mean weight of each of its layers on the test, in their order; none where the fusion has no weights.
        folder: Of the trial, within the study's.
        command: That trains it again, from the project's root.
    """

    trial: str
    task: str
    factor: str
    level: str
    seed: int
    condition: str
    metric: str
    value: float
    low: float
    high: float
    utterances: int
    encoder: str
    layers: tuple[int, ...]
    num_clusters: int
    codebooks_of: tuple[str, ...]
    bits_per_second: float
    seconds: float
    overhead_seconds: float
    starts: int
    layer_use: tuple[float, ...]
    folder: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level of a factor on one task: its figure over seeds, and what it differs from the centre by.

    Attributes:
        task: Which.
        factor: Which.
        level: Which.
        metric: By which it is judged.
        figure: Over seeds.
        difference: The level less the centre, of the same seeds and utterances, with its 95 % interval; None for the
            centre itself.
        better: Which of the two is better, where the interval does not hold 0; None where nothing can be said.
        bits_per_second: Of its tokens.
        trials: Keys of its trials, by seed.
    """

    task: str
    factor: str
    level: str
    metric: str
    figure: OverSeeds
    difference: Interval | None
    better: Better | None
    bits_per_second: float
    trials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of the variance of a task's trials a factor explains.

    Attributes:
        task: Which.
        factor: Which; ``SEEDS`` for what the factors leave.
        share: From 0 to 1; all shares of a task sum up to 1.
    """

    task: str
    factor: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A comparison that a claim rests on.

    Attributes:
        text: What is compared, as "asr, wer: all less the best single layer (high)".
        difference: With its 95 % interval.
        speaks: Whether it speaks for the claim (True), against it (False), or says nothing (None).
    """

    text: str
    difference: Interval
    speaks: bool | None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, tried on this study.

    Attributes:
        text: The claim.
        verdict: By rule: held where every comparison speaks for it or says nothing and at least one speaks; not held
            where one speaks against it and none for it; not decidable otherwise.
        evidence: What it rests on; none where the study does not ask.
        why: One sentence.
    """

    text: str
    verdict: Verdict
    evidence: tuple[Evidence, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class LayerUse:
    """Mean weight of each layer in the centre of a task, over seeds.

    Attributes:
        task: Which.
        layers: Names of the layers (L), as layer_02.
        weights: Of each (L).
    """

    task: str
    layers: tuple[str, ...]
    weights: tuple[OverSeeds, ...]


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A vocoder on a set of layers: one trained on several layers, or one trained on these alone.

    Attributes:
        vocoder: The level of its training.
        condition: The set of layers that it speaks.
        metric: A name of ``metrics.METRICS``.
        figure: Over seeds.
    """

    vocoder: str
    condition: str
    metric: str
    figure: OverSeeds


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a kind of work took.

    Attributes:
        what: As "encoder passes" or "trials of asr".
        count: How many.
        seconds: All together, of one worker.
        audio_hours: That went through; 0 where it does not apply.
        bytes: That lie on the disk.
    """

    what: str
    count: int
    seconds: float
    audio_hours: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that failed.

    Attributes:
        trial: Its key.
        name: As "asr, K = 500, seed 1".
        why: What it raised.
    """

    trial: str
    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """All that a report shows.

    Attributes:
        name: Of the study.
        seeds: Of its trainings.
        centre: Its settings, as text.
        factors: Levels of each factor, in order.
        tasks: Each task's metric, in order.
        results: Rows of ``results.parquet``.
        levels: Every level of every factor on every task.
        shares: Of the variance.
        claims: Of the paper.
        findings: Sentences that the numbers give by rule.
        layer_use: Of the tasks at the centre.
        spoken: Of the vocoders.
        costs: Of shared parts and trials.
        failures: Trials that failed.
        told: Label and value pairs that the head of the report shows, as the wall time and what of it was resumed.
    """

    name: str
    seeds: tuple[int, ...]
    centre: Mapping[str, str]
    factors: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, str]
    results: Sequence[Result]
    levels: Sequence[Level]
    shares: Sequence[Share]
    claims: Sequence[Claim]
    findings: Sequence[str]
    layer_use: Sequence[LayerUse]
    spoken: Sequence[Spoken]
    costs: Sequence[Cost]
    failures: Sequence[Failure] = ()
    told: Sequence[tuple[str, str]] = field(default=())
