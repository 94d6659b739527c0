"""Tokenizer and `synthesize --file`: the shipped encoder and its codebooks, and a vocoder of them of random weights."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import soundfile
from made_tokenizer import HOP, RATE, shipped_books, spoken_file, write_loud_vocoder, write_tokenizer

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import AudioDecodeError, CodebookMismatchError, FeatureError, SettingsError
from pipeline.features.encoders.shipped import LAYERS
from pipeline.store.storage import open_store
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.stage import synthesize
from pipeline.tokenizer import Tokenizer

SETS = [chosen for count in (1, 2, 3) for chosen in combinations(LAYERS, count)]


def a_voice(seconds=1.3, rate=RATE, seed=0):
    """Something with changing harmonics, so that its tokens change."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = np.cumsum(120 + 40 * np.sin(9 * time)) / rate
    tones = sum(np.sin(2 * np.pi * k * pitch) * (1 + np.sin(5 * k * time)) / k for k in range(1, 9))
    return (0.08 * tones + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer's folder with a vocoder in it."""
    root = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    write_tokenizer(root, shipped_books())
    write_loud_vocoder(root / "vocoder", shipped_books())
    return root


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return tokenizer.encode(a_voice(), RATE)


def one_sentence(told):
    return "\n" not in str(told.value)


@pytest.mark.parametrize("layers", SETS, ids=str)
def test_every_set_of_layers_speaks_hop_samples_per_frame_and_hears_no_other_layer(tokenizer, tokens, layers):
    spoken = tokenizer.decode(tokens, layers=layers)
    assert spoken.dtype == np.float32
    assert spoken.shape == (HOP * len(tokens[2]),)
    assert spoken.std() > 1e-3
    for layer in LAYERS:
        changed = {**tokens, layer: (tokens[layer].astype(int) + 31) % 100}
        assert np.array_equal(tokenizer.decode(changed, layers=layers), spoken) == (layer not in layers)
    assert np.array_equal(tokenizer.decode({layer: tokens[layer] for layer in layers}), spoken)


def test_sets_of_layers_speak_differently_and_their_order_does_not_matter(tokenizer, tokens):
    spoken = [tokenizer.decode(tokens, layers=layers) for layers in SETS]
    assert all(not np.allclose(one, other, atol=1e-4) for one, other in combinations(spoken, 2))
    assert np.array_equal(tokenizer.decode(tokens, layers=(6, 2)), tokenizer.decode(tokens, layers=(2, 6)))
    assert np.array_equal(tokenizer.decode(tokens), tokenizer.decode(tokens, layers=LAYERS))


def test_tokens_tell_recordings_apart(tokenizer, tokens):
    assert {layer: ids.shape for layer, ids in tokens.items()} == dict.fromkeys(LAYERS, (len(tokens[2]),))
    assert all(len(np.unique(ids)) > 5 for ids in tokens.values())
    other = tokenizer.encode(a_voice(seed=1)[::-1], RATE)
    assert not np.allclose(tokenizer.decode(other, layers=(6,)), tokenizer.decode(tokens, layers=(6,)), atol=1e-4)


def test_a_vocoder_beside_is_taken_in_place_of_the_one_in_the_folder(folder, tokenizer, tokens, tmp_path):
    write_loud_vocoder(tmp_path / "single", shipped_books((6,)))
    beside = Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "single"))
    assert beside.choose_layers() == (6,)
    assert np.array_equal(beside.decode(tokens), beside.decode({6: tokens[6]}, layers=(6,)))
    assert not np.array_equal(beside.decode(tokens), tokenizer.decode(tokens, layers=(6,)))
    with pytest.raises(SettingsError, match="trained on layer_06, not on layer_02") as told:
        beside.decode(tokens, layers=(2,))
    assert one_sentence(told)


def test_a_vocoder_of_other_codebooks_or_another_hop_is_refused_by_name(folder, tmp_path):
    books = shipped_books()
    moved = replace(books[1], centroids=books[1].centroids + np.float32(0.01))
    write_loud_vocoder(tmp_path / "moved", [books[0], moved, books[2]])
    here, there = moved.sha256[:12], books[1].sha256[:12]
    with pytest.raises(CodebookMismatchError, match=f"codebook of layer_04: {there} there, {here} here") as told:
        Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "moved"))
    assert "layer_02" not in str(told.value)
    assert one_sentence(told)
    write_loud_vocoder(tmp_path / "half", books, hop=HOP // 2, n_fft=640)
    with pytest.raises(CodebookMismatchError, match="speaks 160 samples per frame at 16000 Hz, .* hears 320") as told:
        Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "half"))
    assert one_sentence(told)


