import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from whole_network import hooked_layers

from pipeline.audio.normalization import normalized
from pipeline.errors import EncoderError
from pipeline.features.encoders.demo_encoder import build_small_encoder
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import describe, encoder_files

KINDS = ("wav2vec2", "hubert", "wavlm")
SHAPES = [
    pytest.param(kind, stem, stable, id=f"{kind}-{stem}-{'pre' if stable else 'post'}norm")
    for kind, stem, stable in product(KINDS, ("group", "layer"), (False, True))
]
NUM_LAYERS = 4

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("file_format", ["safetensors", "bin"])
@pytest.mark.parametrize(("kind", "stem", "stable"), SHAPES)
def test_layer_l_is_the_raw_output_of_block_l_of_the_whole_network(small_encoder, kind, stem, stable, file_format):
    folder = small_encoder(kind=kind, stem=stem, stable=stable, file_format=file_format)
    waveform = noise(8_000)
    truth = hooked_layers(folder, waveform[None])
    whole = SslEncoder.from_pretrained(folder, layers=range(NUM_LAYERS + 1), normalize_waveform=False)
    errors = []
    for layer, features_TD in zip(whole.layers, whole.encode([waveform])[0], strict=True):
        cut = SslEncoder.from_pretrained(folder, layers=[layer], normalize_waveform=False)
        assert len(cut._network._network.encoder.layers) == layer
        errors.append(
            max(np.abs(features - truth[layer][0]).max() for features in (features_TD, cut.encode([waveform])[0][0]))
        )
    errors = [float(error) for error in errors]
    print(f"\nmax abs error of layers 0 to 4, whole and cut: {kind} {stem} stable={stable} {file_format}: {errors}")
    # WavLM's attention is ours, the same but for rounding; the others run as transformers has them.
    assert max(errors) <= (1e-5 if kind == "wavlm" else 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_lengths_in_a_batch_give_the_features_of_each_alone(small_encoder, kind):
    encoder = SslEncoder.from_pretrained(small_encoder(kind=kind, stem="group", stable=False), layers=[0, 4])
    waveforms = [noise(9_000, seed) for seed in range(3)]
    for waveform, features in zip(waveforms, encoder.encode(waveforms), strict=True):
        np.testing.assert_allclose(features, encoder.encode([waveform])[0], atol=1e-5)


def test_numbers_of_the_encoder_are_those_of_its_convolutions(small_encoder):
    folder = small_encoder(kind="wavlm")
    info = describe(folder)
    encoder = SslEncoder.from_pretrained(folder, layers=[3])
    assert encoder.info == info
    assert (info.hop_length, info.receptive_field, info.frame_rate, info.sample_rate) == (320, 400, 50.0, 16_000)
    assert (encoder.num_layers, encoder.dim, encoder.model_type) == (NUM_LAYERS, 48, "wavlm")
    for num_samples in (0, 1, 79, 399, 400, 719, 720, 721, 16_000):
        assert encoder.num_frames(num_samples) == max(0, (num_samples - 400) // 320 + 1)
    for num_samples in (400, 719, 720, 5_000):
        assert encoder.encode([noise(num_samples)])[0].shape == (1, encoder.num_frames(num_samples), 48)


def test_convolutions_of_other_sizes_give_another_clock(small_encoder):
    kernels, strides = [10, 3, 2], [4, 3, 2]
    folder = small_encoder(conv_dim=[32] * 3, conv_kernel=kernels, conv_stride=strides, num_feat_extract_layers=3)
    encoder = SslEncoder.from_pretrained(folder, layers=[1])
    assert (encoder.hop_length, encoder.receptive_field) == (24, 30)
    for num_samples in range(30, 110):
        assert encoder.encode([noise(num_samples)])[0].shape[1] == encoder.num_frames(num_samples)


def test_a_waveform_shorter_than_one_frame_is_refused(small_encoder):
    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[1])
    with pytest.raises(ValueError, match="399 samples are too short"):
        encoder.encode([noise(399), noise(800)])
    assert encoder.encode([]) == []


def test_waveforms_are_normalised_over_their_own_samples_and_left_as_they_were(small_encoder):
    folder = small_encoder(stem="layer")
    encoder = SslEncoder.from_pretrained(folder, layers=[0, 4])
    assert encoder.normalize_waveform
    loud, quiet = noise(8_000) * 3 + 0.5, noise(5_000, 1)
    before = loud.copy()
    features = encoder.encode([loud, quiet])[0]
    np.testing.assert_array_equal(loud, before)
    hf = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    truth = hooked_layers(folder, hf(loud, sampling_rate=16_000, return_tensors="np").input_values)
    np.testing.assert_allclose(features[1], truth[4][0], atol=1e-4)
    assert abs(normalized(loud).mean()) < 1e-6
    assert np.isfinite(normalized(np.zeros(800, np.float32))).all()


def test_without_a_preprocessor_file_normalisation_must_be_said(small_encoder):
    folder = small_encoder()
    (Path(folder) / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match="normalize-waveform"):
        describe(folder)
    assert describe(folder, normalize_waveform=False).normalize_waveform is False
    assert SslEncoder.from_pretrained(folder, layers=[1], normalize_waveform=True).sample_rate == 16_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stem", ["group", "layer"])
def test_bfloat16_is_float32_up_to_its_rounding(small_encoder, kind, stem):
    folder = small_encoder(kind=kind, stem=stem, stable=stem == "layer")
    waveforms = [noise(8_000), noise(8_000, 1)]
    wide, narrow = (
        SslEncoder.from_pretrained(folder, layers=[1, 4], dtype=dtype).encode(waveforms)[1]
        for dtype in ("float32", "bfloat16")
    )
    assert narrow.dtype == np.float32
    assert 0 < np.abs(wide - narrow).mean() < 0.05 * np.abs(wide).mean()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_other_number_formats_are_refused(small_encoder, dtype):
    with pytest.raises(EncoderError, match="float32, bfloat16"):
        SslEncoder.from_pretrained(small_encoder(), layers=[1], dtype=dtype)


@pytest.mark.parametrize(
    ("layers", "message"), [([], "at least one"), ([1, 1], "none twice"), ([2, 5], r"0 to 4.*\[5\]")]
)
def test_layers_that_the_network_has_not_are_refused(small_encoder, layers, message):
    folder = small_encoder()
    with pytest.raises(EncoderError, match=message):
        SslEncoder.from_pretrained(folder, layers=layers)
    if layers:
        with pytest.raises(EncoderError, match=message):
            describe(folder, layers=layers)


def test_layers_come_ascending_whatever_their_order(small_encoder):
    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[4, 0, 2])
    assert encoder.layers == (0, 2, 4)
    found = encoder.encode([noise(800)])[0]
    np.testing.assert_array_equal(
        found[1], SslEncoder.from_pretrained(encoder.name, layers=[2]).encode([noise(800)])[0][0]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old_names", [False, True])
def test_an_encoder_inside_a_model_with_a_head_is_the_same(small_encoder, tmp_path, kind, old_names):
    folder = Path(small_encoder(kind=kind, stem="layer"))
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCTC.from_config(config)
    getattr(model, kind).load_state_dict(load_file(folder / "model.safetensors"))
    model.save_pretrained(tmp_path)
    shutil.copy(folder / "preprocessor_config.json", tmp_path)
    if old_names:
        names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        state = model.state_dict()
        for new, old in names.items():
            state = {name.replace(new, old): tensor for name, tensor in state.items()}
        torch.save(state, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    bare, inside = (SslEncoder.from_pretrained(str(path), layers=[2]) for path in (folder, tmp_path))
    np.testing.assert_array_equal(bare.encode([noise(3_000)])[0], inside.encode([noise(3_000)])[0])


@pytest.mark.parametrize("model", ["Wav2Vec2ForPreTraining", "Wav2Vec2ForXVector", "WavLMForSequenceClassification"])
def test_checkpoints_of_other_model_classes_load_without_their_heads(small_encoder, tmp_path, model):
    kind = "wavlm" if model.startswith("WavLM") else "wav2vec2"
    config = transformers.AutoConfig.from_pretrained(small_encoder(kind=kind))
    config.use_weighted_layer_sum = True
    getattr(transformers, model)(config).save_pretrained(tmp_path)
    encoder = SslEncoder.from_pretrained(str(tmp_path), layers=[4], normalize_waveform=False)
    assert np.isfinite(encoder.encode([noise(800)])[0]).all()


@pytest.mark.parametrize("change", ["missing", "unexpected", "beside", "shape"])
def test_weights_that_do_not_fit_the_network_are_refused(small_encoder, change):
    folder = Path(small_encoder())
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layers.0.attention.k_proj.weight"
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:8].clone()
    elif change == "unexpected":
        tensors["encoder.layers.0.attention.extra"] = tensors[name].clone()
    else:
        tensors = {f"hubert.{key}": value for key, value in tensors.items()}
        tensors["stranger.weight"] = torch.zeros(2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    match = {
        "missing": "1 missing .*k_proj",
        "unexpected": "1 unexpected .*extra",
        "shape": "shapes",
        "beside": "stranger",
    }
    with pytest.raises(EncoderError, match=match[change]):
        SslEncoder.from_pretrained(str(folder), layers=[1])


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_not_run(small_encoder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    folder = Path(small_encoder(file_format="bin"))
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="more than tensors"):
        SslEncoder.from_pretrained(str(folder), layers=[1])
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("file_format", ["safetensors", "bin"])
def test_truncated_weights_are_refused(small_encoder, file_format):
    folder = Path(small_encoder(file_format=file_format))
    weights = folder / ("model.safetensors" if file_format == "safetensors" else "pytorch_model.bin")
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EncoderError, match=weights.name):
        SslEncoder.from_pretrained(str(folder), layers=[1])


def test_weights_in_pieces_are_those_in_one_file(small_encoder):
    folder = Path(small_encoder())
    whole = SslEncoder.from_pretrained(str(folder), layers=[4]).encode([noise(3_000)])[0]
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    pieces = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, members in pieces.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, members in pieces.items() for name in members}}))
    np.testing.assert_array_equal(SslEncoder.from_pretrained(str(folder), layers=[4]).encode([noise(3_000)])[0], whole)
    assert set(encoder_files(str(folder))) == {"config.json", "preprocessor_config.json", index.name, *pieces}
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(EncoderError, match="elsewhere"):
        describe(str(folder))


