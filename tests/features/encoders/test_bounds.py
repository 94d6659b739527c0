"""A config.json that asks for more than its weights have is refused before a module is built, with what and where.

The numbers are small and merely unlike the weights: what is refused for being unlike is refused for being absurd too.
"""

import json
import shutil

import pytest
from transformers.activations import ACT2FN

from pipeline.errors import EncoderError
from pipeline.features.encoders.bounds import ACTIVATIONS
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.files import CONFIG, PREPROCESSOR
from pipeline.features.encoders.info import describe

CHANGES = {
    "num_hidden_layers": 5,
    "hidden_size": 96,
    "intermediate_size": 97,
    "num_conv_pos_embeddings": 33,
    "conv_dim": [32] * 6 + [33],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 3],
}
WRONG = {
    "num_hidden_layers": ["four", -1, 0, 4.0, True, None, 10**30],
    "hidden_size": ["48", [48], {}],
    "num_attention_heads": [5, 0],
    "hidden_act": ["gelux", 7, ["gelu"]],
    "feat_extract_activation": ["os.system"],
    "feat_extract_norm": ["batch", None],
    "conv_dim": [32, [], ["32"] * 7, [32] * 6],
    "conv_stride": [[0] + [2] * 6, [-5] + [2] * 6],
    "layer_norm_eps": ["small", float("nan"), 0],
    "conv_bias": ["yes"],
    "adapter_attn_dim": [16, "x"],
    "num_labels": [10**9, "many"],
    "num_feat_extract_layers": [8, "x"],
    "model_type": [["hubert"], {"hubert": 1}, "hubert2"],
}


def changed(folder, target, file=CONFIG, **changes):
    """Copy an encoder with some settings changed."""
    shutil.copytree(folder, target)
    settings = json.loads((target / file).read_text()) | changes
    (target / file).write_text(json.dumps(settings))
    return str(target)


@pytest.fixture(scope="module", params=["safetensors", "bin"])
def encoder(request, small_encoder):
    """An encoder whose weights have a header, and one whose .bin is compared when it is read."""
    return small_encoder(kind="hubert", file_format=request.param)


@pytest.mark.parametrize("name", CHANGES)
def test_a_config_unlike_its_weights_is_refused_with_what_the_weights_have(encoder, tmp_path, name):
    folder = changed(encoder, tmp_path / "e", **{name: CHANGES[name]})
    with pytest.raises(EncoderError, match=f"{name}.*, and the weights beside it have .*Restore") as caught:
        SslEncoder.from_pretrained(folder, layers=[1])
    assert str(tmp_path / "e" / CONFIG) in str(caught.value)


@pytest.mark.parametrize("name", CHANGES)
def test_a_header_is_compared_before_any_work_starts(small_encoder, tmp_path, name):
    folder = changed(small_encoder(kind="hubert"), tmp_path / "e", **{name: CHANGES[name]})
    with pytest.raises(EncoderError, match=f"{name}.*, and the weights beside it have"):
        describe(folder)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("wavlm", {"num_buckets": 64}),
        ("data2vec-audio", {"num_conv_pos_embeddings": 6}),
        ("data2vec-audio", {"conv_pos_kernel_size": 3}),
        ("wav2vec2-conformer", {"conv_depthwise_kernel_size": 33}),
        ("wav2vec2-bert", {"feature_projection_input_dim": 80}),
        ("wav2vec2-bert", {"num_hidden_layers": 9}),
    ],
)
def test_other_classes_are_compared_too(small_encoder, tmp_path, kind, changes):
    folder = changed(small_encoder(kind=kind), tmp_path / "e", **changes)
    with pytest.raises(EncoderError, match=r"config\.json|numbers a frame"):
        SslEncoder.from_pretrained(folder, layers=[1])


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_setting_of_another_kind_or_past_all_bounds_is_refused_by_name(small_encoder, tmp_path, name, value):
    folder = changed(small_encoder(kind="hubert"), tmp_path / "e", **{name: value})
    for look in (describe, lambda folder: SslEncoder.from_pretrained(folder, layers=[1])):
        with pytest.raises(EncoderError, match=name) as caught:
            look(folder)
        assert str(tmp_path / "e" / CONFIG) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("max_source_positions", 10**6), ("position_embeddings_type", "none"), ("num_labels", 10**9)]
)
def test_what_no_weight_bears_out_has_a_bound_of_its_own(small_encoder, tmp_path, name, value):
    folder = changed(small_encoder(kind="wav2vec2-conformer"), tmp_path / "e", **{name: value})
    with pytest.raises(EncoderError, match=name):
        describe(folder)


@pytest.mark.parametrize("file", [CONFIG, PREPROCESSOR])
def test_deep_nesting_is_one_sentence(small_encoder, tmp_path, file):
    shutil.copytree(small_encoder(kind="hubert"), tmp_path / "e")
    (tmp_path / "e" / file).write_text('{"a":' + "[" * 200_000)
    with pytest.raises(EncoderError, match="nested deeper"):
        describe(str(tmp_path / "e"))


@pytest.mark.parametrize(
    ("name", "value"), [("sampling_rate", 10**12), ("sampling_rate", "16000"), ("sampling_rate", -1), ("stride", 0)]
)
def test_a_preprocessor_that_cannot_be_is_refused(small_encoder, tmp_path, name, value):
    folder = changed(small_encoder(kind="hubert"), tmp_path / "e", PREPROCESSOR, **{name: value})
    with pytest.raises(EncoderError, match=name):
        describe(folder)


@pytest.mark.parametrize("index", [[], {"weight_map": ["a"]}, {"weight_map": {"a": 1}}, {}])
def test_an_index_of_another_kind_is_refused(small_encoder, tmp_path, index):
    shutil.copytree(small_encoder(kind="hubert"), tmp_path / "e")
    (tmp_path / "e" / "model.safetensors").rename(tmp_path / "e" / "model-00001-of-00001.safetensors")
    (tmp_path / "e" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(EncoderError, match=r"index\.json"):
        describe(str(tmp_path / "e"))


def test_what_a_network_does_not_depend_on_may_say_anything(small_encoder, tmp_path):
    before = small_encoder(kind="hubert")
    odd = {"vocab_size": 10**12, "num_adapter_layers": 10**9, "tdnn_dim": "x", "return_dict": False, "label2id": 5}
    folder = changed(before, tmp_path / "e", **odd)
    assert describe(folder).weights_sha256 == describe(before).weights_sha256
    assert SslEncoder.from_pretrained(folder, layers=[1]).weights_sha256 == describe(before).weights_sha256


def test_all_activations_of_transformers_are_known():
    assert set(ACT2FN) == ACTIVATIONS
