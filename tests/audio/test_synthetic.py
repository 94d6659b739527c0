"""A synthetic corpus is the same bytes in any order and process, balanced, and opens as a listing."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.audio.synthetic import (
    EMOTIONS,
    MAX_VOICES,
    SAMPLE_RATE,
    SyntheticSpec,
    plan_utterance,
    render,
    write_listing,
    write_utterances,
)
from pipeline.errors import ManifestError, SettingsError
from pipeline.passed_over import PassedOver

PROJECT = Path(__file__).parents[2]
SPEC = SyntheticSpec(num_utterances=4 * MAX_VOICES, num_voices=MAX_VOICES)

needs_espeak = pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="the demo extra is not installed")

OTHER_PROCESS = """
import hashlib, sys
from pipeline.audio.synthetic import *
from pipeline.passed_over import PassedOver
spec = SyntheticSpec(num_utterances=4 * MAX_VOICES, num_voices=MAX_VOICES)
for index in map(int, sys.argv[1:]):
    print(index, hashlib.sha256(render(plan_utterance(spec, index))[0].tobytes()).hexdigest())
"""


def digest(index):
    return hashlib.sha256(render(plan_utterance(SPEC, index))[0].tobytes()).hexdigest()


@needs_espeak
def test_an_utterance_is_the_same_bytes_whatever_was_rendered_before_and_wherever():
    # All 16 voice variants, in several dialects, pitches and emotions.
    indices = [*range(0, 48, 3), *range(1, 4 * MAX_VOICES, 61)]
    forward = {index: digest(index) for index in indices}
    backward = {index: digest(index) for index in reversed(indices)}
    repeated = {index: {digest(index) for _ in range(3)} for index in indices[:4]}
    # Memory that malloc fills with 0xA5 shows what depends on memory never set.
    run = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, *map(str, indices[5:] + indices[:5])],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "MALLOC_PERTURB_": "165"},
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = {int(index): value for index, value in map(str.split, run.stdout.splitlines())}
    assert forward == backward == elsewhere
    assert all(values == {forward[index]} for index, values in repeated.items())
    assert len(set(forward.values())) == len(indices)


@needs_espeak
def test_voices_are_distinct():
    sentence = plan_utterance(SPEC, 0).text
    audio = [render(replace(plan_utterance(SPEC, index), text=sentence))[0].tobytes() for index in range(0, 288, 4)]
    assert len(set(audio)) == len(audio)


@needs_espeak
def test_emotions_are_heard_in_speed_and_loudness():
    spec = SyntheticSpec(num_utterances=48)
    style = {}
    for turn in range(4):
        utterance = replace(plan_utterance(spec, 12 * turn), text="the old baker counts nine red apples")
        samples, _ = render(utterance)
        style[utterance.emotion] = len(samples), np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    assert set(style) == set(EMOTIONS)
    lengths, levels = ({emotion: value[at] for emotion, value in style.items()} for at in (0, 1))
    assert lengths["anger"] < lengths["happiness"] < lengths["neutral"] < lengths["sadness"]
    assert levels["sadness"] < levels["neutral"] < levels["anger"]


def test_a_plan_depends_on_seed_and_index_alone():
    short, long = SyntheticSpec(num_utterances=100), SyntheticSpec(num_utterances=100_000)
    assert [plan_utterance(short, index) for index in range(100)] == [plan_utterance(long, i) for i in range(100)]
    other = SyntheticSpec(num_utterances=100, seed=1)
    assert sum(plan_utterance(short, i).text == plan_utterance(other, i).text for i in range(100)) == 0


def test_sentences_hardly_ever_repeat():
    spec = SyntheticSpec(num_utterances=20_000)
    texts = {plan_utterance(spec, index).text for index in range(20_000)}
    assert len(texts) > 19_980
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz ") for text in texts)
    assert {len(text.split()) for text in texts} <= set(range(7, 15))


@pytest.mark.parametrize("num_voices", [2, 12, 15, MAX_VOICES])
def test_each_speaker_has_each_emotion_in_train_and_test(num_voices):
    rounds = 32
    spec = SyntheticSpec(num_utterances=rounds * num_voices, num_voices=num_voices)
    plan = [plan_utterance(spec, index) for index in range(spec.num_utterances)]
    seen = {(one.speaker, one.emotion, one.split) for one in plan}
    assert len(seen) == num_voices * len(EMOTIONS) * 2
    assert sum(one.split == "test" for one in plan) == len(plan) // 8
    neutral = {(one.voice, one.pitch) for one in plan if one.emotion == "neutral"}
    assert len(neutral) == num_voices


@needs_espeak
def test_written_corpora_open_as_listings_and_are_the_same_bytes_again(tmp_path):
    spec = SyntheticSpec(num_utterances=1_004)
    one, two = tmp_path / "one", tmp_path / "two"
    rows = write_utterances(spec, range(996, 1_004), one)
    listing = write_listing(one, reversed(rows))
    write_listing(two, write_utterances(spec, [1_003, 999], two) + write_utterances(spec, [*range(996, 999)], two))
    found = list(read_corpus(listing, "listing", passed_over=PassedOver()))
    assert [one.utterance_id for one in found] == [row["utterance_id"] for row in rows]
    assert all(one.problem is None and one.text and one.speaker and one.emotion and one.split for one in found)
    assert {one.language for one in found} == {"en"}
    for candidate in found:
        info = soundfile.info(candidate.uri)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert 1.5 <= info.duration <= 6
    again = sorted((two / "audio").rglob("*.wav"))
    assert len(again) == 5
    assert all(path.read_bytes() == (one / path.relative_to(two)).read_bytes() for path in again)


def test_a_missing_espeak_says_what_to_install(monkeypatch):
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ManifestError, match=r"strata-tokens\[demo\]"):
        render(plan_utterance(SPEC, 0))


@needs_espeak
def test_an_unknown_voice_is_named():
    with pytest.raises(ManifestError, match="0000000-voice000 with the voice xx-nowhere"):
        render(replace(plan_utterance(SPEC, 0), voice="xx-nowhere"))


def test_impossible_settings_are_refused():
    with pytest.raises(SettingsError, match="num_utterances"):
        SyntheticSpec(num_utterances=0)
    with pytest.raises(SettingsError, match="num_voices"):
        SyntheticSpec(num_utterances=1, num_voices=MAX_VOICES + 1)
    with pytest.raises(SettingsError, match="index"):
        plan_utterance(SyntheticSpec(num_utterances=3), 3)
