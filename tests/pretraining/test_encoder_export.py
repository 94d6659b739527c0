"""The encoder's folder: what was trained, in a form that transformers and every job open."""

import json

import numpy as np
import pytest
import torch

from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import describe
from pipeline.pretraining.export import LINEAGE, encoder_tensors, write_settings
from pipeline.pretraining.model import MaskedPrediction, build_encoder
from pipeline.pretraining.shapes import network_config
from pipeline.store.storage import open_store
from pipeline.training.publishing import weights_bytes

SMALLER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def trained():
    """A model as a checkpoint has it, and the fields of its network."""
    fields = {**network_config("small", dropout=0.1, layerdrop=0.2), **SMALLER}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return MaskedPrediction(build_encoder(fields, None), [8, 4], "cosine"), fields


def export(folder, trained, dtype="float32", normalize=True):
    model, fields = trained
    store = open_store(str(folder))
    write_settings(store, fields, normalize=normalize, sample_rate=16_000, lineage={"targets": ["layer_00"], "n": 1})
    store.write("model.safetensors", weights_bytes(encoder_tensors(model.state_dict(), dtype)))
    return str(folder)


def test_transformers_opens_the_folder_and_gives_the_trained_outputs(tmp_path, trained):
    from transformers import HubertModel

    network, said = HubertModel.from_pretrained(export(tmp_path, trained), output_loading_info=True)
    assert [said[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")] == [set(), set(), set()]
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = trained[0].encoder.eval()(waveform).last_hidden_state
        torch.testing.assert_close(network.eval()(waveform).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_our_encoder_opens_the_folder_and_hears_as_in_training(tmp_path, trained, normalize):
    folder = export(tmp_path, trained, normalize=normalize)
    encoder = SslEncoder.from_pretrained(folder, layers=(0, 1, 2))
    assert (encoder.hop_length, encoder.receptive_field, encoder.dim, encoder.num_layers) == (320, 400, 32, 2)
    assert encoder.normalize_waveform is normalize
    waveform = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1 + 0.05
    (found,) = encoder.encode([waveform])
    heard = (waveform - waveform.mean()) / waveform.std() if normalize else waveform
    with torch.no_grad():
        states = trained[0].encoder.eval()(torch.from_numpy(heard)[None], output_hidden_states=True).hidden_states
    for layer in (0, 1):
        np.testing.assert_allclose(found[layer], states[layer][0], rtol=1e-3, atol=1e-3)


def test_the_folder_holds_the_encoder_alone(trained):
    model, _ = trained
    found = encoder_tensors(model.state_dict(), "float32")
    assert set(found) == set(model.encoder.state_dict())
    assert all(torch.equal(found[name], tensor) for name, tensor in model.encoder.state_dict().items())


def test_half_the_bytes_hold_the_rounded_weights(tmp_path, trained):
    model, _ = trained
    half, full = (encoder_tensors(model.state_dict(), dtype) for dtype in ("float16", "float32"))
    assert all(torch.equal(half[name], tensor.half()) for name, tensor in full.items())
    assert len(weights_bytes(half)) < 0.6 * len(weights_bytes(full))
    encoder = SslEncoder.from_pretrained(export(tmp_path, trained, "float16"), layers=(1,))
    assert encoder.dtype == "float32"
    assert np.isfinite(encoder.encode([np.zeros(4000, np.float32) + 0.1])[0]).all()


def test_the_same_training_gives_the_same_files_and_the_same_name(tmp_path, trained):
    one, other = (export(tmp_path / name, trained) for name in ("one", "other"))
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert describe(one).weights_sha256 == describe(other).weights_sha256


def test_the_config_says_what_the_encoder_was_made_of_and_no_favourite_format(tmp_path, trained):
    found = json.loads((open_store(export(tmp_path, trained)).root / "config.json").read_text())
    assert found[LINEAGE] == {"targets": ["layer_00"], "n": 1}
    assert (found["model_type"], found["architectures"]) == ("hubert", ["HubertModel"])
    assert not {"dtype", "torch_dtype", "attn_implementation", "_attn_implementation"} & set(found)


def test_an_encoder_can_be_the_first_of_the_next_training(tmp_path, trained):
    folder = export(tmp_path, trained)
    again = build_encoder(network_config(None, dropout=0.0, layerdrop=0.0), folder)
    wanted = trained[0].encoder.state_dict()
    assert all(torch.equal(wanted[name], tensor) for name, tensor in again.state_dict().items())
