"""A tokenizer's folder with vocoder and enhancement: noisy speech to clean speech, and parts that do not belong."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from made_enhancement import TINY
from made_features import make_codebook, write_codebooks
from made_mixtures import mixing, rows_of, speech, write_clean, write_noises
from made_speakers import speaker_encoder
from made_tasks import SMALL
from made_tokenizer import HOP, RATE, shipped_books, write_loud_vocoder, write_tokenizer

from pipeline.audio.flac import sixteen_bits
from pipeline.audio.mixtures.stage import mix_corpus
from pipeline.bundle import Bundle
from pipeline.enhancement.settings import EnhanceConfig
from pipeline.enhancement.stage import enhance
from pipeline.errors import CodebookMismatchError, FeatureError, SettingsError
from pipeline.features.encoders.shipped import LAYERS
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.stage import train_task
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Mixtures, tokens of both sides, and a tokenizer's folder with a vocoder and a task of them in it."""
    root = tmp_path_factory.mktemp("bundle")
    clean, noises = write_clean(root / "speech"), write_noises(root / "noises")
    mix_corpus(mixing(clean, noises, root / "noisy", snrs=(0.0,)))
    tokenize(root, "{}_tokens", "encoder-small", LAYERS)
    write_tokenizer(root / "tokenizer", shipped_books())
    write_loud_vocoder(root / "tokenizer" / "vocoder", shipped_books())
    train(root, root / "tokenizer" / "se")
    return root


def tokenize(root, tokens, codebooks, layers):
    """Make tokens of both sides; not normalised, as in the folder of ``write_tokenizer``."""
    encoder = {"encoder": "encoder-small", "codebooks": str(codebooks), "layers": layers, "num_clusters": 100}
    for manifest, side in ((f"{root}/speech/manifest", "clean"), (f"{root}/noisy/_manifest", "noisy")):
        settings = {"manifest": manifest, "output": f"{root}/{tokens.format(side)}", "normalize_waveform": False}
        tokenize_corpus(TokenizeCorpusConfig.of(**settings, **encoder, runner="here"))


def train(root, output, tokens="{}_tokens", **changes):
    """Train so little that what is said depends on what is heard."""
    data = {"manifest": f"{root}/noisy/_manifest", "tokens": f"{root}/{tokens.format('noisy')}"}
    data |= {"clean_manifest": f"{root}/speech/manifest", "clean_tokens": f"{root}/{tokens.format('clean')}"}
    little = {"num_steps": 1, "warmup_steps": 0, "lr": 1e-9, "validate_every": 0, "valid_fraction": 0.0}
    train_task(TrainTaskConfig.of(task="se", output=str(output), **{**SMALL, **TINY, **data, **little, **changes}))


@pytest.fixture(scope="module")
def bundle(root):
    return Bundle.from_pretrained(str(root / "tokenizer"))


def noisy(root):
    """Give a mixture of the corpus."""
    name, row = next(iter(rows_of(root / "noisy").items()))
    return name, row["samples"].astype(np.float32)


@pytest.mark.parametrize("layers", [(), (6,), (4, 2)])
def test_enhanced_speech_is_the_spoken_clean_tokens_of_the_noisy_recording(root, bundle, layers):
    _, waveform = noisy(root)
    plain = Tokenizer.from_pretrained(str(root / "tokenizer"))
    tokens = plain.encode(waveform, RATE)
    cleaned = bundle.clean(tokens)
    assert {layer: (ids.dtype, ids.shape) for layer, ids in cleaned.items()} == {
        layer: (np.dtype(np.uint16), tokens[layer].shape) for layer in LAYERS
    }
    assert all((cleaned[layer] != tokens[layer]).mean() > 0.3 for layer in LAYERS)
    found = bundle.enhance(waveform, RATE, layers=layers)
    assert found.dtype == np.float32
    assert found.shape == (HOP * len(tokens[2]),)
    expected = plain.decode(cleaned, layers=tuple(layers) or LAYERS)
    assert np.array_equal(found, expected)
    assert not np.allclose(found, plain.decode(tokens, layers=tuple(layers) or LAYERS), atol=1e-3)


