"""AdamW with warm-up and decay, and its state as named tensors.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
"""

import math

import torch

from pipeline.errors import CheckpointError
from pipeline.training.settings import TrainingSettings

_MOMENTS = ("exp_avg", "exp_avg_sq")


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Give the learning rate of a step.

    Args:
        settings: Highest rate, warm-up, decay and number of steps.
        step: From 0.

    Returns:
        A linear rise to the highest rate over the warm-up, then a fall to ``lr_end`` of it at the last step.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.num_steps - 1 - settings.warmup_steps)
    left = 1 - done if settings.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return settings.lr * (settings.lr_end + (1 - settings.lr_end) * left)


def make_optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """Make AdamW over a model's parameters; vectors and scalars have no weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=1e-6, fused=True)


def moments(model: torch.nn.Module, optimizer: torch.optim.AdamW) -> dict[str, torch.Tensor]:
    """Give the optimizer's state as named tensors on the CPU, ``exp_avg.NAME`` and ``exp_avg_sq.NAME``."""
    found = {}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state[parameter]:
                found[f"{moment}.{name}"] = optimizer.state[parameter][moment].detach().cpu().contiguous()
    return found


def restore_moments(
    model: torch.nn.Module, optimizer: torch.optim.AdamW, found: dict[str, torch.Tensor], step: int
) -> None:
    """Take up what ``moments`` gave after a number of steps.

    Raises:
        CheckpointError: A parameter has no moments in it, or they have another shape.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        for moment in _MOMENTS:
            tensor = found.get(f"{moment}.{name}")
            if tensor is None or tensor.shape != parameter.shape:
                raise CheckpointError(f"the checkpoint has no {moment} of {name} {tuple(parameter.shape)}")
            optimizer.state[parameter][moment] = tensor.to(parameter.device, torch.float32).clone()
        optimizer.state[parameter]["step"] = torch.tensor(float(step), device=_step_device(parameter))


def _step_device(parameter: torch.Tensor) -> torch.device:
    # Fused AdamW counts its steps where the parameter is.
    return parameter.device
