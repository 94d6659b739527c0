"""The model: its losses against torch by hand, what they depend on, its heads, and the weights it begins with."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity, cross_entropy

from pipeline.errors import EncoderError
from pipeline.pretraining.model import MASKED, UNMASKED, CosineHead, MaskedPrediction, build_encoder
from pipeline.pretraining.shapes import SHAPES, network_config

TINY = {"num_layers": 2, "width": 24, "conv_dim": [12] * 7, "num_conv_pos_embeddings": 16}


@pytest.fixture(scope="module")
def tiny(small_encoder):
    """The folder of a tiny HuBERT."""
    return small_encoder(kind="hubert", **TINY)


def model(folder, head="linear", num_clusters=(8, 5)):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = build_encoder(network_config(None, dropout=0.0, layerdrop=0.0), str(folder))
        return MaskedPrediction(encoder, num_clusters, head).eval()


def batch(rows=3, frames=20, num_clusters=(8, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(count, (rows, frames), generator=generator) for count in num_clusters]
    mask = torch.rand(rows, frames, generator=generator) < 0.5
    mask[:, 0], mask[:, 1] = True, False
    waveform = torch.randn(rows, 400 + 320 * (frames - 1), generator=generator)
    return {"waveform": waveform, "targets": torch.stack(columns, dim=2), "mask": mask}


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_losses_are_sums_over_frames_averaged_over_targets(tiny, head):
    network, given = model(tiny, head), batch()
    with torch.no_grad():
        found = network(**given)
        hidden = network.encoder(given["waveform"], mask_time_indices=given["mask"]).last_hidden_state
        for name, chosen in ((MASKED, given["mask"]), (UNMASKED, ~given["mask"])):
            losses, right = [], []
            for place, head_ in enumerate(network.heads):
                logits, targets = head_(hidden[chosen]), given["targets"][..., place][chosen]
                losses.append(cross_entropy(logits, targets, reduction="sum"))
                right.append((logits.argmax(dim=1) == targets).sum())
            torch.testing.assert_close(found[name], torch.stack(losses).mean())
            accuracy = found[f"{name}_accuracy"]
            torch.testing.assert_close(accuracy.value, torch.stack(right).float().mean())
            assert accuracy.count == chosen.sum()
    assert set(found) == {MASKED, UNMASKED, f"{MASKED}_accuracy", f"{UNMASKED}_accuracy"}


def test_the_loss_of_two_micro_batches_is_the_sum_of_theirs(tiny):
    network, given = model(tiny), batch(rows=4)
    with torch.no_grad():
        whole = network(**given)
        halves = [network(**{name: value[rows] for name, value in given.items()}) for rows in ([0, 1], [2, 3])]
    for name in (MASKED, UNMASKED):
        torch.testing.assert_close(whole[name], halves[0][name] + halves[1][name], rtol=1e-5, atol=1e-4)
        right = [found[f"{name}_accuracy"].value for found in (whole, *halves)]
        torch.testing.assert_close(right[0], right[1] + right[2], rtol=1e-5, atol=1e-4)


def test_targets_of_frames_that_are_heard_do_not_change_the_masked_loss(tiny):
    network, given = model(tiny), batch()
    other = given["targets"].clone()
    other[~given["mask"]] = (other[~given["mask"]] + 1) % 5
    with torch.no_grad():
        found, changed = network(**given), network(**{**given, "targets": other})
    assert torch.equal(found[MASKED], changed[MASKED])
    assert not torch.equal(found[UNMASKED], changed[UNMASKED])


def test_the_encoder_does_not_hear_masked_frames(tiny):
    """Audio that masked frames alone hear may change; a mask that is not looked at would show it."""
    network, given = model(tiny), batch(rows=1, frames=30)
    given["mask"][:] = False
    given["mask"][:, 10:20] = True
    other = given["waveform"].clone()
    # Frames 10 to 19 hear these samples; 9 and 20 hear none of them.
    other[:, 9 * 320 + 400 : 20 * 320] = 0
    with torch.no_grad():
        found, changed = network(**given), network(**{**given, "waveform": other})
        heard = network(**{**given, "mask": torch.zeros_like(given["mask"])})
    torch.testing.assert_close(found[MASKED], changed[MASKED])
    assert abs(float(heard[UNMASKED] - found[MASKED] - found[UNMASKED])) > 1e-3


@pytest.mark.parametrize("published", [{"apply_spec_augment": False}, {"mask_feature_prob": 0.9}])
def test_masks_are_those_given_whatever_the_first_encoder_says_of_its_own(small_encoder, published):
    plain = model(small_encoder(kind="hubert", **TINY)).train()
    told = model(small_encoder(kind="hubert", **TINY, **published)).train()
    given = batch(rows=2, frames=40)
    given["mask"][:] = True
    with torch.no_grad():
        assert torch.equal(told(**given)[MASKED], plain(**given)[MASKED])


def test_cosine_logits_are_cosines_over_the_temperature():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head, hidden = CosineHead(24, 8), 100 * torch.randn(50, 24)
    with torch.no_grad():
        logits = head(hidden)
        projected = head.projection(hidden)
        expected = cosine_similarity(projected[:, None], head.embeddings[None], dim=2) / 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert logits.abs().max() <= 10 + 1e-4
    assert logits.std() > 0.1


def test_cosines_are_not_rounded_to_bfloat16():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head, hidden = CosineHead(24, 8), torch.randn(50, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = head(hidden)
        projected = head.projection(hidden)
    assert (found.dtype, projected.dtype) == (torch.float32, torch.bfloat16)
    expected = cosine_similarity(projected.float()[:, None], head.embeddings[None], dim=2) / 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_every_parameter_gets_a_gradient(tiny):
    for head in ("linear", "cosine"):
        network = model(tiny, head).train()
        network(**batch())[MASKED].backward()
        assert [name for name, p in network.named_parameters() if p.grad is None] == []


def published(folder, target, change):
    """Copy an encoder's folder, its tensors changed."""
    shutil.copytree(folder, target)
    save_file(change(load_file(target / "model.safetensors")), target / "model.safetensors", metadata={"format": "pt"})
    return target


