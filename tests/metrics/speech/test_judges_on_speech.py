"""What judges say of real speech: of originals, of noise, of Griffin-Lim, of another voice."""

import numpy as np
import pytest
import soundfile
from made_voices import pair, with_noise

from pipeline.metrics.speech.griffin_lim import griffin_lim
from pipeline.metrics.speech.judging import judge_pairs
from pipeline.metrics.speech.registry import JUDGES, make_judges
from pipeline.metrics.speech.summary import summarize

SENTENCES = ("arctic_b0012", "arctic_b0034", "arctic_b0071")


def corpus(root, voice):
    """Give waveform and text of each sentence of a CMU ARCTIC voice."""
    folder = root / "cmu_arctic" / f"cmu_us_{voice}_arctic"
    if not folder.is_dir():
        pytest.skip("no CMU ARCTIC here; set STRATA_TEST_DATA")
    lines = (folder / "etc/txt.done.data").read_text().splitlines()
    texts = {line.split()[1]: line.split('"')[1] for line in lines}
    return {name: (soundfile.read(folder / f"wav/{name}.flac", dtype="float32")[0], texts[name]) for name in texts}


@pytest.fixture(scope="module")
def figures(speech_root):
    """Judge a woman's sentences as they are, in noise, by Griffin-Lim, and with another one in their place."""
    said = corpus(speech_root, "slt")
    pairs = []
    for place, name in enumerate(SENTENCES):
        original, text = said[name]
        other = np.resize(said[SENTENCES[place - 1]][0], len(original))
        made = {"original": original, "griffin_lim": griffin_lim(original), "other": other}
        made["noise"] = with_noise(original, 5)
        pairs += [pair(one, original, text=text, name=name, condition=kind) for kind, one in made.items()]
    judges = make_judges(list(JUDGES))
    rows = list(judge_pairs(pairs, judges))
    assert [row["unjudged"] for row in rows] == [[]] * len(rows)
    return {
        condition: {name: figure.interval.value for name, figure in found.items()}
        for condition, found in summarize(rows, judges, draws=100).items()
    }


def test_originals_are_perfect_understood_and_sound_good(figures):
    found = figures["original"]
    for name in ("stft_distance", "log_mel_distance", "mcd", "f0_rmse", "voicing_error"):
        assert found[name] == 0
    for name in ("f0_correlation", "stoi", "speaker_similarity"):
        assert found[name] == pytest.approx(1, abs=1e-5)
    assert found["wer"] <= 0.06
    assert found["cer"] <= found["wer"]
    assert found["dnsmos_ovrl"] > 3.0


def test_griffin_lim_is_understood_and_is_the_same_voice_and_noise_is_worse(figures):
    griffin, noise = figures["griffin_lim"], figures["noise"]
    assert griffin["wer"] <= 0.1
    assert griffin["speaker_similarity"] > 0.9
    assert griffin["f0_correlation"] > 0.9
    assert griffin["stoi"] > 0.85
    for name in ("log_mel_distance", "mcd", "stft_distance"):
        assert 0 < griffin[name] < noise[name]
    assert noise["dnsmos_ovrl"] < 2.2 < griffin["dnsmos_ovrl"]
    assert noise["wer"] > griffin["wer"]


def test_another_sentence_is_the_floor(figures):
    other = figures["other"]
    assert other["wer"] > 0.8
    assert other["stoi"] < 0.4
    assert abs(other["f0_correlation"]) < 0.6
    assert other["mcd"] > figures["griffin_lim"]["mcd"]


def test_a_man_saying_the_same_is_less_similar_than_the_woman_saying_something_else(speech_root):
    woman, man = corpus(speech_root, "slt"), corpus(speech_root, "bdl")
    judge = make_judges(["speaker"])[0]
    same, different = [], []
    for place, name in enumerate(SENTENCES):
        reference = woman[name][0]
        same.append(judge.score(pair(woman[SENTENCES[place - 1]][0], reference)).values["speaker_similarity"])
        different.append(judge.score(pair(man[name][0], reference)).values["speaker_similarity"])
    assert min(same) > max(different)


@pytest.mark.nightly
def test_a_recogniser_mistakes_a_twenty_fifth_of_the_words_of_a_clear_voice(speech_root):
    said = corpus(speech_root, "slt")
    judges = make_judges(["recogniser"])
    pairs = (pair(said[name][0], text=said[name][1], name=name) for name in sorted(said)[::20])
    found = summarize(list(judge_pairs(pairs, judges)), judges)["c"]
    assert found["wer"].utterances == 45
    assert found["wer"].interval.value == pytest.approx(0.039, abs=0.01)
    assert found["cer"].interval.value == pytest.approx(0.016, abs=0.005)


def test_a_minute_of_speech_is_understood_as_its_sentences_are(speech_root):
    """Given whole, its last words would be heard again and again: a WER of 0.4."""
    said = [each for _, each in sorted(corpus(speech_root, "slt").items())[:20]]
    minute = np.concatenate([waveform for waveform, _ in said])
    assert len(minute) > 55 * 16_000
    (judge,) = make_judges(["recogniser"])
    found = judge.score(pair(minute, text=" ".join(text for _, text in said))).values["wer"]
    assert found.errors / found.length < 0.1
