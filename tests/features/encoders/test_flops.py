import pytest

from pipeline.features.encoders.flops import encoder_gflop, gflop_per_second
from pipeline.features.encoders.info import MODELS

VARIANTS = [
    *[(kind, {}) for kind in MODELS],
    ("hubert", {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_conv_pos_embeddings": 31}),
    ("wav2vec2-conformer", {"position_embeddings_type": "rotary"}),
    ("wav2vec2-bert", {"position_embeddings_type": "relative"}),
    ("wav2vec2-bert", {"position_embeddings_type": "rotary"}),
]


def counted(kind, seconds, **settings):
    """Run the network of transformers on the meta device and count what torch counts."""
    import torch
    import transformers
    from torch.nn.utils import parametrize
    from torch.utils.flop_counter import FlopCounterMode

    config = getattr(transformers, MODELS[kind].config)(**settings, attn_implementation="eager")
    with torch.device("meta"):
        model = getattr(transformers, MODELS[kind].network)(config).eval()
        if kind == "wav2vec2-bert":
            waveform = torch.zeros(1, (int(seconds * 16_000) - 560) // 320 + 1, config.feature_projection_input_dim)
        else:
            waveform = torch.zeros(1, int(seconds * 16_000))
    for module in model.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(waveform)
    return config, counter.get_total_flops() / 1e9


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_the_count_is_that_of_torch(kind, settings):
    small = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
    if "hidden_size" not in settings and kind != "wav2vec2-bert":
        settings = {**settings, "num_conv_pos_embedding_groups": 4}
    for seconds in (1.0, 6.3):
        config, expected = counted(kind, seconds, **small, **settings)
        found = encoder_gflop(config, top_layer=3, num_samples=int(seconds * 16_000))
        assert found == expected


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
def test_the_count_of_a_base_network_is_that_of_torch(kind):
    config, expected = counted(kind, 12.0)
    assert encoder_gflop(config, top_layer=12, num_samples=12 * 16_000) == expected


def test_known_figures():
    import transformers

    base, large = (
        transformers.HubertConfig(),
        transformers.HubertConfig(
            hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
        ),
    )
    assert gflop_per_second(base, top_layer=12) == pytest.approx(15.3, abs=0.1)
    assert gflop_per_second(base, top_layer=9) == pytest.approx(12.8, abs=0.1)
    assert gflop_per_second(large, top_layer=24) == pytest.approx(39.7, abs=0.3)
    assert gflop_per_second(large, top_layer=24, seconds=100) == pytest.approx(60.6, rel=0.02)


def test_no_frame_costs_nothing_and_mfcc_next_to_nothing():
    import transformers

    assert encoder_gflop(transformers.HubertConfig(), top_layer=12, num_samples=399) == 0
    assert encoder_gflop(None, top_layer=0, num_samples=16_000) == 0