def test_another_kind_of_model_is_refused_with_the_supported_ones(small_encoder):
    path = Path(small_encoder()) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "whisper"}))
    with pytest.raises(EncoderError, match="'whisper'.*hubert, unispeech-sat, wav2vec2"):
        describe(str(path.parent))


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_folder_without_a_readable_config_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(EncoderError, match=r"config\.json"):
        describe(str(tmp_path))


@pytest.mark.parametrize("name", ["", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_is_not_there_is_refused_without_asking_the_hub(name):
    with pytest.raises(EncoderError, match="no encoder folder"):
        describe(name)


def test_a_revision_of_a_folder_is_refused(small_encoder):
    with pytest.raises(EncoderError, match="revision"):
        describe(small_encoder(), revision="main")


def test_a_copied_encoder_has_the_same_hash_and_a_changed_one_another(small_encoder, tmp_path):
    folder = small_encoder()
    first = describe(folder).weights_sha256
    for name, data in encoder_files(folder).items():
        (tmp_path / name).write_bytes(data)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"transformers_version": "0", "final_dropout": 0.5}))
    assert describe(str(tmp_path)).weights_sha256 == first
    assert SslEncoder.from_pretrained(str(tmp_path), layers=[0]).weights_sha256 == first
    (tmp_path / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert describe(str(tmp_path)).weights_sha256 != first
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert describe(str(tmp_path)).weights_sha256 != first


def test_the_demo_encoder_has_the_same_bytes_from_every_process(tmp_path):
    build_small_encoder(tmp_path / "here", seed=3)
    code = (
        "from pipeline.features.encoders.demo_encoder import build_small_encoder as build\n"
        f"build({str(tmp_path / 'there')!r}, seed=3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
    here, there = (encoder_files(str(tmp_path / name)) for name in ("here", "there"))
    assert here == there
    build_small_encoder(tmp_path / "here", seed=4)
    assert encoder_files(str(tmp_path / "here"))["model.safetensors"] != there["model.safetensors"]


def test_the_demo_encoder_is_a_small_hubert_that_may_be_padded(tmp_path):
    build_small_encoder(tmp_path)
    encoder = SslEncoder.from_pretrained(str(tmp_path), layers=[2, 6])
    assert (encoder.num_layers, encoder.dim, encoder.can_pad, encoder.normalize_waveform) == (6, 192, True, True)
    long, short = encoder.encode([noise(16_000), noise(8_000, 1)])
    assert (long.shape, short.shape) == ((2, 49, 192), (2, 24, 192))
    assert np.isfinite(long.astype(np.float16)).all()