DAMAGES = [
    ({"layers": ()}, SettingsError, "no layer is given; the vocoder speaks any of layer_02, layer_04, layer_06"),
    ({"layers": (3,)}, SettingsError, "not on layer_03"),
    ({"speaker": "ann"}, SettingsError, "one voice; give no speaker"),
    ({"layers": (6, 2, 6)}, SettingsError, "a layer is heard once, got layers 6, 2, 6"),
    ({"tokens": {}}, SettingsError, "no layer is given"),
    ({"tokens": {6: np.arange(4)}, "layers": (2,)}, SettingsError, "the tokens have layer_06, not layer_02"),
    ({"tokens": {6: np.array([3, 100])}}, ValueError, "layer_06 has ids from 0 to 99, and was given 100"),
    ({"tokens": {6: np.array([3, -1])}}, ValueError, "layer_06 has ids from 0 to 99, and was given -1"),
    ({"tokens": {2: np.arange(4), 6: np.arange(5)}}, ValueError, "one token per frame"),
    ({"tokens": {6: np.zeros(0, int)}}, ValueError, "no frame"),
    ({"tokens": {6: np.zeros(4)}}, ValueError, "tokens are integers"),
    ({"tokens": {6: np.zeros((1, 2, 3), int)}}, ValueError, r"are \(T,\), one utterance"),
]


@pytest.mark.parametrize(("given", "error", "said"), DAMAGES, ids=[said[:25] for _, _, said in DAMAGES])
def test_what_cannot_be_spoken_is_refused_in_one_sentence(tokenizer, tokens, given, error, said):
    with pytest.raises(error, match=said) as told:
        tokenizer.decode(**{"tokens": tokens, **given})
    assert one_sentence(told)


def test_a_folder_without_vocoder_encodes_and_says_how_to_get_one(folder, tokens, tmp_path):
    write_tokenizer(tmp_path, shipped_books())
    alone = Tokenizer.from_pretrained(str(tmp_path))
    assert alone.vocoder is None
    assert all(np.array_equal(ids, tokens[layer]) for layer, ids in alone.encode(a_voice(), RATE).items())
    for call in (lambda: alone.decode(tokens), alone.choose_layers):
        with pytest.raises(SettingsError, match="holds no vocoder; train one") as told:
            call()
        assert one_sentence(told)
    with pytest.raises(SettingsError, match="config.json is not there"):
        Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "nowhere"))


