"""The classes beside wav2vec 2.0, HuBERT and WavLM: the same promises."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from whole_network import hooked_layers

from pipeline.errors import EncoderError
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import MODELS, describe
from pipeline.features.encoders.log_mel import StackedLogMel

CASES = [
    ("unispeech-sat", {"stem": "group", "stable": False}),
    ("unispeech-sat", {"stem": "layer", "stable": True}),
    ("data2vec-audio", {}),
    ("wav2vec2-conformer", {"position_embeddings_type": "relative"}),
    ("wav2vec2-conformer", {"position_embeddings_type": "rotary", "stem": "group"}),
    ("wav2vec2-bert", {"position_embeddings_type": "relative_key"}),
    ("wav2vec2-bert", {"position_embeddings_type": "rotary"}),
    ("wav2vec2-bert", {"position_embeddings_type": "relative"}),
]
KINDS = sorted({kind for kind, _ in CASES})


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def network_input(kind, waveform):
    if kind != "wav2vec2-bert":
        return waveform[None]
    return StackedLogMel(num_mel_bins=80, stride=2, sample_rate=16_000)(torch.from_numpy(waveform)[None], [8_000])[0]


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_layer_l_of_every_class_is_the_raw_output_of_block_l(small_encoder, kind, settings):
    folder = small_encoder(kind=kind, **settings)
    waveform = noise(8_000)
    truth = hooked_layers(folder, network_input(kind, waveform))
    whole = SslEncoder.from_pretrained(folder, layers=range(5), normalize_waveform=False).encode([waveform])[0]
    for layer in range(5):
        cut = SslEncoder.from_pretrained(folder, layers=[layer], normalize_waveform=False)
        assert len(cut._network._network.encoder.layers) == layer
        np.testing.assert_array_equal(whole[layer], truth[layer][0])
        np.testing.assert_array_equal(cut.encode([waveform])[0][0], truth[layer][0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_of_a_model_with_a_head_is_found_by_its_prefix(small_encoder, tmp_path, kind):
    folder = Path(small_encoder(kind=kind))
    config = transformers.AutoConfig.from_pretrained(folder)
    config.vocab_size = 32
    model = transformers.AutoModelForCTC.from_config(config)
    getattr(model, MODELS[kind].prefix).load_state_dict(load_file(folder / "model.safetensors"))
    model.save_pretrained(tmp_path)
    shutil.copy(folder / "preprocessor_config.json", tmp_path)
    bare, inside = (SslEncoder.from_pretrained(str(path), layers=[2]) for path in (folder, tmp_path))
    np.testing.assert_array_equal(bare.encode([noise(3_000)])[0], inside.encode([noise(3_000)])[0])


def test_pretraining_heads_of_unispeech_sat_are_left_aside(small_encoder, tmp_path):
    config = transformers.AutoConfig.from_pretrained(small_encoder(kind="unispeech-sat"))
    transformers.UniSpeechSatForPreTraining(config).save_pretrained(tmp_path)
    encoder = SslEncoder.from_pretrained(str(tmp_path), layers=[4], normalize_waveform=False)
    assert np.isfinite(encoder.encode([noise(800)])[0]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_that_do_not_fit_a_class_are_refused(small_encoder, kind, change):
    folder = Path(small_encoder(kind=kind))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.startswith("encoder.layers.0."))
    if change == "missing":
        del tensors[name]
    else:
        tensors[f"{name}_extra"] = tensors[name].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=f"1 {change}"):
        SslEncoder.from_pretrained(str(folder), layers=[1])


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("data2vec-audio", "conv_pos_kernel_size", 21),
        ("wav2vec2-conformer", "conv_depthwise_kernel_size", 33),
        ("wav2vec2-conformer", "rotary_embedding_base", 5_000),
        ("wav2vec2-bert", "left_max_position_embeddings", 32),
    ],
)
def test_what_only_one_class_has_in_its_config_is_in_the_hash(small_encoder, kind, key, value):
    folder = small_encoder(kind=kind)
    first = describe(folder).weights_sha256
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert describe(folder).weights_sha256 != first


@pytest.mark.parametrize("kind", ["wav2vec2-conformer", "wav2vec2-bert"])
def test_rotary_angles_stay_exact_in_bfloat16(small_encoder, kind):
    # 499 frames: rounded to bfloat16, frames past 256 would share their angles with their neighbours.
    folder = small_encoder(kind=kind, position_embeddings_type="rotary")
    waveforms = [noise(160_000), noise(160_000, 1)]
    wide, narrow = (
        SslEncoder.from_pretrained(folder, layers=[4], dtype=dtype).encode(waveforms)[0]
        for dtype in ("float32", "bfloat16")
    )
    narrow_encoder = SslEncoder.from_pretrained(folder, layers=[4], dtype="bfloat16")
    assert narrow_encoder._network._network.encoder.embed_positions.inv_freq.dtype == torch.float32
    assert np.abs(wide - narrow).mean() < 0.05 * np.abs(wide).mean()


def test_spectra_need_no_word_on_normalisation_and_must_fit_the_network(small_encoder):
    folder = Path(small_encoder(kind="wav2vec2-bert"))
    assert describe(str(folder)).normalize_waveform is False
    first = describe(str(folder)).weights_sha256
    (folder / "preprocessor_config.json").write_text(json.dumps({"num_mel_bins": 40, "stride": 4}))
    assert describe(str(folder)).weights_sha256 != first
    assert (describe(str(folder)).hop_length, describe(str(folder)).receptive_field) == (640, 880)
    (folder / "preprocessor_config.json").write_text(json.dumps({"num_mel_bins": 40}))
    with pytest.raises(EncoderError, match="hears 160 numbers .* 2 spectra of 40"):
        describe(str(folder))
    (folder / "preprocessor_config.json").unlink()
    assert describe(str(folder)).normalize_waveform is False
