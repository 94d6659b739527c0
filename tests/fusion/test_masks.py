"""What is not there changes nothing: padding, batch neighbours, absent layers, whatever ids stand there."""

import pytest
import torch
from made_fusion import FUSIONS, LENGTHS, features_spec, fuser, mask, tokens_spec, values

KINDS = ("tokens", "features")
WEIGHING = [fusion for fusion in FUSIONS if fusion != "concat"]


def spec_of(kind, tmp_path, fusion, **others):
    return tokens_spec(tmp_path, fusion, **others) if kind == "tokens" else features_spec(fusion, **others)


def nonsense(batch):
    """Give values that no dataset has: ids far out of range, or features that are no numbers."""
    if batch.is_floating_point():
        return torch.full_like(batch, float("nan"))
    signs = torch.arange(batch.numel()).reshape(batch.shape) % 2
    return torch.where(signs == 0, torch.tensor(-(2**40)), torch.tensor(2**40))


def filled(batch, where):
    """Put nonsense where a mask (B, T, L) says."""
    where = where if batch.ndim == 3 else where.unsqueeze(-1)
    return torch.where(where, nonsense(batch), batch)


def error(one, other):
    assert one.isfinite().all()
    assert other.isfinite().all()
    return float((one - other).abs().max())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_and_batch_neighbours_change_no_output(fusion, kind, tmp_path):
    made = fuser(spec_of(kind, tmp_path, fusion, embedding_dim=6))
    batch = values(made.spec)
    fused = made(filled(batch, ~mask()[..., None].expand(2, 6, 3)), mask())
    worst = 0.0
    for row, length in enumerate(LENGTHS):
        alone = made(batch[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        worst = max(worst, error(fused.values[row, :length], alone.values[0]))
        if fused.weights is not None:
            worst = max(worst, error(fused.weights[row, :length], alone.weights[0]))
    print(f"{fusion} of {kind}: max abs error {worst:.2e}")
    assert worst < 1e-6
    assert fused.values[~mask()].eq(0).all()
    assert fused.weights is None or fused.weights[~mask()].eq(0).all()


@torch.no_grad()
@pytest.mark.parametrize("rows", ["all rows", "one row"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_whatever_stands_in_an_absent_layer_changes_no_output(fusion, kind, rows, tmp_path):
    made = fuser(spec_of(kind, tmp_path, fusion))
    batch = values(made.spec)
    present = torch.tensor([False, True, True])
    if rows == "one row":
        present = torch.stack([present, torch.tensor([True, True, True])])
    absent = ~present.expand(2, 3)[:, None].expand(2, 6, 3)
    clean, dirty = made(batch, mask(), present), made(filled(batch, absent), mask(), present)
    worst = error(clean.values, dirty.values)
    print(f"{fusion} of {kind}, {rows}: max abs error {worst:.2e}")
    assert worst == 0
    if clean.weights is not None:
        assert clean.weights[absent].eq(0).all()
        assert (clean.weights.sum(-1)[mask()] - 1).abs().max() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "single"])
def test_each_frame_may_have_layers_of_its_own(fusion, kind, tmp_path):
    made = fuser(spec_of(kind, tmp_path, fusion))
    batch = values(made.spec)
    sets = torch.tensor([[True, False, False], [True, True, False], [False, True, True]])
    chosen = torch.arange(12).reshape(2, 6) % 3
    mixed = made(batch, mask(), sets[chosen])
    for number, present in enumerate(sets):
        whole = made(batch, mask(), present)
        here = (chosen == number) & mask()
        assert torch.equal(mixed.values[here], whole.values[here])
        assert mixed.weights is None or torch.equal(mixed.weights[here], whole.weights[here])


@torch.no_grad()
@pytest.mark.parametrize("fusion", [fusion for fusion in WEIGHING if fusion != "single"])
def test_an_absent_layer_is_a_fuser_without_it(fusion, tmp_path):
    made = fuser(tokens_spec(tmp_path, fusion))
    fewer = fuser(tokens_spec(tmp_path, fusion, columns=("layer_01", "layer_06")))
    table = made.inputs.table
    state = {**made.state_dict(), "inputs.table": torch.cat([table[:5], table[12:]])}
    if fusion == "weighted":
        state["fusion.scores"] = made.fusion.scores[[0, 2]]
    fewer.load_state_dict(state)
    batch = values(made.spec)
    with_three = made(batch, mask(), torch.tensor([True, False, True]))
    with_two = fewer(batch[..., [0, 2]], mask())
    worst = max(error(with_three.values, with_two.values), error(with_three.weights[..., [0, 2]], with_two.weights))
    print(f"{fusion}: max abs error {worst:.2e}")
    assert worst < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_nothing_is_learned_from_padding_and_absent_layers(fusion, kind, tmp_path):
    present = torch.tensor([False, True, True])
    gradients = []
    for dirty in (False, True):
        made = fuser(spec_of(kind, tmp_path, fusion, embedding_dim=6))
        batch = values(made.spec)
        if dirty:
            batch = filled(batch, ~(mask()[..., None] & present))
        # Whoever computes a loss of padding too would learn nothing from it.
        fused = made(batch, mask(), present)
        (fused.values * torch.arange(1, 7)).sum().backward()
        gradients.append({name: weight.grad for name, weight in made.named_parameters()})
    for name, clean in gradients[0].items():
        assert clean is not None, name
        assert torch.equal(clean, gradients[1][name]), name
    if kind == "tokens" and fusion != "single":
        assert gradients[0]["inputs.table"][:5].eq(0).all()
        assert gradients[0]["inputs.table"][5:].abs().sum() > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_features_in_padding_and_absent_layers_get_no_gradient(fusion):
    made = fuser(features_spec(fusion))
    batch = values(made.spec).float().requires_grad_()
    present = torch.tensor([False, True, True])
    made(batch, mask(), present).values.square().sum().backward()
    usable = mask()[..., None] & present
    if fusion == "single":
        usable = usable & torch.tensor([False, True, False])
    assert batch.grad[~usable].eq(0).all()
    assert batch.grad[usable].abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_tensors_of_the_caller_stay_as_they_are(fusion, kind, tmp_path):
    made = fuser(spec_of(kind, tmp_path, fusion))
    batch, real, present = values(made.spec), mask(), torch.tensor([True, True, False])
    before = [each.clone() for each in (batch, real, present)]
    versions = [each._version for each in (batch, real, present)]
    made(batch, real, present)
    assert all(torch.equal(now, old) for now, old in zip((batch, real, present), before, strict=True))
    assert [each._version for each in (batch, real, present)] == versions


@torch.no_grad()
@pytest.mark.parametrize("bad", [-1, 7, 2**40])
def test_an_id_out_of_range_in_a_real_frame_is_refused_and_never_that_of_another_layer(bad, tmp_path):
    made = fuser(tokens_spec(tmp_path))
    batch = values(made.spec)
    batch[1, 2, 1] = bad
    with pytest.raises(ValueError, match=rf"token {bad} at row 1, frame 2, layer 1 of the input is not in 0 to 6"):
        made(batch, mask())


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_without_any_layer_is_refused_and_an_empty_row_is_not(fusion, tmp_path):
    made = fuser(tokens_spec(tmp_path, fusion))
    batch, real = values(made.spec), mask()
    present = torch.tensor([[True, True, True], [False, False, False]])
    with pytest.raises(ValueError, match=r"row\(s\) 1 of the batch have frames and no layer to fuse"):
        made(batch, real, present)
    with pytest.raises(ValueError, match=r"row\(s\) 0, 1 of the batch have frames"):
        made(batch, real, torch.zeros(3, dtype=torch.bool))
    real[1] = False
    fused = made(batch, real, present)
    assert fused.values[1].eq(0).all()
    assert fused.values.isfinite().all()


@torch.no_grad()
def test_a_single_layer_that_is_absent_is_refused_by_name(tmp_path):
    made = fuser(tokens_spec(tmp_path, "single"))
    with pytest.raises(ValueError, match="of layer_03 none is present"):
        made(values(made.spec), mask(), torch.tensor([True, False, True]))


@torch.no_grad()
def test_masks_that_are_not_bool_or_of_other_shapes_are_refused(tmp_path):
    made = fuser(tokens_spec(tmp_path))
    batch = values(made.spec)
    with pytest.raises(ValueError, match="masks of frames and of layers are bool"):
        made(batch, mask().float())
    with pytest.raises(ValueError, match=r"rows and frames as the mask \(2, 5\)"):
        made(batch, mask()[:, :5])
    with pytest.raises(ValueError, match=r"present says of 3 layers, or of each row, or of each frame, got \(2,\)"):
        made(batch, mask(), torch.ones(2, dtype=torch.bool))