FORMS = {
    "plain": lambda tensors: tensors,
    "with_a_head": lambda tensors: {f"hubert.{n}": t for n, t in tensors.items()} | {"lm_head.bias": torch.zeros(3)},
    "no_mask": lambda tensors: {n: t for n, t in tensors.items() if n != "masked_spec_embed"},
    "no_mask_with_a_head": lambda tensors: {f"hubert.{n}": t for n, t in tensors.items() if n != "masked_spec_embed"},
    "float16": lambda tensors: {n: t.half() for n, t in tensors.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_training_begins_with_the_weights_of_the_encoder_that_is_given(tiny, tmp_path, form):
    folder = published(Path(tiny), tmp_path / form, FORMS[form])
    wanted = load_file(Path(tiny) / "model.safetensors")
    found = build_encoder(network_config(None, dropout=0.1, layerdrop=0.0), str(folder)).state_dict()
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        if name == "masked_spec_embed" and form.startswith("no_mask"):
            assert torch.isfinite(found[name]).all()
            continue
        rounded = tensor.half().float() if form == "float16" else tensor
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], rounded), name


def test_an_old_bin_checkpoint_gives_the_same_weights(small_encoder, tiny):
    old = small_encoder(kind="hubert", file_format="bin", **TINY)
    fields = network_config(None, dropout=0.0, layerdrop=0.0)
    new, found = build_encoder(fields, tiny).state_dict(), build_encoder(fields, old).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in new.items())


def test_weights_that_are_not_whole_are_refused(tiny, tmp_path):
    folder = published(Path(tiny), tmp_path / "half", lambda tensors: dict(list(sorted(tensors.items()))[4:]))
    with pytest.raises(EncoderError, match="missing"):
        build_encoder(network_config(None, dropout=0.0, layerdrop=0.0), str(folder))


def test_dropout_is_that_of_the_settings_and_the_shape_that_of_the_folder(small_encoder):
    folder = small_encoder(kind="hubert", **TINY, hidden_dropout=0.3, layerdrop=0.5)
    config = build_encoder(network_config(None, dropout=0.2, layerdrop=0.0), folder).config
    assert (config.hidden_dropout, config.attention_dropout, config.feat_proj_dropout) == (0.2, 0.2, 0.2)
    assert (config.layerdrop, config.activation_dropout, config.hidden_size) == (0.0, 0.0, 24)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_clock_of_hubert(shape):
    from transformers import HubertConfig

    config = HubertConfig(**network_config(shape, dropout=0.0, layerdrop=0.0))
    field, hop = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field, hop = field + (kernel - 1) * hop, hop * stride
    assert (field, hop) == (400, 320)


def test_a_shape_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="small, base, large"):
        network_config("huge", dropout=0.0, layerdrop=0.0)


def test_the_small_shape_is_small_and_the_same_seed_gives_the_same_weights():
    networks = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            networks.append(build_encoder(network_config("small", dropout=0.0, layerdrop=0.0), None).state_dict())
    assert sum(tensor.numel() for tensor in networks[0].values()) < 5e6
    assert all(torch.equal(networks[1][name], tensor) for name, tensor in networks[0].items())
    assert not all(torch.equal(networks[2][name], tensor) for name, tensor in networks[0].items())
