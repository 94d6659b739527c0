"""Convolutions of few channels in bfloat16 on a CPU, which are computed in float32 because torch gets them wrong.

On CPUs with AMX, torch 2.13.0 gives values that have nothing to do with the right ones (a mean error of 1.1 times the
mean absolute value) where a group has 2 to 14 channels in and these times the taps along the last axis are 64, 96, 128
and so on; and of 16 and 24 channels without padding where a stride of 4 or more divides the taps. Gradients are right,
but for those of transposed convolutions, which no network here has. Seen by trying 1 to 64 channels, 1 to 139 taps, 1
to 16 groups and strides of 1 to 10 (`findings/torch_convolves_few_channels_wrongly_on_amx.sh`). The positional
convolution of the encoder that ships is one: 12 channels and 8 taps.
"""

from collections.abc import Callable

import torch

_ENOUGH_CHANNELS = 32
_BLOCK = 32

Convolution = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class _InFloat32:
    """What a convolution computes of values, weight and bias, done in float32 and rounded as it would have been."""

    def __init__(self, compute: Convolution) -> None:
        self._compute = compute

    def __call__(self, values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        rounded = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else values.dtype
        with torch.autocast("cpu", enabled=False):
            found = self._compute(values.float(), weight.float(), None if bias is None else bias.float())
        return found.to(rounded)


def widen_narrow_convolutions(network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> int:
    """Have the convolutions of a network that torch may get wrong computed in float32.

    It does so on every CPU, so that one with AMX gives what another gives, and nothing where the arithmetic is float32
    or the device is no CPU. Weights stay as they are.

    Args:
        network: Changed in place.
        device: Where it computes.
        dtype: Number format of its arithmetic.

    Returns:
        How many convolutions these are.
    """
    if device.type != "cpu" or dtype != torch.bfloat16:
        return 0
    convolutions = [
        module
        for module in network.modules()
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and _is_narrow(module)
    ]
    for convolution in convolutions:
        vars(convolution)["_conv_forward"] = _InFloat32(convolution._conv_forward)
    return len(convolutions)


def _is_narrow(convolution: torch.nn.Conv1d | torch.nn.Conv2d) -> bool:
    channels = convolution.in_channels // convolution.groups
    return 1 < channels < _ENOUGH_CHANNELS and channels * convolution.kernel_size[-1] % _BLOCK == 0
