"""A study that was never run: six tasks, five factors, three seeds, names that are markup."""

import hashlib
from dataclasses import replace

import numpy as np
from made_browser import HARM

from pipeline.metrics.uncertainty import Interval, over_seeds
from pipeline.study.facts import (
    Claim,
    Cost,
    Evidence,
    Failure,
    LayerUse,
    Level,
    Result,
    Share,
    Spoken,
    StudyFacts,
)
from pipeline.study.metrics import METRICS
from pipeline.study.statistics.findings import findings

SEEDS = (0, 1, 2)
LAYERS = (2, 4, 6, 8, 10, 12)
TASKS = {
    "asr": "wer",
    "sid": "accuracy",
    "er": "uar",
    "se": "token_error_rate",
    "tts": "token_error_rate",
    "vocoder": "log_mel_distance",
}
CENTRES = {"asr": 0.21, "sid": 0.86, "er": 0.62, "se": 0.44, "tts": 0.71, "vocoder": 1.12}
# By how much each level is better than the centre, as a share of the centre's figure; the first is the centre.
FACTORS = {
    "layers": {"all": 0.0, "low": -0.11, "high": -0.05, "layer 2": -0.31, "layer 6": -0.12, "layer 12": -0.08},
    "num_clusters": {"500": 0.0, "100": -0.14, "1000": 0.004, "2000": 0.05},
    "embedding": {"random": 0.0, "centroids": 0.001, "frozen centroids": -0.02},
    "codebooks_of": {"own": 0.0, "read speech": -0.004, "own and read speech": 0.06},
    "encoder": {"encoder-small": 0.0, "random weights": -0.4},
}
CENTRE = {
    "encoder": "encoder-small",
    "layers": "2 4 6 8 10 12",
    "num_clusters": "500",
    "codebooks_of": "own",
    "embedding_init": "random",
}
SPOKEN_METRICS = ("log_mel_distance", "dwer", "stoi", "speaker_similarity")
SETS = ("all", "low", "high", "layer 2", "layer 6", "layer 12")


def interval(value, width):
    return Interval(value=value, low=value - width, high=value + width)


def level(
    task="asr",
    factor="layers",
    name="low",
    values=(0.2, 0.21, 0.22),
    difference=None,
    better=None,
    bits=3000.0,
    **changed,
):
    """Make a level of a factor by its figures over seeds."""
    made = Level(
        task=task,
        factor=factor,
        level=name,
        metric=TASKS[task],
        figure=over_seeds(list(values)),
        difference=difference,
        better=better,
        bits_per_second=bits,
        trials=tuple(key(task, factor, name, seed) for seed in range(len(values))),
    )
    return replace(made, **changed)


def key(*named):
    return hashlib.sha256(repr(named).encode()).hexdigest()[:12]


def bits_of(factor, name):
    layers = {"low": 3, "high": 3}.get(name, 1 if name.startswith("layer ") else 6)
    clusters = int(name) if factor == "num_clusters" else 500
    return 50.0 * layers * float(np.log2(clusters))


def study_facts(**changed):
    """Give all that a report shows of a study."""
    chance = np.random.default_rng(7)
    results, levels = [], []
    for task, metric in TASKS.items():
        lower = METRICS[metric].lower_is_better
        centre = chance.normal(CENTRES[task], 0.006, len(SEEDS))
        results += _rows(task, "", "centre", centre, bits_of("", ""))
        for factor, gains in FACTORS.items():
            for number, (name, gain) in enumerate(gains.items()):
                if number == 0:
                    trials = tuple(key(task, "", "centre", seed) for seed in SEEDS)
                    found = level(task, factor, name, centre, bits=bits_of(factor, name), trials=trials)
                    levels.append(found)
                    continue
                change = CENTRES[task] * gain * (-1 if lower else 1) + chance.normal(0, 0.003, len(SEEDS))
                compared = interval(float(change.mean()), 0.012)
                told = compared.low > 0 or compared.high < 0
                better = ("level" if (compared.value < 0) == lower else "centre") if told else None
                bits = bits_of(factor, name)
                levels.append(level(task, factor, name, centre + change, compared, better, bits))
                results += _rows(task, factor, name, centre + change, bits)
    facts = StudyFacts(
        name="small",
        seeds=SEEDS,
        centre=CENTRE,
        factors={factor: tuple(gains) for factor, gains in FACTORS.items()},
        tasks=TASKS,
        results=results,
        levels=levels,
        shares=_shares(),
        claims=_claims(),
        findings=(),
        layer_use=_layer_use(chance),
        spoken=_spoken(chance),
        costs=_costs(),
        failures=(
            Failure(trial=key(HARM), name=f"asr, {HARM}, seed 1", why=f"RuntimeError: {HARM} | ![x](http://x.test/y)"),
            Failure(trial=key("long"), name="er, " + "w" * 150, why="ValueError: loss is not finite"),
        ),
        told=(("wall time", "3.2 h"), ("resumed", "12 trials were there"), ("command", "strata run_study --output o")),
    )
    given = (facts.levels, facts.shares, facts.claims, facts.layer_use, facts.spoken, facts.centre)
    return replace(replace(facts, findings=findings(*given)), **changed)


