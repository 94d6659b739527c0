"""The Conformer: its attention against one written out, nothing heard of padding, and no more context than it says."""

import pytest
import torch
from torch.nn.functional import layer_norm

from pipeline.errors import SettingsError
from pipeline.tasks.blocks.conformer import Conformer, WindowedAttention, window
from pipeline.tasks.blocks.settings import ConformerSettings

DIM = 12
SMALL = {"conformer_layers": 2, "conformer_width": 16, "conformer_heads": 2, "conformer_ffn": 24}


def settings(**changes):
    return ConformerSettings(**{**SMALL, "conformer_kernel": 5, "attention_frames": 4, **changes})


def conformer(**changes):
    torch.manual_seed(0)
    return Conformer(DIM, settings(**changes)).eval()


def mask_of(lengths, num_frames):
    return torch.arange(num_frames) < torch.tensor(lengths)[:, None]


def written_out(attention, values, lengths, reach):
    """Give the attention of each query over the frames that it may hear, one after the other, in float64."""
    batch, num_frames, width = values.shape
    half = width // attention.heads // 2
    rates = [10_000.0 ** -(number / half) for number in range(half)]
    mixed = torch.nn.functional.linear(
        values.double(), attention.queries_keys_values.weight.double(), attention.queries_keys_values.bias.double()
    ).view(batch, num_frames, 3, attention.heads, 2 * half)
    found = torch.zeros(batch, num_frames, width, dtype=torch.float64)
    for row, length in enumerate(lengths):
        for frame in range(length):
            heads = []
            near = [other for other in range(length) if abs(other - frame) <= reach]
            for head in range(attention.heads):
                query, keys, heard = mixed[row, frame, 0, head], mixed[row, :, 1, head], mixed[row, :, 2, head]
                scores = []
                for other in near:
                    score = 0.0
                    for place, rate in enumerate(rates):
                        # A pair of channels is a complex number, turned by the distance.
                        one = torch.complex(query[place], query[place + half])
                        two = torch.complex(keys[other, place], keys[other, place + half])
                        angle = torch.tensor((frame - other) * rate, dtype=torch.float64)
                        score = score + (one * two.conj() * torch.polar(torch.ones_like(angle), angle)).real
                    scores.append(score / (2 * half) ** 0.5)
                weights = torch.stack(scores).softmax(0)
                heads.append(sum(weight * heard[other] for weight, other in zip(weights, near, strict=True)))
            found[row, frame] = torch.cat(heads)
    return torch.nn.functional.linear(found, attention.output.weight.double(), attention.output.bias.double()).detach()


@pytest.mark.parametrize(("lengths", "reach"), [((11, 7), 3), ((9, 9), 3), ((5, 2), 8), ((1,), 4), ((13,), 1)])
def test_attention_is_that_over_the_real_frames_of_the_window_by_their_distance(lengths, reach):
    torch.manual_seed(1)
    attention = WindowedAttention(16, 2, 0.0).eval()
    values = torch.randn(len(lengths), max(lengths), 16)
    mask = mask_of(lengths, max(lengths))
    found = attention(values, window(mask, reach)).detach()
    expected = written_out(attention, values, lengths, reach)
    assert float((found - expected)[mask].abs().max()) < 1e-5


def test_a_block_is_half_steps_around_attention_and_convolution_and_a_norm():
    block = conformer().blocks[0]
    values, mask = torch.randn(2, 9, 16), mask_of((9, 9), 9)
    around = window(mask, 4)
    first = block.first.narrow(torch.nn.functional.silu(block.first.widen(block.first.norm(values))))
    one = values + 0.5 * first
    two = one + block.attention(block.attention_norm(one), around)
    gate, by = block.convolution.gate(block.convolution.norm(two)).chunk(2, dim=-1)
    seen = block.convolution.depthwise((gate * torch.sigmoid(by)).transpose(1, 2)).transpose(1, 2)
    seen = layer_norm(seen, (16,), block.convolution.middle.weight, block.convolution.middle.bias)
    three = two + block.convolution.output(seen * torch.sigmoid(seen))
    expected = block.norm(three + 0.5 * block.second(three))
    torch.testing.assert_close(block(values, mask, around), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 30])
def test_a_row_in_a_batch_gives_what_it_gives_alone(num_frames):
    model = conformer()
    frames = torch.randn(3, 33, DIM)
    lengths = (33, num_frames, 7)
    mask = mask_of(lengths, 33)
    together = model(torch.where(mask[..., None], frames, 1e4), mask).detach()
    for row, length in enumerate(lengths):
        alone = model(frames[row : row + 1, :length], mask_of((length,), length)).detach()[0]
        assert float((together[row, :length] - alone).abs().max()) < 1e-5
        assert not together[row, length:].any()


def test_an_output_depends_on_its_context_to_each_side_and_on_no_more():
    model = conformer()
    assert model.context_frames == 2 * (4 + 2)
    frames = torch.randn(1, 60, DIM, requires_grad=True)
    model(frames, mask_of((60,), 60))[0, 30].square().sum().backward()
    heard = frames.grad[0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert heard == list(range(30 - 12, 30 + 12 + 1))


def test_what_lies_in_padding_changes_no_gradient():
    def gradients(fill):
        model = conformer(conformer_dropout=0.0).train()
        frames = torch.randn(2, 20, DIM, generator=torch.Generator().manual_seed(1))
        mask = mask_of((20, 6), 20)
        model(torch.where(mask[..., None], frames, fill), mask).square().sum().backward()
        return [weights.grad for weights in model.parameters()]

    for one, other in zip(gradients(0.0), gradients(1e4), strict=True):
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conformer_width": 18}, "conformer_width must be a multiple of twice conformer_heads 2"),
        ({"conformer_kernel": 4}, "conformer_kernel must be odd"),
        ({"attention_frames": 0}, "attention_frames must be at least 1, got 0"),
        ({"conformer_dropout": 1.0}, r"conformer_dropout must be in \[0, 1\)"),
    ],
)
def test_sizes_that_make_no_network_are_refused(changes, said):
    with pytest.raises(SettingsError, match=said):
        settings(**changes)
