"""One SSL encoder: its raw layers for a batch of waveforms.

Layer l is the raw output of block l, for every l, without a final norm; layer 0 is the input of the first block.
The network is cut after the highest layer asked for, so that nothing beyond it is loaded or computed.

Letters: B batch, S samples, T frames, L layers, D feature width. Memory of a forward pass: the activations of one
block and L (B, T, D) arrays; WavLM also holds a piece of its position bias.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pipeline.audio.normalization import normalized
from pipeline.errors import EncoderError
from pipeline.features.encoders.info import EncoderInfo, FoundEncoder, check_layers, find, info_of
from pipeline.features.encoders.mfcc import Mfcc
from pipeline.features.encoders.stem import PatchMoments
from pipeline.work.machine import warn_of_bfloat16

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class PreparedBatch:
    """Waveforms on, or on their way to, the encoder's device.

    Attributes:
        waveform_BS: float32, normalised if the encoder wants it, zero past the end of each waveform.
        lengths: Samples of each waveform.
        recording: What the stem hears of the recording of which they are windows, where a group norm needs it.
        arrived: CUDA event after the copy, for which a forward pass waits; None on CPU.
    """

    waveform_BS: "torch.Tensor"
    lengths: tuple[int, ...]
    recording: PatchMoments | None = None
    arrived: Any = None


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Features of one batch.

    Attributes:
        features: float16 (L, T, D) for each utterance: views of one array of the batch.
        peaks: float32 (B, L), the largest magnitude before rounding to float16, over the utterance's own frames;
            NaN where a value is NaN, inf where one is infinite.
    """

    features: list[np.ndarray]
    peaks: np.ndarray