def test_a_speaker_is_named_or_given_as_a_vector_as_the_vocoder_takes_it(folder, tokens, tmp_path):
    write_loud_vocoder(tmp_path / "table", shipped_books(), speaker_input="table", speakers=("ann", "bob"))
    table = Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "table"))
    ann, bob = (table.decode(tokens, speaker=name) for name in ("ann", "bob"))
    assert not np.allclose(ann, bob, atol=1e-4)
    write_loud_vocoder(tmp_path / "vector", shipped_books(), speaker_input="vector", speaker_dim=8)
    vector = Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "vector"))
    one, other = (vector.decode(tokens, speaker=np.full(8, value)) for value in (0.5, -0.5))
    assert not np.allclose(one, other, atol=1e-4)
    refused = [
        (table, None, r"given no speaker; give one by name \(it knows ann, bob\)"),
        (table, "eve", "given the speaker eve; give one by name"),
        (table, np.zeros(8), "given a vector; give one by name"),
        (vector, None, r"a vector \(S,\) of width 8"),
        (vector, "ann", r"a vector \(S,\) of width 8"),
        (vector, np.zeros(7), r"a vector \(S,\) of width 8"),
        (vector, np.full(8, np.nan), "not finite"),
    ]
    for taken, speaker, said in refused:
        with pytest.raises(SettingsError, match=said) as told:
            taken.decode(tokens, speaker=speaker)
        assert one_sentence(told)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_becomes_the_speech_of_its_tokens(folder, tokenizer, tmp_path, suffix):
    soundfile.write(tmp_path / "in.wav", a_voice(), RATE, subtype="FLOAT")
    report = spoken_file(folder, tmp_path / "in.wav", tmp_path / f"out{suffix}", layers=(6,))
    tokens = tokenizer.encode(a_voice(), RATE)
    expected = sixteen_bits(tokenizer.decode(tokens, layers=(6,)))
    samples, rate = soundfile.read(tmp_path / f"out{suffix}", dtype="int16")
    assert soundfile.info(tmp_path / f"out{suffix}").format == suffix[1:].upper()
    assert rate == RATE
    assert np.array_equal(samples, expected.samples)
    assert (report.layers, report.num_frames) == ((6,), len(tokens[6]))
    assert report.clipped_samples == expected.clipped
    assert report.seconds == pytest.approx(len(samples) / RATE)
    assert report.times_real_time > 0
    assert report.to_json()["output"] == str(tmp_path / f"out{suffix}")
    assert ("layers", "6") in report.lines()


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_stereo_file_of_another_rate_is_mixed_and_resampled(folder, tokenizer, tmp_path, rate):
    left, right = a_voice(rate=rate), a_voice(rate=rate, seed=2)[::-1]
    soundfile.write(tmp_path / "in.wav", np.stack([left, right], axis=1), rate, subtype="FLOAT")
    report = spoken_file(folder, tmp_path / "in.wav", tmp_path / "out.wav")
    samples, found = soundfile.read(tmp_path / "out.wav", dtype="int16")
    expected = tokenizer.decode(tokenizer.encode((left + right) / 2, rate))
    assert (found, report.layers) == (RATE, LAYERS)
    assert len(samples) == HOP * report.num_frames == len(expected)
    assert np.array_equal(samples, sixteen_bits(expected).samples)


def test_a_file_that_cannot_be_spoken_is_refused_in_one_sentence_and_nothing_is_written(folder, tmp_path):
    good, out = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(good, a_voice(), RATE)
    (tmp_path / "text.wav").write_text("no sound at all\n" * 50)
    soundfile.write(tmp_path / "short.wav", a_voice(0.01), RATE)
    write_loud_vocoder(tmp_path / "table", shipped_books(), speaker_input="table", speakers=("ann", "bob"))
    write_tokenizer(tmp_path / "deaf", shipped_books())
    refused = [
        ({"target": tmp_path / "out.mp3"}, SettingsError, r"ends in .wav or .flac, got out.mp3"),
        ({"target": "s3://corpus/out.wav"}, SettingsError, "is a local recording, got s3://corpus/out.wav"),
        ({"target": tmp_path / "none" / "out.wav"}, SettingsError, "none of --output is not there; make it first"),
        ({"source": tmp_path / "nowhere.wav"}, AudioDecodeError, "nowhere.wav"),
        ({"source": tmp_path / "text.wav"}, AudioDecodeError, "text.wav|not_audio|format"),
        ({"source": tmp_path / "short.wav"}, FeatureError, "too_short"),
        ({"folder": tmp_path}, CodebookMismatchError, "no tokenizer folder"),
        ({"folder": tmp_path / "deaf"}, SettingsError, "holds no vocoder"),
        ({"layers": (5,)}, SettingsError, "not on layer_05"),
        ({"speaker": "ann"}, SettingsError, "one voice"),
        (
            {"vocoder": str(tmp_path / "table")},
            SettingsError,
            r"given no speaker; give one by name \(it knows ann, bob\)",
        ),
        ({"vocoder": str(tmp_path / "table"), "speaker": "eve"}, SettingsError, "given the speaker eve; give"),
    ]
    for settings, error, said in refused:
        with pytest.raises(error, match=said) as told:
            spoken_file(**{"folder": folder, "source": good, "target": out, **settings})
        assert one_sentence(told)
        assert not out.exists()
        assert not (tmp_path / "out.mp3").exists()


def test_a_file_and_a_vocoder_on_s3_give_the_speech_of_those_on_disk(bucket, folder, tmp_path):
    soundfile.write(tmp_path / "in.flac", a_voice(), RATE)
    store = open_store(bucket)
    store.write("in.flac", (tmp_path / "in.flac").read_bytes())
    for path in (folder / "vocoder").iterdir():
        store.write(f"vocoder/{path.name}", path.read_bytes())
    spoken_file(folder, tmp_path / "in.flac", tmp_path / "here.wav")
    spoken_file(folder, f"{bucket}/in.flac", tmp_path / "there.wav", vocoder=f"{bucket}/vocoder")
    assert (tmp_path / "there.wav").read_bytes() == (tmp_path / "here.wav").read_bytes()


