"""Optimizers by their settings, and their state as named tensors, whatever the algorithm.

Source: Loshchilov and Hutter 2019, arXiv 1711.05101 (AdamW); Kingma and Ba 2015, arXiv 1412.6980 (Adam); Zeiler 2012,
arXiv 1212.5701 (Adadelta).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from pipeline.errors import CheckpointError
from pipeline.training.settings import OptimizerSettings

_STATE = "state."
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def make_optimizer(module: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Make the optimizer of a network's weights; vectors and scalars have no weight decay."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    split = (
        ([parameter for parameter in trained if parameter.ndim > 1], settings.weight_decay),
        ([parameter for parameter in trained if parameter.ndim <= 1], 0.0),
    )
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay} for parameters, decay in split if parameters
    ]
    betas = (settings.beta1, settings.beta2)
    if settings.algorithm == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=True)
    if settings.algorithm == "adam":
        return torch.optim.Adam(groups, lr=settings.lr, betas=betas, eps=settings.eps, fused=True)
    if settings.algorithm == "adadelta":
        return torch.optim.Adadelta(groups, lr=settings.lr, rho=settings.rho, eps=settings.eps)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def optimizer_state(module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Give what an optimizer remembers as named tensors, ``state.WEIGHT.NAME``; call it after a first step.

    Settings and learning rates are not in it: they come from the run's settings and its step.
    """
    found: Mapping[str, Any] = get_optimizer_state_dict(module, optimizer, options=_FLAT)
    return {name: value for name, value in found.items() if name.startswith(_STATE) and torch.is_tensor(value)}


def restore_optimizer(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer, found: Mapping[str, torch.Tensor]
) -> None:
    """Take up what ``optimizer_state`` gave; what was given stays as it was.

    Raises:
        CheckpointError: A weight has no state in it, or one of another shape.
    """
    # Fresh state has every name, and the settings of the groups, which torch asks for.
    own: dict[str, Any] = dict(get_optimizer_state_dict(module, optimizer, options=_FLAT))
    for name, fresh in own.items():
        if name.startswith(_STATE) and torch.is_tensor(fresh):
            given = found.get(name)
            if given is None or given.shape != fresh.shape:
                raise CheckpointError(f"the checkpoint has no {name} {tuple(fresh.shape)}")
            own[name] = given.clone()
    set_optimizer_state_dict(module, optimizer, own, options=_FLAT)
