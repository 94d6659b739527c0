import copy

import pytest
import torch
import transformers

from pipeline.features.encoders import attention
from pipeline.features.encoders.attention import use_sdpa
from pipeline.features.encoders.encoder import SslEncoder


def wavlm(stable, num_layers=3):
    torch.manual_seed(5)
    config = transformers.WavLMConfig(
        hidden_size=48,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=96,
        conv_dim=[32] * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=stable,
        # Beyond 40 frames all distances share a bucket: the utterances here reach it.
        num_buckets=32,
        max_bucket_distance=40,
        mask_time_prob=0.0,
        layerdrop=0.0,
    )
    network = transformers.WavLMModel(config).eval()
    for block in network.encoder.layers:
        # As trained networks have them; at their start all gates are alike and the bias is near nothing.
        torch.nn.init.normal_(block.attention.gru_rel_pos_const)
        torch.nn.init.normal_(block.attention.gru_rel_pos_linear.weight)
    torch.nn.init.normal_(network.encoder.layers[0].attention.rel_attn_embed.weight, std=3.0)
    return network


def both(network):
    ours = copy.deepcopy(network)
    use_sdpa(ours)
    return network, ours


def layers(network, waveform, mask=None):
    with torch.inference_mode():
        return network(waveform, attention_mask=mask, output_hidden_states=True).hidden_states


# 4 rows of 4 heads and 99 frames: all at once, rows, heads, queries, and one query at a time.
@pytest.mark.parametrize("elements", [2**23, 2 * 4 * 99**2, 3 * 99**2, 30 * 99, 1])
@pytest.mark.parametrize("stable", [True, False], ids=["norm first", "norm last"])
def test_every_layer_equals_transformers_with_padding_and_without(monkeypatch, stable, elements):
    monkeypatch.setitem(attention.MASK_ELEMENTS, "cpu", elements)
    monkeypatch.setattr(attention, "MIN_QUERIES", 1)
    theirs, ours = both(wavlm(stable))
    lengths = torch.tensor([32_000, 8_000, 31_999, 400])
    waveform = torch.randn(4, 32_000)
    mask = (torch.arange(32_000) < lengths[:, None]).long()
    for given in (mask, None):
        for expected, found in zip(layers(theirs, waveform, given), layers(ours, waveform, given), strict=True):
            for row, length in enumerate(lengths.tolist() if given is not None else [32_000] * 4):
                frames = (length - 400) // 320 + 1
                torch.testing.assert_close(found[row, :frames], expected[row, :frames], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "elements", "count"),
    [
        ((4, 12, 499), 2**23, 2),
        ((1, 12, 1499), 2**23, 4),
        ((2, 12, 2999), 2**23, 24),
        ((1, 2, 5999), 2**23, 8),
        ((1, 1, 1), 1, 1),
        ((3, 1, 800), 1, 3),
    ],
)
def test_pieces_hold_each_query_once_and_no_more_scores_than_agreed(shape, elements, count):
    seen = torch.zeros(shape, dtype=torch.int64)
    found = list(attention.pieces(shape, elements))
    for piece in found:
        seen[piece] += 1
        assert seen[piece].numel() * shape[-1] <= 2 * max(elements, attention.MIN_QUERIES * shape[-1])
    assert (seen == 1).all()
    assert len(found) == count


@pytest.mark.parametrize("num_samples", [400, 720, 16_000, 70_000])
def test_every_length_equals_transformers(num_samples):
    theirs, ours = both(wavlm(True))
    waveform = torch.randn(1, num_samples)
    for expected, found in zip(layers(theirs, waveform), layers(ours, waveform), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_bias_and_its_gate_matter_in_these_networks():
    network = wavlm(True)
    waveform = torch.randn(1, 16_000)
    before = layers(network, waveform)[-1]
    with torch.no_grad():
        network.encoder.layers[0].attention.rel_attn_embed.weight.zero_()
    assert (layers(network, waveform)[-1] - before).abs().max() > 0.01


def test_bfloat16_is_as_near_to_float32_as_transformers_is():
    theirs, ours = both(wavlm(True))
    waveform = torch.randn(2, 32_000)
    exact = layers(theirs, waveform)[-1]
    theirs, ours = theirs.bfloat16(), ours.bfloat16()
    wrong = [
        (layers(network, waveform.bfloat16())[-1].float() - exact).abs().mean().item() for network in (ours, theirs)
    ]
    assert wrong[0] < 1.2 * wrong[1]


def test_the_state_dict_keeps_its_names_and_tensors():
    theirs, ours = both(wavlm(False))
    expected, found = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_other_networks_are_left_alone(small_encoder):
    network = transformers.HubertModel.from_pretrained(small_encoder("hubert"))
    before = [type(module) for module in network.modules()]
    use_sdpa(network)
    assert [type(module) for module in network.modules()] == before


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
def test_a_loaded_encoder_calls_the_fused_kernel_in_every_block(small_encoder, monkeypatch, kind):
    encoder = SslEncoder.from_pretrained(small_encoder(kind), layers=[3])
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*arguments, **options):
        calls.append(arguments[0].shape)
        return fused(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(attention, "scaled_dot_product_attention", counted)
    encoder.encode([torch.randn(16_000).numpy()])
    assert len(calls) == 3
