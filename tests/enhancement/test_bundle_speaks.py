"""A tokenizer's folder with a vocoder and a text to speech: texts to speech, as the job says them."""

import numpy as np
import pytest
import soundfile
from made_mixtures import write_clean
from made_tasks import SMALL, SMALL_TTS
from made_tokenizer import HOP, RATE, shipped_books, write_loud_vocoder, write_tokenizer

from pipeline.audio.flac import sixteen_bits
from pipeline.bundle import Bundle
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.features.encoders.shipped import LAYERS
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.stage import speak
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task
from pipeline.tasks.tts.settings import GenerationSettings
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus with its tokens, and a tokenizer's folder with a vocoder and a text to speech of them in it."""
    root = tmp_path_factory.mktemp("speaking_bundle")
    manifest = write_clean(root / "speech")
    encoder = {"encoder": "encoder-small", "codebooks": "encoder-small", "layers": LAYERS, "num_clusters": 100}
    encoder |= {"normalize_waveform": False, "runner": "here"}  # as the folder of `write_tokenizer`
    tokenize_corpus(TokenizeCorpusConfig.of(manifest=manifest, output=f"{root}/tokens", **encoder))
    write_tokenizer(root / "tokenizer", shipped_books())
    write_loud_vocoder(root / "tokenizer" / "vocoder", shipped_books())
    train(root, root / "tokenizer" / "tts")
    return root


def train(root, output, **changes):
    """Train so that it stops soon: the frame that is the last weighs as much as all others by far."""
    data = {"manifest": f"{root}/speech/manifest", "tokens": f"{root}/tokens", "train_splits": ("train", "test")}
    little = {"num_steps": 12, "lr": 1e-2, "validate_every": 0, "valid_fraction": 0.0, "test_splits": ()}
    little |= {"stop_positive": 100.0, "test_fraction": 0.0}
    train_task(
        TrainTaskConfig.of(task="tts", output=str(output), **{**SMALL, **SMALL_TTS, **data, **little, **changes})
    )


@pytest.fixture(scope="module")
def bundle(root):
    return Bundle.from_pretrained(str(root / "tokenizer"))


def test_a_text_is_spoken_as_the_job_speaks_it(root, bundle, tmp_path):
    tokens = bundle.write("words 1")
    assert {layer: ids.dtype for layer, ids in tokens.items()} == dict.fromkeys(LAYERS, np.dtype(np.uint16))
    assert len(tokens[2]) > 1
    waveform = bundle.speak("words 1")
    assert waveform.shape == (HOP * len(tokens[2]),)
    assert np.array_equal(waveform, bundle.tokenizer.decode(tokens))
    six = bundle.speak("words 1", layers=(6,))
    assert np.array_equal(six, bundle.tokenizer.decode(tokens, layers=(6,)))
    given = {"text": "words 1", "bundle": str(root / "tokenizer")}
    speak(SpeakConfig.of(**given, output=str(tmp_path / "out.wav")))
    found, rate = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert rate == RATE
    assert np.abs(found.astype(int) - sixteen_bits(waveform).samples).max() <= 1


def test_what_cannot_be_spoken_is_one_sentence(root, bundle, tmp_path):
    refused = [
        ({"text": " "}, "the text cannot be spoken: the text has no character"),
        ({"text": "words 7 Z"}, "the text cannot be spoken: the text has characters that the tts never learned: "),
        ({"text": "words 1", "speaker": "s0"}, "this vocoder has one voice; give no speaker"),
    ]
    for given, message in refused:
        with pytest.raises(SettingsError, match=message) as told:
            bundle.speak(**given)
        assert "\n" not in str(told.value)
    train(root, tmp_path / "endless", stop_positive=1e-3)
    given = {"tts": str(tmp_path / "endless"), "generation": GenerationSettings(max_seconds=0.5)}
    with pytest.raises(SettingsError, match=r"did not stop within 0\.5 s; --max-seconds allows more"):
        Bundle.from_pretrained(str(root / "tokenizer"), **given).speak("words 1")


def test_a_tts_that_tells_speakers_apart_is_told_who_speaks(root, tmp_path):
    train(root, tmp_path / "tts", speaker_input="table")
    several = Bundle.from_pretrained(str(root / "tokenizer"), tts=str(tmp_path / "tts"))
    with pytest.raises(SettingsError, match="no speaker is named, and the tts knows s0, s1, s2"):
        several.speak("words 1")
    with pytest.raises(SettingsError, match="the speaker bob is named, and the tts knows s0, s1, s2"):
        several.speak("words 1", speaker="bob")
    spoken = several.speak("words 1", speaker="s1")
    assert np.array_equal(spoken, several.tokenizer.decode(several.write("words 1", speaker="s1")))


def test_a_tts_of_other_codebooks_or_of_another_task_is_refused(root, tmp_path):
    with pytest.raises(CodebookMismatchError, match="K of layer_02 100 there, 500 here"):
        Bundle.from_pretrained("encoder-small", tts=f"{root}/tokenizer/tts")
    with pytest.raises(SettingsError, match="enhancement needs one of the task se"):
        Bundle.from_pretrained(str(root / "tokenizer"), enhancement=f"{root}/tokenizer/tts")
    write_tokenizer(tmp_path / "tokenizer", shipped_books())
    plain = Bundle.from_pretrained(str(tmp_path / "tokenizer"))
    with pytest.raises(SettingsError, match="holds no text to speech; train one with `train_task --task tts --output"):
        plain.speak("words 1")
