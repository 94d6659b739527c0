"""Trials are named by what their results depend on, and each can be run again by its command."""

import shlex

import pytest
from made_trials import PLAN, planned

from pipeline import cli
from pipeline.study.planning.trials import unlike
from pipeline.tasks.stage import train_task
from pipeline.vocoder.training.stage import train_vocoder

TEXT = PLAN.format(encoder="encoder-small").replace("[1, 3]", "[2, 6]").replace("[1]", "[2]")


def keys(text, **changes):
    trials, parts = planned(text, **changes)
    return {trial.name: trial.key for trial in trials}, {f"{part.kind} {part.name}": part.key for part in parts.all()}


def test_paths_have_no_share_in_a_key():
    assert keys(TEXT) == keys(TEXT, output="/elsewhere", data="/corpora")


def test_a_changed_level_leaves_every_other_trial_and_part_as_it_was():
    (trials, parts), (changed, others) = keys(TEXT), keys(TEXT.replace("num_clusters = 4", "num_clusters = 5"))
    assert {name for name in trials if trials[name] != changed[name]} == {
        f"asr, num_clusters 4, seed {seed}" for seed in (0, 1)
    }
    assert {name: key for name, key in parts.items() if "k4" not in name} == {
        name: key for name, key in others.items() if "k5" not in name
    }


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ('corpus = "noise"\n', 'corpus = "hum"\n', {"vocoder", "asr", "er", "tts"}),
        # What is spoken and heard depends on who speaks and who hears.
        ("lstm_width = 16", "lstm_width = 17", {"vocoder", "er"}),
        ("convnext_dim = 16", "convnext_dim = 24", {"asr", "er"}),
        ("where = \"split = 'test'\"", "where = \"split = 'valid'\"", {"vocoder", "asr", "er"}),
        ("kmeans_frames = 2000", "kmeans_frames = 3000", {"vocoder", "asr", "er", "se", "tts"}),
        ('corpus = "tones.jsonl"', 'corpus = "more.jsonl"', set()),
    ],
)
def test_trials_are_kept_that_do_not_depend_on_a_change(old, new, kept):
    (before, _), (after, _) = keys(TEXT), keys(TEXT.replace(old, new, 1))
    assert {name.split(",")[0] for name in before if before[name] == after[name]} == kept


def test_two_levels_that_ask_for_the_same_are_one_trial():
    twice = (
        TEXT + "\n[factors.again]\ntasks = ['asr']\nlevels.4 = { num_clusters = 4 }\nlevels.8 = { num_clusters = 8 }\n"
    )
    trials, _ = planned(twice)
    assert len(trials) - len(unlike(trials)) == 2
    assert [trial.cell.factor for trial in unlike(trials) if trial.cell.level == "4"] == ["num_clusters"] * 2


def test_the_command_of_a_trial_spells_its_training():
    trials, _ = planned(TEXT)
    for trial in trials:
        words = shlex.split(trial.command("/study"))
        stage = train_vocoder if "train_vocoder" in words[1] else train_task
        assert words[:2] == ["python", f"jobs/{stage.__name__}.py"]
        config = cli.parse(stage, words[2:], "a trial")
        assert config.output == f"again/{trial.key}"
        assert config.but(output=trial.training.output).flat() == {
            name: value.replace("/study", "study", 1) if isinstance(value, str) and name != "output" else value
            for name, value in trial.training.flat().items()
        }


def test_what_is_heard_is_spoken_by_the_vocoder_of_the_same_layers_and_heard_by_the_centre():
    trials, _ = planned(TEXT)
    by_key = {trial.key: trial for trial in trials}
    for trial in trials:
        assert (trial.speech is not None) == (trial.cell.task.name in ("se", "tts"))
        if trial.speech is not None:
            vocoder, listener = (by_key[key] for key in trial.speech.after)
            assert (vocoder.cell.layers, vocoder.seed) == (trial.cell.layers, trial.seed)
            assert (listener.name, listener.cell.layers) == (f"asr, centre, seed {trial.seed}", (2, 6))
            assert trial.speech.say.flat()["vocoder"] == vocoder.training.flat()["output"]


def test_enhancement_is_tested_on_its_own_corpus_with_clean_speech_of_the_same_codebooks():
    trials, parts = planned(TEXT)
    trial = next(trial for trial in trials if trial.name == "se, centre, seed 0")
    uris = {part.name: part.uri for part in parts.all() if part.kind == "tokens"}
    told = trial.evaluation.flat()
    assert told["tokens"] == uris["noisy_test-tones-small-k8"]
    assert told["clean_tokens"] == uris["test-tones-small-k8"]
    assert trial.training.flat()["clean_tokens"] == uris["tones-tones-small-k8"]
    assert told["sides"] == ("all",)
