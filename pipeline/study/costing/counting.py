"""Counts the operations of networks whose weights have a shape and no memory.

torch's own counter sees every matrix product and convolution, forward and backward. What it gets wrong is mended here:

- An LSTM's kernel (cuDNN's, oneDNN's) counts nothing. Its products are computed for all frames at once instead: 8 H
  (D + H) operations a frame of width D and H units, twice that backward.
- A fused attention counts nothing on a CPU, and recomputes on a GPU: it is computed as two products.
- The gradient of a grouped convolution counts as that of a full one: it is as much again as the forward pass for each
  of input and weights that wants one.

Look-ups of embeddings and their weighted sum count nothing and stay out: 2 L H operations a frame, far under 1 %.
Weights are fake; tokens and masks are real, so that what networks look at in them (is anything padded?) has an answer.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.study.costing.networks import task_batch, task_model, vocoder_batch, vocoder_recipe
from pipeline.study.costing.shapes import StepCost, TokenShape
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.source import FRAMES
from pipeline.training.recipe import Modules, Phase, Sums, Tensors
from pipeline.vocoder.network import Vocoder
from pipeline.vocoder.training.recipe import GENERATOR, VocoderRecipe
from pipeline.vocoder.training.settings import TrainVocoderConfig
from pipeline.vocoder.training.source import JUDGED, PRESENT, SPEAKER

_aten = torch.ops.aten


def count_task(config: TrainTaskConfig, shape: TokenShape) -> StepCost:
    """Count a task; see ``step_flops``."""
    with _own_random_numbers():
        model = task_model(config, shape)
    batch = task_batch(config, shape)
    weightless(model)
    model.train()
    forward, both = count_passes(lambda: model(batch)[1])
    seconds = _seconds(batch, shape)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return StepCost(
        parameters=parameters,
        saved_parameters=_saved(model),
        audio_seconds=seconds * config.training.batches_per_step,
        forward=forward / seconds,
        training=both / seconds,
    )


def count_vocoder(config: TrainVocoderConfig, shape: TokenShape) -> StepCost:
    """Count a vocoder; see ``step_flops``. Steps before the discriminators begin weigh in as many as they are."""
    recipe, batch = vocoder_recipe(config, shape), vocoder_batch(config, shape)
    with _own_random_numbers():
        modules = recipe.build()
    parameters = sum(weight.numel() for phase in recipe.phases for weight in modules[phase.trains].parameters())
    for module in modules.values():
        weightless(module)
        module.train()
    vocoder = modules[GENERATOR]
    assert isinstance(vocoder, Vocoder)
    with torch.no_grad(), _counter() as counter:
        vocoder(batch[FRAMES], batch[f"{FRAMES}_mask"], batch[PRESENT], batch.get(SPEAKER))
    judged = max(0, config.training.num_steps - config.discriminators_from) / config.training.num_steps
    training = 0.0
    for share, hears in ((judged, True), (1 - judged, False)):
        if share:
            training += share * _all_phases(recipe, modules, batch | {JUDGED: torch.tensor(hears)}, judged=hears)
    seconds = _seconds(batch, shape)
    return StepCost(
        parameters=parameters,
        saved_parameters=_saved(vocoder),
        audio_seconds=seconds * config.training.batches_per_step,
        forward=counter.get_total_flops() / seconds,
        training=training / seconds,
    )


def count_passes(run: Callable[[], Any]) -> tuple[int, int]:
    """Count a forward pass, and it with the backward pass from all that it gives.

    Args:
        run: Gives tensors, or sequences or dataclasses of them.
    """
    with _counter() as counter:
        output = run()
        forward = counter.get_total_flops()
        sums = [each.float().sum() for each in _tensors(output) if each.requires_grad]
        torch.autograd.backward([torch.stack(sums).sum()])
        return forward, counter.get_total_flops()


def weightless(module: torch.nn.Module) -> None:
    """Give a network fake weights of the same shape, and LSTMs that compute their products and nothing else."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    for part in list(module.modules()):
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, torch.nn.Parameter(fake.from_tensor(weight.detach()), weight.requires_grad))
        for name, values in list(part.named_buffers(recurse=False)):
            # Offsets into a table of embeddings are looked at; they stay.
            if values.is_floating_point():
                setattr(part, name, fake.from_tensor(values))
        for name, child in list(part.named_children()):
            if isinstance(child, torch.nn.LSTM):
                setattr(part, name, _LstmProducts(child))


class _LstmProducts(torch.nn.Module):
    """The matrix products of an LSTM of one layer and one direction, all frames at once."""

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        assert lstm.num_layers == 1
        assert not lstm.bidirectional
        self.lstm = lstm

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Give (..., H) of (..., D)."""
        size = self.lstm.hidden_size
        heard, recurrent = self.lstm.all_weights[0][:2]
        hidden = torch.nn.functional.linear(frames, heard)[..., :size]
        return torch.nn.functional.linear(hidden, recurrent)[..., :size], None


class _RowsByNumber(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns a mask that chooses rows into their numbers: how many rows a fake tensor then has is known."""

    _CHOOSING = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in self._CHOOSING:
            args = (args[0], [number for each in args[1] for number in _numbers(each)], *args[2:])
        return func(*args, **(kwargs or {}))


def _numbers(index: torch.Tensor | None) -> Sequence[torch.Tensor | None]:
    if index is None or index.dtype != torch.bool:
        return [index]
    return index.nonzero().unbind(dim=1)


@contextlib.contextmanager
def _counter() -> Iterator[FlopCounterMode]:
    counter = FlopCounterMode(display=False, custom_mapping={_aten.convolution_backward: _convolution_backward})
    with sdpa_kernel(SDPBackend.MATH), counter, _RowsByNumber():  # type: ignore[no-untyped-call]
        yield counter


def _convolution_backward(
    gradient: Sequence[int], values: Sequence[int], weight: Sequence[int], *others: Any, **named: Any
) -> int:
    """Count the gradients of a convolution, grouped or not, from shapes."""
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = others
    places = math.prod((values if transposed else gradient)[2:])
    return 2 * gradient[0] * places * math.prod(weight) * int(sum(wanted[:2]))


def _all_phases(recipe: VocoderRecipe, modules: Modules, batch: Tensors, *, judged: bool) -> int:
    """Count what a step computes, phase by phase, each with all other networks frozen."""
    total = 0
    for phase in recipe.phases:
        if judged or phase.trains == GENERATOR:
            for name, module in modules.items():
                module.requires_grad_(name == phase.trains)
            total += count_passes(lambda phase=phase: _loss(recipe, phase, modules, batch))[1]  # type: ignore[misc]
    return total


def _loss(recipe: VocoderRecipe, phase: Phase, modules: Modules, batch: Tensors) -> torch.Tensor:
    found = recipe.losses(phase.name, modules, batch)
    losses = [found[name] for name in phase.losses]
    return torch.stack([each.value if isinstance(each, Sums) else each for each in losses]).sum()


def _tensors(found: Any) -> Iterator[torch.Tensor]:
    """Give the tensors of what a network gives."""
    if isinstance(found, torch.Tensor):
        yield found
    elif is_dataclass(found):
        for field in fields(found):
            yield from _tensors(getattr(found, field.name))
    elif isinstance(found, list | tuple):
        for each in found:
            yield from _tensors(each)


def _seconds(batch: Tensors, shape: TokenShape) -> float:
    return float(batch[f"{FRAMES}_lengths"].sum()) / shape.frames_per_second


def _saved(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.is_floating_point())


@contextlib.contextmanager
def _own_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield
