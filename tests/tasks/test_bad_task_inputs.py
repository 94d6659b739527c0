"""What train_task cannot learn from, or cannot be judged on: one sentence, and nothing is written."""

import logging
from dataclasses import replace

import pytest
import soundfile
from made_audio import noise
from made_tasks import task_config, write_task_corpus

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.batches.sides import TRAIN
from pipeline.errors import PipelineError, SettingsError
from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.saved import write_fuser
from pipeline.tasks.stage import prepare, train_task


def on(number, **values):
    """Give a change of labels that concerns one utterance alone."""
    count = iter(range(1_000))
    return lambda labels: labels | (values if next(count) == number else {})


def everywhere(**values):
    return lambda labels: labels | values


def of_speaker(speaker, **values):
    return lambda labels: labels | (values if labels["speaker"] == speaker else {})


BAD = {
    "no text": ("asr", everywhere(text=None), {}, "has no text for any of the"),
    "no speaker": ("sid", everywhere(speaker=None), {}, "has no speaker for any of the"),
    "no emotion": ("er", everywhere(emotion=None), {}, "has no emotion for any of the"),
    "one emotion": ("er", everywhere(emotion="low"), {}, r"has one emotion in training \(low\)"),
    "one speaker": ("sid", everywhere(speaker="s0"), {}, r"has one speaker in training \(s0\)"),
    "emotion of the test alone": (
        "er",
        of_speaker("s1", emotion="odd"),
        {},
        "test has emotion odd, which training nev",
    ),
    "speaker of the test alone": (
        "sid",
        on(4, speaker="new"),
        {"valid_fraction": 0.0},
        "test has speaker new, which training n",
    ),
    "characters": ("asr", on(0, text="abz"), {"alphabet": "abcdefgh"}, "outside the alphabet: 'Z' in"),
    "layer": ("er", everywhere(), {"layers": (5,)}, "not layer_05"),
    "layer to fuse": ("er", everywhere(), {"fusion": "single", "fusion_layer": "layer_05"}, "layer_05"),
    "empty emotion": (
        "er",
        on(0, emotion=""),
        {},
        r"has emotion '' \(utterances: 1\), blanks around a label or a word",
    ),
    "nan": ("er", on(0, emotion="nan"), {}, r"has emotion 'nan' \(utterances: 1\), blanks around a label or a word"),
    "blanks alone": (
        "sid",
        on(0, speaker=" "),
        {},
        r"has speaker ' ' \(utterances: 1\), blanks around a label or a word",
    ),
    "blanks": (
        "er",
        of_speaker("s0", emotion=" low"),
        {},
        r"has emotion ' low' \(utterances: 3\), blanks around a label",
    ),
    "speaker with blanks": (
        "er",
        on(0, speaker="s1 "),
        {},
        r"has speaker 's1 ' \(utterances: 1\), blanks around a label",
    ),
    "no test speaker": ("er", everywhere(), {"test_speakers": ("nobody",)}, "has no utterance for test"),
    "no test split": ("asr", everywhere(split="train"), {"test_fraction": 1e-9}, "has no utterance for test"),
    "no label in the test": (
        "er",
        of_speaker("s1", emotion=None),
        {},
        "has no emotion for any of the 3 utterances of t",
    ),
    "no text to speak": ("tts", everywhere(text=None), {}, "has no text for any of the"),
    "texts that are empty": ("tts", everywhere(text=" "), {}, "transcripts are all empty"),
    "characters to speak": ("tts", on(0, text="abz"), {"alphabet": "abcdefgh"}, "outside the alphabet: 'Z' in"),
    "nobody speaks": ("tts", everywhere(speaker=None), {"speaker_input": "table"}, "names no speaker in training"),
    "a stranger speaks": (
        "tts",
        on(4, speaker="new"),
        {"speaker_input": "table", "valid_fraction": 0.0},
        r"test has speaker new, which training never has \(utterances: 1\)",
    ),
    "best by nothing": ("er", everywhere(), {"best_by": "uar"}, "best_by uar is no metric of validation"),
    "other codebooks": (
        "er",
        everywhere(),
        {"embedding_init": "centroids", "codebooks": "encoder-small"},
        "encoder-small lacks the codebooks that the tokens were made with: layer_00",
    ),
}


