"""Makes padding exact: what an utterance gets in a padded batch is what it gets alone, up to rounding.

transformers masks attention, and zeroes padded frames once before the blocks. Three things still let an utterance
hear its padding: a group norm in the stem averages over it; a convolution whose input has passed a norm or a gate
finds values there that are not zero; and so does each of several stacked convolutions. Here a group norm sees each
row's own frames alone, and every convolution over time finds zeros past the end of a row, as it does past the end
of an utterance alone. Convolutions of the stem need no more: without padding of their own, no valid frame of theirs
hears an invalid one. A batch of one length takes the path of transformers, to the bit.

The windows of a long recording leave that path as well: their group norm takes mean and variance of the recording.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import group_norm

from pipeline.errors import EncoderError
from pipeline.features.encoders.stem import PatchMoments


class ValidRows:
    """Says how much of each row of the batch under way is the utterance's own.

    Attributes:
        num_samples: Samples of each row; None while nothing is padded.
        mask_B1T: For the frames of the blocks, True in padding; None while nothing is padded.
        recording: What the stem hears of the recording of which the rows are windows; None where they are whole.
    """

    def __init__(self, conv_kernel: Sequence[int], conv_stride: Sequence[int]) -> None:
        """Begin with nothing padded.

        Args:
            conv_kernel: Kernel sizes of the stem.
            conv_stride: Their strides.
        """
        self._stem = tuple(zip(conv_kernel, conv_stride, strict=True))
        self.num_samples: tuple[int, ...] | None = None
        self.mask_B1T: torch.Tensor | None = None
        self.recording: PatchMoments | None = None

    def set(self, lengths: tuple[int, ...], device: torch.device, recording: PatchMoments | None = None) -> None:
        """Take up a batch.

        Args:
            lengths: Samples of each row.
            device: Where the batch is.
            recording: What the stem hears of the recording of which the rows are windows.
        """
        self.recording = recording
        self.num_samples = self.mask_B1T = None
        if len(set(lengths)) > 1:
            self.num_samples = lengths
            frames_B = torch.tensor(self.frames(len(self._stem)))
            self.mask_B1T = (torch.arange(int(frames_B.max())) >= frames_B[:, None])[:, None].to(device)

    def frames(self, depth: int) -> list[int]:
        """Count the valid frames of each row after the first convolutions of the stem.

        Args:
            depth: How many convolutions.
        """
        counts = list(self.num_samples or ())
        for kernel, stride in self._stem[:depth]:
            counts = [(count - kernel) // stride + 1 for count in counts]
        return counts


class _RowwiseGroupNorm(torch.nn.Module):
    """A group norm over the valid frames of each row alone, and zero past them; for windows over their recording."""

    def __init__(self, norm: torch.nn.GroupNorm, convolution: torch.nn.Conv1d, rows: ValidRows, depth: int) -> None:
        super().__init__()
        self.norm = norm
        # In a list, because it is no part of this module.
        self._convolution = [convolution]
        self._rows = rows
        self._depth = depth

    def forward(self, hidden_BCT: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        if self._rows.recording is not None:
            return self._as_recording(hidden_BCT, self._rows.recording)
        if self._rows.num_samples is None:
            found: torch.Tensor = norm(hidden_BCT)
            return found
        # In place: a convolution made it, and nobody else reads it.
        for row, count in enumerate(self._rows.frames(self._depth)):
            valid_1CT = hidden_BCT[row : row + 1, :, :count]
            hidden_BCT[row, :, :count] = group_norm(valid_1CT, norm.num_groups, norm.weight, norm.bias, norm.eps)[0]
            hidden_BCT[row, :, count:] = 0.0
        return hidden_BCT

    def _as_recording(self, hidden_BCT: torch.Tensor, recording: PatchMoments) -> torch.Tensor:
        """Normalise windows by mean and variance of each channel over the recording."""
        convolution = self._convolution[0]
        mean_C, variance_C = recording.channels(convolution.weight[:, 0].float().cpu().numpy())
        spread_C = (variance_C + self.norm.eps) ** -0.5
        scale_C1, shift_C1 = (
            torch.from_numpy(values_C).float().to(hidden_BCT.device)[:, None]
            for values_C in (spread_C, -mean_C * spread_C)
        )
        normal_BCT = hidden_BCT.float()
        if convolution.bias is not None:
            normal_BCT = normal_BCT - convolution.bias.float()[:, None]
        normal_BCT = normal_BCT * scale_C1 + shift_C1
        return (normal_BCT * self.norm.weight[:, None] + self.norm.bias[:, None]).to(hidden_BCT.dtype)


def make_padding_exact(network: Any, rows: ValidRows) -> bool:
    """Keep the utterances of a batch from hearing their padding.

    Args:
        network: A filled network of transformers; its modules are changed in place.
        rows: Told of each batch before its forward pass.

    Returns:
        Whether a group norm follows the first convolution.
    """
    stem = getattr(network, "feature_extractor", None)
    averages = False
    for depth, layer in enumerate(stem.conv_layers if stem is not None else (), start=1):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, torch.nn.GroupNorm):
            if depth > 1 or norm.num_groups != norm.num_channels:
                raise EncoderError(
                    f"convolution {depth} has a group norm of {norm.num_groups} groups; supported is one of a group a "
                    "channel, behind the first convolution"
                )
            layer.layer_norm = _RowwiseGroupNorm(norm, layer.conv, rows, depth)
            averages = True

    def hide_padding(convolution: Any, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        return None if rows.mask_B1T is None else (arguments[0].masked_fill(rows.mask_B1T, 0.0),)

    for module in network.encoder.modules():
        # One without padding of its own is causal (Wav2Vec2Bert): it hears nothing after a frame.
        if isinstance(module, torch.nn.Conv1d) and module.kernel_size[0] > 1 and module.padding != (0,):
            module.register_forward_pre_hook(hide_padding)
    return averages
