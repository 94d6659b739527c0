"""A small study of tones: its TOML, the listing that it reads, and trials as plain numbers."""

import json

import numpy as np
import soundfile

from pipeline.study.facts import Result
from pipeline.study.metrics import Part
from pipeline.study.planning.reading import read_study
from pipeline.study.planning.trials import plan_trials
from pipeline.study.settings import RunStudyConfig
from pipeline.study.statistics.assembling import Laid
from pipeline.study.statistics.collecting import Found
from pipeline.study.statistics.comparing import Runs

RATE = 16_000
WORDS = ("lo", "mid", "hi")
ER = """[tasks.er]
corpus = "tones"
test_speakers = ["s2"]
ecapa_channels = 16
ecapa_pooled = 24
ecapa_attention = 8
embedding_width = 12
"""
PLAN = (
    """
name = "tones"
seeds = [0, 1]
kmeans_frames = 2000

[encoders.small]
encoder = "{encoder}"
layers = [1, 3]

[encoders.random]
like = "small"
layers = [1, 3]

[corpora.tones]
corpus = "tones.jsonl"
layout = "listing"

[corpora.test]
corpus = "tones.jsonl"
layout = "listing"
where = "split = 'test'"

[corpora.noise]
corpus = "noise"
layout = "folder"

[corpora.noisy]
mix = "tones"
noises = "noise"

[corpora.noisy_test]
mix = "test"
noises = "noise"
seed = 1

[centre]
encoder = "small"
layers = [1, 3]
num_clusters = 8
codebooks_of = ["own"]
embedding_init = "random"
embedding_dim = 16

[tasks.vocoder]
corpus = "tones"
preset = "vocoder_small"
convnext_dim = 16
convnext_hidden = 32
convnext_blocks = 1
num_steps = 2
warmup_steps = 1
validate_every = 2
crop_seconds = 0.4
valid_fraction = 0.2
test_fraction = 0.2
discriminators_from = 2
weights_dtype = "float32"
judging = {{ layer_sets = ["all", "each"], judges = ["log_mel", "stft"], num_utterances = 3 }}

[tasks.asr]
corpus = "tones"
lstm_layers = 1
lstm_width = 16
num_steps = 2
warmup_steps = 1
validate_every = 2

"""
    + ER
    + """num_steps = 2
warmup_steps = 1
validate_every = 2

[tasks.se]
corpus = "noisy"
test = "noisy_test"
metric = "cer"
conformer_layers = 1
conformer_width = 16
conformer_heads = 2
conformer_ffn = 32
num_steps = 2
warmup_steps = 1
validate_every = 2

[tasks.tts]
corpus = "tones"
test = "test"
metric = "cer"
text_layers = 1
token_layers = 1
tts_width = 16
tts_heads = 2
tts_ffn = 32
num_steps = 2
warmup_steps = 1
validate_every = 2

[factors.layers]
tasks = ["vocoder", "asr", "se", "tts"]
levels.low = {{ layers = [1] }}
levels.all = {{ layers = [1, 3] }}

[factors.num_clusters]
tasks = ["asr"]
levels.4 = {{ num_clusters = 4 }}
levels.8 = {{ num_clusters = 8 }}
"""
)


SHORT = (
    """
name = "short"
seeds = [0, 1]

[encoders.small]
encoder = "{encoder}"
layers = [1, 3]

[corpora.tones]
corpus = "tones.jsonl"
layout = "listing"

[centre]
encoder = "small"
layers = [1, 3]
num_clusters = 8
codebooks_of = ["own"]
embedding_dim = 16

"""
    + ER
    + """num_steps = 4
warmup_steps = 1
validate_every = 2
checkpoint_every = 1

[factors.num_clusters]
levels.4 = {{ num_clusters = 4 }}
levels.8 = {{ num_clusters = 8 }}
"""
)
"""One task, two cells, four trials."""


def write_tones(folder, count=24):
    """Write utterances of three tones with words, two emotions and a split, and a noise."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, lines = np.random.default_rng(3), []
    for number in range(count):
        said = [int(each) for each in chance.integers(3, size=3)]
        pitches = np.repeat([[220.0, 440.0, 880.0][each] for each in said], RATE // 3)
        samples = 0.3 * np.sin(2 * np.pi * np.cumsum(pitches) / RATE) + 0.01 * chance.standard_normal(len(pitches))
        soundfile.write(folder / f"u{number:02d}.wav", samples, RATE)
        lines.append({
            "path": f"u{number:02d}.wav", "utterance_id": f"u{number:02d}", "speaker": f"s{number % 3}",
            "text": " ".join(WORDS[each] for each in said), "emotion": "high" if sum(said) > 2 else "low",
            "split": "test" if number % 4 == 3 else "train",
        })  # fmt: skip
    (folder / "tones.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "noise").mkdir(exist_ok=True)
    soundfile.write(folder / "noise" / "n.wav", 0.1 * chance.standard_normal(4 * RATE), RATE)


def config_of(study, folder, **changes):
    """Give the settings of a run of a study file."""
    return RunStudyConfig.of(
        **{"study": str(study), "data": str(folder), "output": str(folder / "study"), "runner": "here", **changes}
    )


def planned(text, output="/study", **changes):
    """Plan a study that is not run; gives the trials and the parts."""
    return plan_trials(read_study(text, "a study"), RunStudyConfig.of(study="x", output=output, **changes))


def runs_of(*seeds, bits=100.0):
    """Make trials of error rates: for each seed the errors of utterances, of ten words each."""
    parts = {
        seed: {f"u{place}": Part(numerator=float(wrong), denominator=10.0) for place, wrong in enumerate(errors)}
        for seed, errors in enumerate(seeds)
    }
    return Runs(trials={seed: f"key{seed}" for seed in parts}, parts=parts, bits_per_second=bits)


def laid_of(text, errors):
    """Lay out a study whose trials made so many errors of ten, by task, level and, for the vocoder, condition.

    Args:
        text: TOML of the study.
        errors: Error of every utterance by ``(task, level)`` or ``(task, level, condition)``; others have five.
    """
    study = read_study(text, "a study")
    trials, _ = planned(text)
    return Laid(study=study, trials=trials, found={trial.key: _found(trial, errors) for trial in trials})


def _found(trial, errors):
    task, level = trial.cell.task.name, trial.cell.level
    layers = tuple(f"layer_{layer:02d}" for layer in trial.cell.layers)
    conditions = ("all", *layers) if task == "vocoder" and len(layers) > 1 else ("all",) if task == "vocoder" else ("",)
    chance = np.random.default_rng(trial.seed)
    parts, results = {}, []
    for condition in conditions:
        mean = errors.get((task, level, condition), errors.get((task, level), 5))
        values = mean + 0.1 * chance.standard_normal(40)
        parts[condition] = {f"u{n}": Part(numerator=float(v), denominator=10.0) for n, v in enumerate(values)}
        results.append(
            Result(
                trial=trial.key, task=task, factor=trial.cell.factor, level=level, seed=trial.seed, condition=condition,
                metric=trial.cell.task.metric, value=float(values.mean() / 10), low=0.0, high=1.0, utterances=40,
                encoder=trial.cell.tokens.encoder, layers=trial.cell.layers, num_clusters=8, codebooks_of=("tones",),
                bits_per_second=150.0 * len(layers), seconds=60.0, overhead_seconds=2.0, starts=1,
                layer_use=tuple(1 / len(layers) for _ in layers), folder="trials", command="python",
            )
        )  # fmt: skip
    return Found(results=tuple(results), parts=parts)