def test_a_file_a_corpus_and_the_bundle_say_the_same(root, bundle, tmp_path):
    name, waveform = noisy(root)
    expected = sixteen_bits(bundle.enhance(waveform, RATE)).samples
    soundfile.write(tmp_path / "noisy.wav", waveform, RATE, subtype="PCM_16")
    given = {"file": str(tmp_path / "noisy.wav"), "bundle": str(root / "tokenizer")}
    report = enhance(EnhanceConfig.of(**given, output=str(tmp_path / "clean.wav")))
    assert (report.layers, report.num_frames) == (LAYERS, len(expected) // HOP)
    of_file, rate = soundfile.read(tmp_path / "clean.wav", dtype="int16")
    assert rate == RATE
    assert np.abs(of_file.astype(int) - expected).max() <= 1
    corpus = {"tokens": f"{root}/noisy_tokens", "bundle": str(root / "tokenizer"), "runner": "here"}
    enhance(EnhanceConfig.of(**corpus, output=str(tmp_path / "out")))
    of_corpus = rows_of(tmp_path / "out")[name]["samples"]
    assert np.abs(of_corpus * 32768 - expected).max() <= 4


def test_a_vocoder_that_takes_vectors_speaks_with_the_voice_of_the_noisy_recording_or_another(root, tmp_path):
    _, waveform = noisy(root)
    known = {"voices": {"ann": voice_of(1)}, "speaker_encoder": speaker_encoder()}
    write_loud_vocoder(tmp_path / "voices", shipped_books(), speaker_input="vector", **known)
    bundle = Bundle.from_pretrained(str(root / "tokenizer"), vocoder=str(tmp_path / "voices"))
    cleaned = bundle.clean(bundle.tokenizer.encode(waveform, RATE))
    own = bundle.enhance(waveform, RATE)
    assert np.array_equal(
        own, bundle.tokenizer.decode(cleaned, speaker=bundle.tokenizer.speaker_vector(waveform, RATE))
    )
    for speaker, vector in (("ann", voice_of(1)), (voice_of(2), voice_of(2))):
        other = bundle.enhance(waveform, RATE, speaker=speaker)
        assert np.array_equal(other, bundle.tokenizer.decode(cleaned, speaker=vector))
        assert not np.allclose(other, own, atol=1e-4)


def voice_of(seed):
    """Make a vector of unit length, as the encoder of speakers gives."""
    vector = np.abs(np.random.default_rng(seed).standard_normal(256)).astype(np.float32)
    return vector / np.linalg.norm(vector)


def test_a_file_takes_parts_beside_and_refuses_to_write_over_what_it_reads(root, tmp_path):
    _, waveform = noisy(root)
    soundfile.write(tmp_path / "noisy.wav", waveform, RATE)
    train(root, tmp_path / "one", target_layers=(6,))
    parts = {"tokenizer": str(root / "tokenizer"), "task": str(tmp_path / "one"), "file": str(tmp_path / "noisy.wav")}
    report = enhance(EnhanceConfig.of(**parts, output=str(tmp_path / "clean.flac")))
    assert report.layers == (6,)
    beside = Bundle.from_pretrained(str(root / "tokenizer"), enhancement=str(tmp_path / "one"))
    heard, _ = soundfile.read(tmp_path / "noisy.wav", dtype="float32")
    found, _ = soundfile.read(tmp_path / "clean.flac", dtype="int16")
    assert np.abs(found.astype(int) - sixteen_bits(beside.enhance(heard, RATE)).samples).max() <= 1
    with pytest.raises(SettingsError, match="the tokens have layer_06, not layer_02"):
        enhance(EnhanceConfig.of(**parts, output=str(tmp_path / "no.wav"), layers=(2,)))
    with pytest.raises(SettingsError, match="would replace the recording"):
        enhance(EnhanceConfig.of(**parts, output=str(tmp_path / "noisy.wav")))
    assert not (tmp_path / "no.wav").exists()


def test_another_rate_is_heard_at_the_encoders_and_too_short_a_recording_is_refused(bundle):
    waveform = speech(1.0, 1, rate=44_100).astype(np.float32)
    assert bundle.enhance(waveform, 44_100).shape == (HOP * 49,)
    with pytest.raises(FeatureError, match="cannot be tokenised"):
        bundle.enhance(np.zeros(300, np.float32), RATE)


def test_parts_that_do_not_belong_together_are_refused_by_name(root, tmp_path):
    books = shipped_books()
    moved = replace(books[1], centroids=books[1].centroids + np.float32(0.01))
    write_tokenizer(tmp_path / "moved", [books[0], moved, books[2]])
    write_tokenizer(tmp_path / "fewer", books[1:])
    train(root, tmp_path / "two", layers=(4, 6), target_layers=(2, 6))
    there, here = books[1].sha256[:12], moved.sha256[:12]
    refused = [
        ("moved", f"{root}/tokenizer/se", CodebookMismatchError, f"codebook of layer_04 {there} there, {here} here"),
        ("fewer", f"{root}/tokenizer/se", SettingsError, "the tokenizer lacks layer_02"),
        ("fewer", f"{tmp_path}/two", SettingsError, "says layer_02, layer_06, and the tokenizer lacks layer_02"),
    ]
    for tokenizer, task, error, message in refused:
        with pytest.raises(error, match=message) as told:
            Bundle.from_pretrained(str(tmp_path / tokenizer), enhancement=task)
        assert "\n" not in str(told.value)
    with pytest.raises(CodebookMismatchError, match="K of layer_02 100 there, 500 here"):
        Bundle.from_pretrained("encoder-small", enhancement=f"{root}/tokenizer/se")
    moved = replace(books[0], centroids=books[0].centroids + np.float32(0.01))
    write_tokenizer(tmp_path / "target", [moved, *books[1:]])
    there, here = books[0].sha256[:12], moved.sha256[:12]
    with pytest.raises(CodebookMismatchError, match=f"says other .*codebook of layer_02 {there} there, {here} here"):
        Bundle.from_pretrained(str(tmp_path / "target"), enhancement=f"{tmp_path}/two")


def test_what_is_not_there_is_told_where_it_is_needed(root, tmp_path):
    write_tokenizer(tmp_path / "tokenizer", shipped_books())
    plain = Bundle.from_pretrained(str(tmp_path / "tokenizer"))
    waveform = np.zeros(RATE, np.float32)
    with pytest.raises(SettingsError, match="holds no enhancement; train one with `train_task --task se --output FOL"):
        plain.enhance(waveform, RATE)
    silent = Bundle.from_pretrained(str(tmp_path / "tokenizer"), enhancement=f"{root}/tokenizer/se")
    with pytest.raises(SettingsError, match="holds no vocoder"):
        silent.enhance(waveform, RATE)
    with pytest.raises(ValueError, match="hears layer_02, layer_04, layer_06, and layer_04 is not given"):
        silent.clean({layer: np.zeros(5, np.int64) for layer in (2, 6)})
    with pytest.raises(ValueError, match="layer_04 has ids from 0 to 99, and was given 100"):
        silent.clean({layer: np.full(5, 100 if layer == 4 else 0) for layer in LAYERS})


def test_residual_stages_are_said_each_for_itself_and_heard_together(root, tmp_path):
    low, _, high = shipped_books()
    rng = np.random.default_rng(0)
    second = make_codebook(
        6,
        high.centroids.std() * rng.standard_normal(high.centroids.shape),
        encoder=high.lineage["encoder_sha256"],
        prior=[high],
    )
    books = [low, high, second]
    write_codebooks(tmp_path / "codebooks", books)
    tokenize(root, "residual_{}", tmp_path / "codebooks", (2, 6))
    write_tokenizer(tmp_path / "tokenizer", books)
    write_loud_vocoder(tmp_path / "tokenizer" / "vocoder", books)
    train(root, tmp_path / "tokenizer" / "se", "residual_{}")
    bundle = Bundle.from_pretrained(str(tmp_path / "tokenizer"))
    _, waveform = noisy(root)
    tokens = bundle.tokenizer.encode(waveform, RATE)
    cleaned = bundle.clean(tokens)
    assert {layer: ids.shape for layer, ids in cleaned.items()} == {2: (len(tokens[2]),), 6: (len(tokens[2]), 2)}
    said = bundle.enhancer({"layer_02": tokens[2], "layer_06": tokens[6][:, 0], "layer_06_q1": tokens[6][:, 1]})
    assert np.array_equal(cleaned[6], np.stack([said["layer_06"], said["layer_06_q1"]], axis=1))
    found = bundle.enhance(waveform, RATE, layers=(6,))
    assert np.array_equal(found, bundle.tokenizer.decode({6: cleaned[6]}))
    train(root, tmp_path / "half", "residual_{}", target_layers=(6,))
    with pytest.raises(SettingsError, match="heard with all its residual stages; it lacks layer_06_q1"):
        Bundle.from_pretrained(str(tmp_path / "tokenizer"), enhancement=str(tmp_path / "half"))
