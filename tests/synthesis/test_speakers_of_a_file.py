"""Tokenizer and `synthesize --file` with a vocoder that takes vectors: a vector, a name, a reference, its own voice."""

import numpy as np
import pytest
import soundfile
import soxr
from made_speakers import HERTZ, speaker_encoder, write_other_encoder
from made_tokenizer import shipped_books, spoken_file, write_loud_vocoder, write_tokenizer
from made_voices import RATE, voice

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import SettingsError
from pipeline.metrics.speech.speaker import SpeakerEncoder
from pipeline.tokenizer import Tokenizer


def said_by(who, seconds=2.0):
    return voice(seconds, hertz=HERTZ[who], seed=3)


@pytest.fixture(scope="module")
def vectors():
    speaker_encoder()
    encode = SpeakerEncoder()
    return {who: encode(said_by(who)) for who in HERTZ}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, vectors):
    """A tokenizer's folder, whose vocoder takes vectors and knows ann by name."""
    root = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    write_tokenizer(root, shipped_books())
    known = {"voices": {"ann": vectors["ann"]}, "speaker_encoder": speaker_encoder()}
    write_loud_vocoder(root / "vocoder", shipped_books(), speaker_input="vector", **known)
    for who in HERTZ:
        soundfile.write(root.parent / f"{who}.wav", said_by(who), RATE, subtype="FLOAT")
    soundfile.write(root.parent / "silent.wav", np.zeros(RATE, np.float32), RATE)
    return root


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_pretrained(str(folder))


def test_the_vector_of_a_recording_is_its_embedding_at_any_rate_and_of_any_width(tokenizer, vectors):
    waveform = said_by("bob")
    assert np.array_equal(tokenizer.speaker_vector(waveform, RATE), vectors["bob"])
    assert np.array_equal(tokenizer.speaker_vector(waveform.astype(np.float64), RATE), vectors["bob"])
    assert tokenizer.speaker_vector((waveform * 32767).astype(np.int16), RATE) @ vectors["bob"] > 0.999
    faster = soxr.resample(waveform, RATE, 44_100, quality="HQ")
    assert tokenizer.speaker_vector(faster, 44_100) @ vectors["bob"] > 0.99
    assert not tokenizer.speaker_vector(np.zeros(RATE), RATE).any()
    for waveform, error in (
        (np.zeros((2, 9)), ValueError),
        (np.full(9, np.nan), ValueError),
        (np.zeros(9, int), TypeError),
    ):
        with pytest.raises(error):
            tokenizer.speaker_vector(waveform, RATE)


def test_a_name_speaks_as_its_mean_vector_and_each_vector_otherwise(tokenizer, vectors):
    tokens = tokenizer.encode(said_by("bob"), RATE)
    ann = tokenizer.decode(tokens, speaker="ann")
    assert np.array_equal(tokenizer.decode(tokens, speaker=vectors["ann"]), ann)
    assert not np.allclose(tokenizer.decode(tokens, speaker=vectors["bob"]), ann, atol=1e-4)
    for speaker, what in (
        (None, "no speaker"),
        ("eve", "the speaker eve"),
        (np.zeros(7), r"a speaker of shape \(7,\)"),
    ):
        with pytest.raises(SettingsError, match=rf"given {what}; give a vector \(S,\) of width 256") as told:
            tokenizer.decode(tokens, speaker=speaker)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "who"), [({}, "bob"), ({"speaker": "ann"}, "ann"), ({"speaker_reference": "ann.wav"}, "ann")], ids=str
)
def test_a_file_is_spoken_in_its_own_voice_or_in_that_which_is_asked_for(
    folder, tokenizer, vectors, tmp_path, settings, who
):
    if "speaker_reference" in settings:
        settings = {"speaker_reference": str(folder.parent / settings["speaker_reference"])}
    spoken_file(folder, folder.parent / "bob.wav", tmp_path / "out.wav", **settings)
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    expected = tokenizer.decode(tokenizer.encode(said_by("bob"), RATE), speaker=vectors[who])
    assert np.array_equal(samples, sixteen_bits(expected).samples)


def test_a_silent_file_is_spoken_by_nobody_and_a_silent_reference_is_refused(folder, tmp_path):
    silent = str(folder.parent / "silent.wav")
    spoken_file(folder, silent, tmp_path / "out.wav")
    assert (tmp_path / "out.wav").exists()
    with pytest.raises(SettingsError, match=r"silent\.wav is silent and says nothing of a speaker"):
        spoken_file(folder, folder.parent / "bob.wav", tmp_path / "no.wav", speaker_reference=silent)
    assert not (tmp_path / "no.wav").exists()


def test_a_vector_is_refused_where_the_vocoder_takes_none_or_those_of_another_encoder(folder, tmp_path, monkeypatch):
    write_loud_vocoder(tmp_path / "plain", shipped_books())
    plain = Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "plain"))
    with pytest.raises(SettingsError, match="takes no vectors as speakers"):
        plain.speaker_vector(said_by("ann"), RATE)
    settings = {"vocoder": str(tmp_path / "plain"), "speaker_reference": str(folder.parent / "ann.wav")}
    with pytest.raises(SettingsError, match="has one voice; leave --speaker-reference away"):
        spoken_file(folder, folder.parent / "bob.wav", tmp_path / "out.wav", **settings)
    monkeypatch.syspath_prepend(str(write_other_encoder(tmp_path / "other")))
    fresh = Tokenizer.from_pretrained(str(folder))
    for call in (
        lambda: fresh.speaker_vector(said_by("ann"), RATE),
        lambda: spoken_file(folder, folder.parent / "bob.wav", tmp_path / "out.wav"),
    ):
        with pytest.raises(SettingsError, match=r"takes speaker vectors of resemblyzer .* resemblyzer 0\.1\.9") as told:
            call()
        assert "\n" not in str(told.value)
    assert not (tmp_path / "out.wav").exists()
