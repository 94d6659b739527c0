"""STOI and the judges that are networks: equal is best, noise is worse, level is nothing, and what has no figure."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
from made_voices import pair, voice, with_noise

from pipeline.errors import UnjudgedError
from pipeline.metrics.speech.dnsmos import Dnsmos
from pipeline.metrics.speech.intelligibility import Intelligibility
from pipeline.metrics.speech.judge import Pair
from pipeline.metrics.speech.recogniser import WordErrors
from pipeline.metrics.speech.speaker import SpeakerEncoder, SpeakerSimilarity

SECOND = np.zeros(16_000, np.float32)


@pytest.fixture(scope="module")
def judges():
    return {judge.name: judge() for judge in (Dnsmos, Intelligibility, SpeakerSimilarity, WordErrors)}


def reason_of(judge, one):
    with pytest.raises(UnjudgedError) as caught:
        judge.score(one)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(("name", "measure"), [("stoi", "stoi"), ("speaker", "speaker_similarity")])
def test_equal_is_1_at_any_level_and_noise_takes_it_away(judges, name, measure):
    clean, judge = voice(), judges[name]
    assert judge.score(pair(clean)).values[measure] == pytest.approx(1, abs=1e-6)
    assert judge.score(pair(clean / 8, clean)).values[measure] == pytest.approx(1, abs=1e-4)
    noisy = [judge.score(pair(with_noise(clean, decibels), clean)).values[measure] for decibels in (40, 20, 10, 0)]
    assert noisy == sorted(noisy, reverse=True)
    assert noisy[-1] < 0.8


def test_dnsmos_hears_noise_and_no_level(judges):
    clean, judge = voice(), judges["dnsmos"]
    found = judge.score(pair(clean)).values
    assert judge.score(pair(clean / 16)).values == pytest.approx(found, abs=1e-3)
    noisy = [judge.score(pair(with_noise(clean, decibels))).values["dnsmos_bak"] for decibels in (10, 0)]
    assert [found["dnsmos_bak"], *noisy] == sorted([found["dnsmos_bak"], *noisy], reverse=True)


def test_dnsmos_of_a_long_utterance_is_the_mean_of_windows_a_second_apart(judges):
    long = voice(11.2)
    windows = [long[second * 16_000 :][: int(9.01 * 16_000)] for second in (0, 1)]
    # One level for all of it, so each window is judged at its own; the voice is steady enough for two digits.
    parts = [judges["dnsmos"].score(pair(window)).values["dnsmos_ovrl"] for window in windows]
    assert judges["dnsmos"].score(pair(long)).values["dnsmos_ovrl"] == pytest.approx(np.mean(parts), abs=0.02)


def test_another_voice_is_less_similar_than_the_same_one_saying_something_else():
    encode = SpeakerEncoder()
    one, again, other = (encode(voice(4.0, hertz=hertz, seed=seed)) for hertz, seed in ((120, 0), (120, 5), (240, 9)))
    assert one @ again > one @ other
    assert np.linalg.norm(one) == pytest.approx(1)
    assert (one >= 0).all()


@pytest.mark.parametrize(("name", "seconds"), [("stoi", 0.3), ("speaker", 0.9), ("dnsmos", 1.9)])
def test_what_is_too_short_or_silent_has_no_figure(judges, name, seconds):
    short = voice(seconds)
    assert reason_of(judges[name], pair(short)) == "too_short"
    silence = np.zeros(48_000, np.float32)
    assert reason_of(judges[name], pair(silence, voice(3.0))) == "silent"


def test_stoi_of_a_word_between_pauses_is_no_figure(judges):
    word = np.concatenate([SECOND, voice(0.3), SECOND])
    assert reason_of(judges["stoi"], pair(word)) == "too_short"


def test_silence_is_heard_as_nothing_and_every_word_is_lost(judges):
    found = judges["recogniser"].score(pair(2 * SECOND, text="Six words that nobody can hear."))
    assert found.values["dwer"].errors == 0
    assert found.texts == {"hypothesis": ""}
    assert (found.values["wer"].deletions, found.values["wer"].length) == (6, 6)
    assert judges["recogniser"].score(pair(2 * SECOND, text="")).values["wer"].errors == 0


def heard_as(judge, monkeypatch, texts):
    """Let the recogniser hear these texts, by the first sample of a waveform, and count what it listens to."""
    listened = []

    def transcribed(waveform):
        listened.append(float(waveform[0]))
        return texts[float(waveform[0])]

    monkeypatch.setattr(judge._hear, "_transcribed", transcribed)
    monkeypatch.setattr(judge._hear, "_heard", OrderedDict())
    return listened


def test_the_differential_rate_is_against_what_is_heard_in_the_reference(judges, monkeypatch):
    texts = {0.5: "The cat sat on a mat.", 0.25: "the cat sat on the hat"}
    original, made = (np.full(16_000, level, np.float32) for level in texts)
    listened = heard_as(judges["recogniser"], monkeypatch, texts)
    found = judges["recogniser"].score(pair(made, original, text="A cat sat on a mat"))
    assert (found.values["dwer"].errors, found.values["dwer"].length) == (2, 6)
    assert (found.values["wer"].errors, found.values["wer"].length) == (3, 6)
    assert found.texts == {"hypothesis": "the cat sat on the hat"}
    alone = judges["recogniser"].score(pair(original, original, text="A cat sat on a mat"))
    assert (alone.values["dwer"].errors, alone.values["wer"].errors) == (0, 1)
    # A reference stands beside each condition, and is heard once.
    assert listened == [0.5, 0.25]


def test_without_a_transcript_there_is_the_differential_rate_alone_and_without_a_reference_the_other(
    judges, monkeypatch
):
    heard_as(judges["recogniser"], monkeypatch, {0.5: "yes", 0.25: "no"})
    original, made = np.full(16_000, 0.5, np.float32), np.full(16_000, 0.25, np.float32)
    found = judges["recogniser"].score(pair(made, original))
    assert (found.values["dwer"].rate, found.absent) == (1.0, {"wer": "no_text", "cer": "no_text"})
    bare = Pair(utterance_id="u", condition="c", generated=made, text="no")
    found = judges["recogniser"].score(bare)
    assert (found.values["wer"].rate, found.absent) == (0.0, {"dwer": "no_reference"})
    assert reason_of(judges["recogniser"], replace(bare, text=None)) == "no_text"
