"""What a fuser computes: by hand, and against a plain loop."""

import math

import pytest
import torch
from made_fusion import (
    DIM,
    FUSIONS,
    SIZES,
    features_spec,
    fuser,
    lineage,
    make_books,
    mask,
    settings,
    tokens_spec,
    values,
)

from pipeline.errors import SettingsError
from pipeline.fusion.inputs import TokenEmbedding
from pipeline.fusion.spec import token_spec
from pipeline.fusion.weighing import Attention, masked_softmax


def loop(made, batch, real, present=None):
    """Fuse frame by frame and layer by layer, in float64."""
    made = made.double()
    spec, kind = made.spec, made.spec.settings.fusion
    there = range(len(spec.columns)) if present is None else [n for n in range(len(spec.columns)) if present[n]]
    if kind == "single":
        there = [n for n in there if spec.columns[n] == "layer_03"]
    starts = [sum(spec.num_clusters.get(name, 0) for name in spec.used[:n]) for n in range(len(spec.used))]
    fused = torch.zeros(*real.shape, made.dim, dtype=torch.float64)
    weights = torch.zeros(*real.shape, len(spec.columns), dtype=torch.float64)
    for b, t in real.nonzero().tolist():
        vectors = {}
        for n in there:
            if spec.kind == "tokens":
                place = spec.used.index(spec.columns[n])
                vectors[n] = made.inputs.table[starts[place] + int(batch[b, t, n])]
                continue
            x = batch[b, t, n].double()
            x = (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
            vectors[n] = x if made.inputs.projection is None else made.inputs.projection(x)
        if kind == "concat":
            width = made.inputs.dim
            absent = torch.zeros(width, dtype=torch.float64)
            side_by_side = torch.cat([vectors.get(n, absent) for n in range(len(spec.columns))])
            fused[b, t] = made.fusion.linear.weight @ side_by_side + made.fusion.linear.bias
            continue
        scores = dict.fromkeys(there, 0.0)
        if kind == "weighted":
            scores = {n: float(made.fusion.scores[n]) for n in there}
        if kind == "attention":
            first, second = made.fusion.first, made.fusion.second
            for n in there:
                hidden = [
                    max(0.0, float(row @ vectors[n] + bias)) for row, bias in zip(*first.parameters(), strict=True)
                ]
                scores[n] = sum(h * float(w) for h, w in zip(hidden, second.weight[0], strict=True))
        total = sum(math.exp(score) for score in scores.values())
        for n in there:
            weights[b, t, n] = math.exp(scores[n]) / total
            fused[b, t] += weights[b, t, n] * vectors[n]
    return fused.detach(), None if kind == "concat" else weights


def spec_of(kind, tmp_path, fusion, **others):
    return tokens_spec(tmp_path, fusion, **others) if kind == "tokens" else features_spec(fusion, **others)


@torch.no_grad()
@pytest.mark.parametrize("present", [None, (True, True, False)], ids=["all", "two of three"])
@pytest.mark.parametrize("width", [DIM, 6], ids=["as wide", "narrower"])
@pytest.mark.parametrize("kind", ["tokens", "features"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_fuser_is_a_plain_loop_over_frames_and_layers(fusion, kind, width, present, tmp_path):
    spec = spec_of(kind, tmp_path, fusion, embedding_dim=width)
    made, batch = fuser(spec), values(spec)
    fused = made(batch, mask(), None if present is None else torch.tensor(present))
    wanted, weights = loop(made, batch, mask(), present)
    error = (fused.values - wanted).abs().max()
    print(f"{fusion} of {kind}, width {width}: max abs error {error:.2e}")
    assert fused.values.shape == (2, 6, width) == (2, 6, made.dim)
    assert error < 2e-6
    if weights is None:
        assert fused.weights is None
    else:
        assert (fused.weights - weights).abs().max() < 2e-7


def test_attention_is_what_a_person_computes_by_hand():
    # Two layers of two tokens, width 2; the scorer has one hidden unit: relu(z0 - z1 + 1), times 2.
    inputs = TokenEmbedding(
        [2, 2], 2, [torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0, 3.0], [2, 1]])], frozen=True
    )
    scorer = Attention(2, 1)
    with torch.no_grad():
        scorer.first.weight.copy_(torch.tensor([[1.0, -1.0]]))
        scorer.first.bias.fill_(1.0)
        scorer.second.weight.fill_(2.0)
    usable = torch.ones(1, 2, 2, dtype=torch.bool)
    vectors = inputs(torch.tensor([[[0, 1], [1, 0]]]), usable)
    assert vectors.dense().tolist() == [[[[1, 0], [2, 1]], [[0, 1], [0, 3]]]]
    # Frame 0: relu(2) and relu(2), equal. Frame 1: relu(0) and relu(-2), equal too. Then token 0 of layer 0 meets
    # token 0 of layer 1: scores 4 and 0.
    assert masked_softmax(vectors.score(scorer), usable).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    vectors = inputs(torch.tensor([[[0, 0]]]), usable[:, :1])
    weights = masked_softmax(vectors.score(scorer), usable[:, :1])
    first = math.exp(4) / (math.exp(4) + 1)
    assert weights.tolist()[0][0] == pytest.approx([first, 1 - first], rel=1e-6)
    fused = vectors.weighted_sum(weights)
    assert fused.tolist()[0][0] == pytest.approx([first, 3 * (1 - first)], rel=1e-6)
    assert scorer.second.bias is None


@torch.no_grad()
def test_a_table_larger_than_the_batch_gives_the_same_scores(tmp_path):
    made = fuser(tokens_spec(tmp_path))
    batch = values(made.spec)
    whole = made(batch, mask())
    alone = [made(batch[:, t : t + 1], mask()[:, t : t + 1]).weights for t in range(6)]
    assert 2 * 3 < len(made.inputs.table) < batch.numel()
    error = (torch.cat(alone, dim=1) - whole.weights).abs().max()
    print(f"max abs error {error:.2e}")
    assert error < 1e-6


@torch.no_grad()
def test_equal_learned_weights_are_the_mean(tmp_path):
    weighted, mean = (fuser(tokens_spec(tmp_path, fusion)) for fusion in ("weighted", "mean"))
    weighted.fusion.scores.zero_()
    batch = values(mean.spec)
    assert torch.equal(weighted(batch, mask()).values, mean(batch, mask()).values)


@torch.no_grad()
def test_a_single_layer_is_its_embeddings_and_holds_no_others(tmp_path):
    made = fuser(tokens_spec(tmp_path, "single"))
    batch = values(made.spec)
    fused = made(batch, mask())
    assert made.inputs.table.shape == (SIZES[1], DIM)
    assert torch.equal(fused.values[mask()], made.inputs.table[batch[..., 1]][mask()])
    assert fused.weights[mask()].unique(dim=0).tolist() == [[0, 1, 0]]


@torch.no_grad()
@pytest.mark.parametrize(("scale", "most"), [(0.1, 2e-3), (1e3, 1e-4)])
def test_the_scale_of_a_layer_of_features_changes_nothing(scale, most):
    made = fuser(features_spec("mean"))
    batch = values(made.spec).float()
    louder = batch.clone()
    louder[:, :, 1] *= scale
    error = (made(batch, mask()).values - made(louder, mask()).values).abs().max()
    print(f"scale {scale}: max abs error {error:.2e}")
    # The layer norm adds 1e-5 to a variance, which is 1e-2 at the lower scale.
    assert error < most


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", ["tokens", "features"])
def test_bfloat16_autocast_stays_finite_and_leaves_parameters_float32(fusion, kind, tmp_path):
    made = fuser(spec_of(kind, tmp_path, fusion, embedding_dim=6))
    batch = values(made.spec)
    with torch.autocast("cpu", torch.bfloat16):
        fused = made(batch, mask(), torch.tensor([False, True, True]))
        loss = fused.values.float().square().sum()
    loss.backward()
    assert fused.values.isfinite().all()
    assert {tensor.dtype for tensor in made.state_dict().values()} <= {torch.float32}
    for name, weight in made.named_parameters():
        assert weight.grad.dtype == torch.float32, name
        assert weight.grad.isfinite().all(), name
    if fused.weights is not None:
        assert fused.weights.dtype == torch.float32
        assert (fused.weights.sum(-1)[mask()] - 1).abs().max() < 1e-6
    exact = made(batch, mask(), torch.tensor([False, True, True])).values
    # bfloat16 has 8 bits: 2 ** -8 of values that are about 1 to 4.
    assert (fused.values.float() - exact).abs().max() < 0.05


def test_a_fuser_of_tokens_refuses_features_and_the_other_way_round(tmp_path):
    tokens, features = fuser(tokens_spec(tmp_path)), fuser(features_spec())
    with pytest.raises(ValueError, match=r"tokens of 3 layers have 3 axes.*got \(2, 6, 3, 8\)"):
        tokens(values(features.spec), mask())
    with pytest.raises(ValueError, match="embeds tokens, which are integers; it was given torch.float32"):
        tokens(values(tokens.spec).float(), mask())
    with pytest.raises(ValueError, match=r"features of 3 layers have 4 axes.*got \(2, 6, 3\)"):
        features(values(tokens.spec), mask())
    with pytest.raises(ValueError, match="takes features of width 8; it was given"):
        features(values(features.spec)[..., :5], mask())


def test_a_narrower_concatenation_sees_features_whole():
    assert fuser(features_spec("concat", embedding_dim=2)).fusion.linear.weight.shape == (2, 3 * DIM)


def test_random_embeddings_without_a_known_width_need_one(tmp_path):
    unknown = {name: value for name, value in lineage(make_books()).items() if name != "dim"}
    with pytest.raises(SettingsError, match="do not say how wide their centroids are; give embedding_dim"):
        token_spec(settings(), unknown)
    assert token_spec(settings(embedding_dim=5), unknown).output_dim == 5