class SslEncoder:
    """A frozen SSL encoder, cut after the highest layer asked for.

    float32 results depend on batch neighbours by rounding alone: random networks of 6 blocks of 768 gave layers that
    differed by 8.1e-6 at most (values to 7.4) between 3 to 8 s of speech alone and padded together, and 0 of 45,353
    tokens (64 centroids) changed: HuBERT and WavLM with a group norm, Data2Vec, Conformer and Wav2Vec2Bert.
    bfloat16 holds weights and activations in bfloat16, the convolutions included; on a CPU a convolution of few
    channels per group computes in float32, because torch may get it wrong.

    Attributes:
        info: What the encoder is; its numbers are repeated here.
        layers: Layers that ``encode`` gives, ascending.
        device: Where it computes.
        dtype: ``float32`` or ``bfloat16``.
        stem_patch: Kernel and stride of a first convolution that a group norm averages over time, else None.
    """

    def __init__(self, network: Any, info: EncoderInfo, *, layers: tuple[int, ...], dtype: str, device: str) -> None:
        import torch

        self.info = info
        self.name = info.name
        self.model_type = info.model_type
        self.weights_sha256 = info.weights_sha256
        self.sample_rate = info.sample_rate
        self.hop_length = info.hop_length
        self.receptive_field = info.receptive_field
        self.frame_rate = info.frame_rate
        self.num_layers = info.num_layers
        self.dim = info.dim
        self.can_pad = info.can_pad
        self.normalize_waveform = info.normalize_waveform
        self.layers = layers
        self.device = torch.device(device)
        self.dtype = dtype
        self.stem_patch: tuple[int, int] | None = network.stem_patch
        self._network: Callable[..., list[torch.Tensor]]
        self._network = network.to(self.device, getattr(torch, dtype))
        self._copies: Any = None
        if self.device.type == "cuda":
            self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_dir: str,
        *,
        layers: Sequence[int],
        dtype: str = "float32",
        device: str = "cpu",
        normalize_waveform: bool | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load an encoder.

        Args:
            name_or_dir: ``mfcc``, local folder, ``s3://`` folder, or Hugging Face name, in Hugging Face form.
            layers: Layers to give, 0 to the number of blocks.
            dtype: ``float32`` or ``bfloat16``, of weights and activations.
            device: A torch device.
            normalize_waveform: Overrides what ``preprocessor_config.json`` says.
            revision: Git revision of a Hugging Face name.

        Raises:
            EncoderError: It cannot be found or loaded whole, or has not these layers.
        """
        if dtype not in DTYPES:
            raise EncoderError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        source = find(name_or_dir, revision)
        info = info_of(source, normalize_waveform)
        chosen = check_layers(layers, info.num_layers, name_or_dir)
        warn_of_bfloat16(device.partition(":")[0], dtype)
        return cls(_network(source, info, chosen), info, layers=chosen, dtype=dtype, device=device)

    def num_frames(self, num_samples: int) -> int:
        """Count the frames of a waveform of S samples; 0 when it is too short for one."""
        return self.info.clock.num_frames(num_samples)

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode one batch.

        Args:
            waveforms: As for ``prepare``.

        Returns:
            float32 (L, T, D) for each, layers as in ``layers``.

        Raises:
            ValueError: As ``prepare`` does.
        """
        if not len(waveforms):
            return []
        batch = self.prepare(waveforms)
        layers_BTD = [layer_BTD.float().cpu().numpy() for layer_BTD in self._forward(batch)]
        frames = [self.num_frames(length) for length in batch.lengths]
        return [np.stack([found[row, : frames[row]] for found in layers_BTD]) for row in range(len(frames))]

    def prepare(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        normalized: bool = False,
        recording: PatchMoments | None = None,
    ) -> PreparedBatch:
        """Check, normalise and pad the waveforms of one batch, and send them to the device.

        Any thread may call it while another computes: on CUDA the copy has a stream of its own.

        Args:
            waveforms: float32 (S,) each, in [-1, 1], at the encoder's rate, long enough for one frame; of one
                length unless ``can_pad``. They are not changed.
            normalized: They are normalised already, if the encoder wants that.
            recording: For windows of one recording, what the stem hears of it, normalised as they are; None where
                ``stem_patch`` is None.

        Raises:
            ValueError: A waveform is too short, or lengths differ where the encoder cannot be padded.
        """
        import torch

        lengths = tuple(len(waveform) for waveform in waveforms)
        self._check(lengths)
        # Only a copy from pinned memory returns before it is done.
        padded_BS = torch.empty((len(lengths), max(lengths)), pin_memory=self._copies is not None)
        self._fill(padded_BS.numpy(), waveforms, normalize=self.normalize_waveform and not normalized)
        if self._copies is None:
            return PreparedBatch(waveform_BS=padded_BS.to(self.device), lengths=lengths, recording=recording)
        with torch.cuda.stream(self._copies):
            sent_BS = padded_BS.to(self.device, non_blocking=True)
            return PreparedBatch(
                waveform_BS=sent_BS, lengths=lengths, recording=recording, arrived=self._copies.record_event()
            )

    def encode_half(self, batch: PreparedBatch) -> Encoded:
        """Encode one batch and round it to float16 on the device.

        Args:
            batch: What ``prepare`` gave.
        """
        import torch

        layers_BTD = self._forward(batch)
        frames = [self.num_frames(length) for length in batch.lengths]
        num_rows, num_frames, dim = layers_BTD[0].shape
        with torch.inference_mode():
            valid_BT = torch.arange(num_frames) < torch.tensor(frames)[:, None]
            valid_BT = valid_BT.to(self.device)
            half_BLTD = torch.empty(
                (num_rows, len(layers_BTD), num_frames, dim), dtype=torch.float16, device=self.device
            )
            peaks = []
            for index, layer_BTD in enumerate(layers_BTD):
                half_BLTD[:, index] = layer_BTD
                # The largest of a frame first: its mask is 1 / D of the layer's.
                peaks.append(layer_BTD.float().abs().amax(dim=2).where(valid_BT, 0.0).amax(dim=1))
            host_BLTD = half_BLTD.cpu().numpy()
            return Encoded(
                features=[host_BLTD[row, :, : frames[row]] for row in range(num_rows)],
                peaks=torch.stack(peaks, dim=1).cpu().numpy(),
            )

    def _check(self, lengths: tuple[int, ...]) -> None:
        if not lengths:
            raise ValueError("a batch must have at least one waveform")
        if min(lengths) < self.receptive_field:
            raise ValueError(f"{min(lengths)} samples are too short for a frame, which hears {self.receptive_field}")
        if not self.can_pad and len(set(lengths)) > 1:
            raise ValueError(
                f"padding would change the features of encoder {self.name}: a batch must have one length, "
                f"got {sorted(set(lengths))}"
            )

    def _fill(self, padded_BS: np.ndarray, waveforms: Sequence[np.ndarray], *, normalize: bool) -> None:
        for row_S, waveform in zip(padded_BS, waveforms, strict=True):
            row_S[: len(waveform)] = normalized(waveform) if normalize else waveform
            row_S[len(waveform) :] = 0.0

    def _forward(self, batch: PreparedBatch) -> "list[torch.Tensor]":
        """Give (B, T, D) a layer, on the device."""
        import torch

        if batch.arrived is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(batch.arrived)
            # Else the memory could be given to the next copy while this pass still reads it.
            batch.waveform_BS.record_stream(stream)
        with self._lock, torch.inference_mode():
            if batch.recording is None:
                return self._network(batch.waveform_BS, batch.lengths)
            return self._network(batch.waveform_BS, batch.lengths, batch.recording)


def _network(source: FoundEncoder, info: EncoderInfo, layers: tuple[int, ...]) -> Any:
    if source.config is None or source.folder is None:
        return Mfcc(info.model_type)
    from pipeline.features.encoders.network import load_network

    return load_network(source.folder, source.config, info, layers)