def test_what_goes_with_a_file_is_checked_with_the_settings(tmp_path):
    refused = [
        ({"file": "in.wav"}, "--file needs --tokenizer"),
        ({"file": "in.wav", "tokenizer": "t", "manifest": "m"}, "--manifest goes with"),
        ({"file": "in.wav", "tokenizer": "t", "tokens": "t"}, "give one of --tokens, --export and --file"),
        ({"tokens": "t", "vocoder": "v", "tokenizer": "t"}, "--file needs --tokenizer, which"),
    ]
    for settings, said in refused:
        with pytest.raises(SettingsError, match=said):
            SynthesizeConfig.of(output=str(tmp_path / "out.wav"), **settings)


def test_shapes_and_names_of_tokens_that_are_none_are_refused(tokenizer, tokens):
    with pytest.raises(ValueError, match=r"tokens of layer 2 are \(T,\), one utterance, got shape \(1, ") as told:
        tokenizer.decode({layer: ids[None] for layer, ids in tokens.items()})
    assert one_sentence(told)
    with pytest.raises(SettingsError, match="by the layer's number, any of 2, 4, 6; got 'layer_02'") as told:
        tokenizer.decode({f"layer_{layer:02d}": ids for layer, ids in tokens.items()})
    assert one_sentence(told)
    column = tokenizer.decode({layer: ids[:, None] for layer, ids in tokens.items()})
    assert np.array_equal(column, tokenizer.decode(tokens))


def test_what_ships_is_loaded_by_its_name_with_its_vocoder(tmp_path):
    shipped = Tokenizer.from_pretrained("encoder-small")
    assert (shipped.layers, set(shipped.num_clusters.values())) == (LAYERS, {500})
    found = shipped.encode(a_voice(), RATE)
    spoken = shipped.decode(found, layers=(6,))
    assert spoken.shape == (HOP * len(found[6]),)
    soundfile.write(tmp_path / "in.wav", a_voice(), RATE)
    output = tmp_path / "out.wav"
    config = SynthesizeConfig.of(
        file=str(tmp_path / "in.wav"), tokenizer="encoder-small", output=str(output), layers=(6,)
    )
    assert config.located().tokenizer == "encoder-small"
    synthesize(config)
    assert soundfile.info(output).frames == len(spoken)


def test_a_recording_is_not_replaced_by_what_is_spoken_of_it(folder, tmp_path):
    soundfile.write(tmp_path / "in.wav", a_voice(), RATE)
    before = (tmp_path / "in.wav").read_bytes()
    config = SynthesizeConfig.of(
        file=str(tmp_path / "in.wav"), tokenizer=str(folder), output=str(tmp_path / "." / "in.wav")
    )
    with pytest.raises(SettingsError, match="--output would replace the recording of --file") as told:
        synthesize(config)
    assert one_sentence(told)
    assert (tmp_path / "in.wav").read_bytes() == before


def test_deduplicated_tokens_last_as_long_as_the_vocoder_predicts(folder, tokenizer, tokens, tmp_path):
    with pytest.raises(SettingsError, match="trained with --duration-predictor, and this one was not"):
        tokenizer.decode(tokens, durations="predicted")
    with pytest.raises(SettingsError, match="durations must be given or predicted, got 'yes'"):
        tokenizer.decode(tokens, durations="yes")
    write_loud_vocoder(tmp_path / "vocoder", shipped_books(), duration_predictor=True, duration_channels=16)
    timing = Tokenizer.from_pretrained(str(folder), vocoder=str(tmp_path / "vocoder"))
    changes = np.flatnonzero(np.any([np.diff(tokens[layer]) for layer in LAYERS], axis=0)) + 1
    once = {layer: tokens[layer][np.r_[0, changes]] for layer in LAYERS}
    assert len(once[2]) < len(tokens[2])
    spoken = timing.decode(once, durations="predicted")
    np.testing.assert_array_equal(spoken, timing.decode(tokens, durations="predicted"))
    # An untrained predictor is near the log of one frame.
    assert len(spoken) >= HOP * len(once[2])
    assert len(timing.decode(once)) == HOP * len(once[2])