def _rows(task, factor, name, values, bits):
    conditions = (("layer 2",) if name.startswith("layer") else SETS) if task == "vocoder" else ("",)
    return [
        Result(
            trial=key(task, factor, name, seed),
            task=task,
            factor=factor,
            level=name,
            seed=seed,
            condition=condition,
            metric=metric,
            value=float(value) + 0.05 * number,
            low=float(value) + 0.05 * number - 0.01,
            high=float(value) + 0.05 * number + 0.01,
            utterances=412,
            encoder="encoder-small",
            layers=LAYERS,
            num_clusters=500,
            codebooks_of=("read speech",),
            bits_per_second=bits,
            seconds=95.0 + seed,
            overhead_seconds=4.0,
            starts=1,
            layer_use=(),
            folder=f"trials/{key(task, factor, name, seed)}",
            command=f"strata train_task --preset {task}_small --layers {' '.join(map(str, LAYERS))} --seed {seed} "
            f"--tokens parts/tokens/{key('tokens', task)} --manifest parts/manifests/{key(task)} --output out | `tee`",
        )
        for number, condition in enumerate(conditions)
        for metric in ({"asr": ("wer", "cer")}.get(task, (TASKS[task],)))
        for seed, value in zip(SEEDS, values, strict=True)
    ]


def _shares():
    parts = {"layers": 0.52, "num_clusters": 0.2, "embedding": 0.02, "codebooks_of": 0.04, "encoder": 0.15}
    parts["seeds"] = 0.07
    return [Share(task=task, factor=factor, share=share) for task in TASKS for factor, share in parts.items()]


def _claims():
    held = Evidence(text="asr, wer: all less layer 6", difference=interval(-0.025, 0.012), speaks=True)
    against = Evidence(text="er, uar: K 2000 less K 500", difference=interval(0.031, 0.012), speaks=False)
    nothing = Evidence(text="se: read speech less own", difference=interval(0.002, 0.012), speaks=None)
    return [
        Claim(
            text="Several layers together are better than the best single layer.",
            verdict="held",
            evidence=(held, nothing),
            why="1 of 2 comparisons speaks for it, none against it.",
        ),
        Claim(
            text="More clusters do not help emotion.",
            verdict="not held",
            evidence=(against,),
            why="1 of 1 comparisons speaks against it.",
        ),
        Claim(
            text="Codebooks of another domain do as well.",
            verdict="not decidable",
            evidence=(),
            why="The study does not ask.",
        ),
    ]


def _layer_use(chance):
    found = []
    for place, task in enumerate(TASKS):
        shares = chance.dirichlet(np.full(len(LAYERS), 4.0)) + 0.3 * (np.arange(len(LAYERS)) == place % len(LAYERS))
        drawn = np.abs(shares[:, None] / shares.sum() + chance.normal(0, 0.008, (len(LAYERS), len(SEEDS))))
        weights = tuple(over_seeds(list(map(float, row))) for row in drawn)
        found.append(LayerUse(task=task, layers=tuple(f"layer_{layer:02d}" for layer in LAYERS), weights=weights))
    return found


def _spoken(chance):
    found = []
    for metric in SPOKEN_METRICS:
        for number, condition in enumerate(SETS):
            for vocoder in ("all", *([condition] if condition.startswith("layer") else [])):
                values = chance.normal(0.6 + 0.07 * number - 0.05 * (vocoder != "all"), 0.008, len(SEEDS))
                figure = over_seeds(list(map(float, values)))
                found.append(Spoken(vocoder=vocoder, condition=condition, metric=metric, figure=figure))
    return found


def _costs():
    return [
        Cost(what="encoder passes", count=6, seconds=5210.0, audio_hours=11.4, bytes=31_000_000_000),
        Cost(what="codebooks", count=24, seconds=1850.0, audio_hours=0.0, bytes=52_000_000),
        *(Cost(what=f"trials of {task}", count=39, seconds=3800.0, audio_hours=0.0, bytes=9e8) for task in TASKS),
    ]
