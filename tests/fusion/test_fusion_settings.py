"""Settings of a fuser that cannot work are refused in one sentence, and a spec travels."""

import pickle

import pytest
from made_features import ENCODER
from made_fusion import COLUMNS, features_spec, lineage, make_books, settings, tokens_spec

from pipeline.errors import SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec, feature_spec, token_spec


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"fusion": "sum"}, "fusion must be one of attention, single, mean, weighted, concat, got 'sum'"),
        ({"embedding_init": "zeros"}, "embedding_init must be random or centroids, got 'zeros'"),
        ({"fusion": "single"}, "fusion_layer names the layer of fusion single and of no other"),
        ({"fusion_layer": "layer_03"}, "fusion_layer names the layer of fusion single and of no other"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
        ({"scorer_dim": -1}, "scorer_dim must be at least 1, got -1"),
        ({"fusion": "mean", "scorer_dim": 4}, "scorer_dim is a setting of fusion attention"),
        ({"freeze_fuser": True}, "freeze_fuser leaves a saved fuser as it is; name it with fuser"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(given, sentence):
    with pytest.raises(SettingsError, match=sentence):
        FusionSettings(**given)


def test_layers_that_are_not_there_are_named():
    made = lineage(make_books())
    with pytest.raises(SettingsError, match="the layers layer_01, layer_03, layer_06, not layer_02, layer_07"):
        token_spec(settings(), made, columns=("layer_02", "layer_03", "layer_07"))
    with pytest.raises(SettingsError, match="fusion_layer layer_03 is not among the layers layer_01, layer_06"):
        token_spec(settings("single"), made, columns=("layer_01", "layer_06"))
    with pytest.raises(SettingsError, match="a fuser needs layers, each once; got layer_01, layer_01"):
        token_spec(settings(), made, columns=("layer_01", "layer_01"))
    with pytest.raises(SettingsError, match=r"the features have the layers \[1, 3\], not \[6\]"):
        feature_spec(settings(), {"encoder_sha256": ENCODER, "dim": 8, "layers": [1, 3]}, layers=(3, 6))


@pytest.mark.parametrize("given", [{"embedding_init": "centroids"}, {"freeze_embedding": True}])
def test_features_with_settings_of_embeddings_are_refused(given):
    with pytest.raises(SettingsError, match="features have no embeddings that could begin as centroids or stay"):
        features_spec(**given)


def test_a_spec_that_says_too_little_is_refused():
    with pytest.raises(SettingsError, match="num_clusters says nothing of layer_03"):
        FuserSpec(
            settings=settings(),
            kind="tokens",
            columns=("layer_01", "layer_03"),
            dim=8,
            encoder_sha256=ENCODER,
            num_clusters={"layer_01": 5},
        )
    with pytest.raises(SettingsError, match="features have a width"):
        FuserSpec(
            settings=settings(embedding_dim=4), kind="features", columns=COLUMNS, dim=None, encoder_sha256=ENCODER
        )


def test_widths_come_from_the_data_where_no_setting_names_them(tmp_path):
    spec = tokens_spec(tmp_path)
    assert (spec.output_dim, spec.scorer_dim) == (8, 8)
    spec = tokens_spec(tmp_path, embedding_dim=6)
    assert (spec.output_dim, spec.scorer_dim) == (6, 6)
    assert tokens_spec(tmp_path, embedding_dim=6, scorer_dim=3).scorer_dim == 3
    assert tokens_spec(tmp_path, "single").used == ("layer_03",)


def test_a_spec_travels(tmp_path):
    spec = tokens_spec(tmp_path, embedding_init="centroids")
    assert pickle.loads(pickle.dumps(spec)) == spec
