"""Gradients reach every module that should learn and none that is frozen; what is frozen stays to the bit."""

import pytest
import torch
from made_features import write_codebooks
from made_fusion import (
    FUSIONS,
    INITS,
    features_spec,
    fuser,
    lineage,
    make_books,
    mask,
    settings,
    tokens_spec,
    values,
)
from torch.optim.swa_utils import AveragedModel

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.saved import write_fuser
from pipeline.fusion.spec import token_spec
from pipeline.training.optimizer import make_optimizer
from pipeline.training.settings import OptimizerSettings

LEARNS = {
    "attention": {"fusion.first.weight", "fusion.first.bias", "fusion.second.weight"},
    "single": set(),
    "mean": set(),
    "weighted": {"fusion.scores"},
    "concat": {"fusion.linear.weight", "fusion.linear.bias"},
}


def train(made, steps=3):
    """Update a fuser and a task of one linear map, and give the fuser's gradients of the first step."""
    torch.manual_seed(5)
    model = torch.nn.ModuleDict({"fuser": made, "task": torch.nn.Linear(made.dim, 4)})
    optimizer = make_optimizer(model, OptimizerSettings(lr=0.1, warmup_steps=0))
    first = None
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            model["task"](made(values(made.spec), mask()).values)[mask()], torch.arange(10) % 4
        ).backward()
        first = first or {name: float(weight.grad.abs().sum()) for name, weight in made.named_parameters()}
        optimizer.step()
    return first


def copied(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(("init", "frozen"), INITS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_module_that_should_learn_does_and_none_that_is_frozen(fusion, init, frozen, tmp_path):
    made = fuser(tokens_spec(tmp_path, fusion, embedding_init=init, freeze_embedding=frozen))
    wanted = LEARNS[fusion] | (set() if frozen else {"inputs.table"})
    before = copied(made)
    gradients = train(made)
    assert {name for name, size in (gradients or {}).items() if size > 0} == wanted
    assert set(dict(made.named_parameters())) == wanted
    assert changed(before, made) == wanted
    assert "inputs.table" in made.state_dict()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_embeddings_that_begin_as_centroids_are_the_centroids_of_their_layers(fusion, tmp_path):
    books = make_books()
    wanted = [books[1]] if fusion == "single" else books
    centroids = torch.cat([torch.from_numpy(book.centroids) for book in wanted])
    for frozen in (False, True):
        made = fuser(tokens_spec(tmp_path, fusion, embedding_init="centroids", freeze_embedding=frozen))
        assert torch.equal(made.inputs.table, centroids)
        train(made)
        assert torch.equal(made.inputs.table, centroids) is frozen


def test_centroids_are_found_by_hash_among_others_in_the_order_of_the_columns(tmp_path):
    books, others = make_books(), make_books(seed=9, sizes=(6, 8, 5))
    write_codebooks(tmp_path / "both", [*others, *books])
    chosen = settings(embedding_init="centroids")
    spec = token_spec(chosen, lineage(books), columns=("layer_06", "layer_01"), codebooks=str(tmp_path / "both"))
    table = torch.cat([torch.from_numpy(books[2].centroids), torch.from_numpy(books[0].centroids)])
    assert torch.equal(build_fuser(spec).inputs.table, table)


def test_centroids_of_other_codebooks_or_another_width_are_refused(tmp_path):
    books = make_books()
    write_codebooks(tmp_path / "others", [books[0], *make_books(seed=9)[1:]])
    chosen = settings(embedding_init="centroids")
    with pytest.raises(
        CodebookMismatchError, match=r"lacks the codebooks .*: layer_03 \(\w{12}\), layer_06 \(\w{12}\)"
    ):
        build_fuser(token_spec(chosen, lineage(books), codebooks=str(tmp_path / "others")))
    with pytest.raises(SettingsError, match="as wide as those, 8; got embedding_dim 16: give --embedding-dim 8"):
        tokens_spec(tmp_path, embedding_init="centroids", embedding_dim=16)
    unsaid = {**lineage(books), "dim": None}
    spec = token_spec(chosen.but(embedding_dim=16), unsaid, codebooks=tokens_spec(tmp_path).codebooks)
    with pytest.raises(SettingsError, match="as wide as those, 8; got embedding_dim 16: give --embedding-dim 8"):
        build_fuser(spec)
    with pytest.raises(SettingsError, match="copies the codebooks of the tokens; give codebooks"):
        token_spec(chosen, lineage(books))


@pytest.mark.parametrize("width", [8, 6])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_features_have_no_embeddings_and_a_map_only_where_widths_differ(fusion, width):
    made = fuser(features_spec(fusion, embedding_dim=width))
    mapped = {"inputs.projection.weight", "inputs.projection.bias"} if width != 8 and fusion != "concat" else set()
    before = copied(made)
    gradients = train(made)
    assert {name for name, size in (gradients or {}).items() if size > 0} == LEARNS[fusion] | mapped
    assert changed(before, made) == set(made.state_dict()) == LEARNS[fusion] | mapped


@pytest.mark.parametrize("init", ["random", "centroids"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_frozen_fuser_stays_to_the_bit_while_the_task_learns(fusion, init, tmp_path):
    source = fuser(tokens_spec(tmp_path, fusion, embedding_init=init), seed=3)
    write_fuser(str(tmp_path / "saved"), source.spec, source.state_dict())
    frozen = fuser(tokens_spec(tmp_path, fusion, fuser=str(tmp_path / "saved"), freeze_fuser=True))
    train(frozen)
    assert list(frozen.parameters()) == []
    assert changed(copied(source), frozen) == set()
    learning = fuser(tokens_spec(tmp_path, fusion, fuser=str(tmp_path / "saved")))
    train(learning)
    assert changed(copied(source), learning) == set(learning.state_dict())


def test_an_average_of_weights_holds_what_is_frozen_too(tmp_path):
    made = fuser(tokens_spec(tmp_path, embedding_init="centroids", freeze_embedding=True))
    average = AveragedModel(made)
    train(made)
    average.update_parameters(made)
    assert torch.equal(average.module.inputs.table, made.inputs.table)
    assert torch.equal(average.module(values(made.spec), mask()).weights, made(values(made.spec), mask()).weights)


def test_random_embeddings_follow_from_the_seed(tmp_path):
    spec = tokens_spec(tmp_path)
    one, same, other = (fuser(spec, seed=seed).inputs.table for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