BAD_SETTINGS = {
    "features": ({"tokens": None, "features": "f"}, "tts writes tokens: give --tokens"),
    "crops": ({"crop_seconds": 1.0}, "crop_seconds is no setting of tts"),
    "pieces to speak": ({"units": "bpe"}, "tts reads characters or phones; units bpe is for asr"),
    "phones of capitals": ({"units": "phones"}, "units phones needs text_normalization lower or none"),
    "a language of no phones": ({"phone_language": "de"}, "phone_language has no effect without units phones"),
    "all frames hidden": ({"hidden_frames": 1.0}, "hidden_frames must be in"),
    "all texts hidden": ({"text_dropout": 1.0}, "text_dropout must be in"),
    "delay": ({"stream_pattern": "delay", "fusion": "single", "fusion_layer": "layer_00"}, "take another fusion"),
    "width": ({"tts_width": 18}, "tts_width must be a multiple of twice tts_heads"),
    "speakers": ({"speaker_input": "vector"}, "speaker_input must be none or table"),
    "order": ({"stream_pattern": "flat"}, "stream_pattern must be parallel or delay"),
    "dropout": ({"target_dropout": 1.0}, r"target_dropout must be in \[0, 1\)"),
    "sigma": ({"guided_sigma": 0.0}, "guided_sigma must be above 0"),
    "task": ({"task": "asr"}, "and the task is asr"),
    "no task": ({"task": "sing"}, "task must be one of asr, sid, er, se, tts"),
}


@pytest.mark.parametrize(("settings", "said"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_of_text_to_speech_that_do_not_fit_are_refused(tmp_path, settings, said):
    with pytest.raises(SettingsError, match=said) as caught:
        task_config(tmp_path, tmp_path / "out", "tts").but(**settings)
    assert "\n" not in str(caught.value)


def test_texts_without_a_character_are_told(tmp_path, caplog):
    write_task_corpus(tmp_path, 12, change=on(0, text=" "))
    with caplog.at_level(logging.WARNING):
        prepare(task_config(tmp_path, tmp_path / "out", "tts", valid_fraction=0.0))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "has 1 texts without a character in training" in told[0]


@pytest.mark.parametrize(("task", "change", "settings", "said"), BAD.values(), ids=BAD)
def test_it_is_refused_in_one_sentence_before_anything_is_written(tmp_path, task, change, settings, said):
    write_task_corpus(tmp_path, 12, change=change)
    with pytest.raises(PipelineError, match=said) as caught:
        train_task(task_config(tmp_path, tmp_path / "out", task, **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_fuser_of_tokens_of_another_k_is_refused_by_name(tmp_path):
    write_task_corpus(tmp_path, 12)
    spec = prepare(task_config(tmp_path, tmp_path / "out", "er")).recipe.fuser
    other = replace(spec, num_clusters=dict.fromkeys(spec.columns, 77))
    write_fuser(str(tmp_path / "fuser"), other, build_fuser(other).state_dict())
    with pytest.raises(PipelineError, match="77") as caught:
        train_task(task_config(tmp_path, tmp_path / "out", "er", fuser=str(tmp_path / "fuser")))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_class_of_one_utterance_is_learned_and_one_sentence_says_that_nothing_judges_it(tmp_path, caplog):
    write_task_corpus(tmp_path, 12, change=on(0, emotion="rare"))
    with caplog.at_level(logging.WARNING):
        prepared = prepare(task_config(tmp_path, tmp_path / "out", "er", valid_fraction=0.0))
    assert prepared.division.facts[TRAIN].values["emotion"].values == ("high", "low", "rare")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].endswith("has a single utterance of emotion rare, which training has: no side judges it")


def test_cells_of_a_listing_that_hold_no_label_are_no_class(tmp_path):
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", noise(4_000, seed=number), 16_000)
    lines = ["uri,speaker,emotion", "0.wav,a,nan", "1.wav,a,", "2.wav,b,low", "3.wav,b,None"]
    (tmp_path / "listing.csv").write_text("\n".join(lines) + "\n")
    made = {"corpus": str(tmp_path / "listing.csv"), "layout": "listing", "output": str(tmp_path / "manifest")}
    report = build_manifest(BuildManifestConfig.of(**made, runner="here"))
    found = [rows["emotion"].to_pylist() for _, rows in Manifest(made["output"]).scan(["emotion"])]
    assert sorted(sum(found, []), key=str) == [None, None, None, "low"]
    assert report.passed_over["spelt_missing"]["count"] == 2
