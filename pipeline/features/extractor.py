"""From the waveforms of a shard to their features: what an encoder actor holds. Knows no Ray.

Costs: the encoder's forward passes. Memory: one batch in float32 and the float16 features of all utterances given,
2 L D bytes a frame (half an hour at L = 5, D = 1024: 920 MB).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.batching import plan_batches
from pipeline.audio.decode import to_float32
from pipeline.features.encoder import SslEncoder
from pipeline.runtime import set_threads
from pipeline.schema import Reason


@dataclass(frozen=True)
class UtteranceFeatures:
    """Features of one utterance.

    Attributes:
        utterance_id: The utterance.
        features: By layer, float16 (T, D).
    """

    utterance_id: str
    features: dict[int, np.ndarray]


@dataclass(frozen=True)
class Rejected:
    """An utterance that has no usable features.

    Attributes:
        utterance_id: The utterance.
        reason: The code for ``_rejects``.
        detail: One sentence for a person.
    """

    utterance_id: str
    reason: Reason
    detail: str


class FeatureExtractor:
    """An encoder with its batch rule; gives float16 features.

    Attributes:
        encoder: The loaded encoder.
        device: The torch device, as given.
    """

    def __init__(
        self,
        *,
        encoder: str,
        layers: Sequence[int],
        dtype: str = "float32",
        device: str = "cpu",
        normalize_waveform: bool | None = None,
        batch_seconds: float = 60.0,
        threads: int = 1,
        revision: str | None = None,
    ) -> None:
        """Load the encoder, after setting this process's threads.

        Args:
            encoder: Local folder, ``s3://`` folder, or Hugging Face name.
            layers: Layers to give.
            dtype: ``float32`` or ``bfloat16``, of the encoder's arithmetic.
            device: A torch device.
            normalize_waveform: Overrides what ``preprocessor_config.json`` says.
            batch_seconds: Padded seconds of audio in one batch, at most.
            threads: Compute threads on CPU.
            revision: Git revision of a Hugging Face name.

        Raises:
            EncoderError: The encoder cannot be loaded, or has not these layers.
        """
        set_threads(threads)
        self.device = device
        if device.startswith("cuda"):
            _repeatable_cuda()
        self.encoder = SslEncoder.from_pretrained(
            encoder,
            layers=layers,
            dtype=dtype,
            device=device,
            normalize_waveform=normalize_waveform,
            revision=revision,
        )
        self._max_batch_samples = max(1, round(batch_seconds * self.encoder.sample_rate))

    def extract(
        self, utterance_ids: Sequence[str], waveforms: Sequence[np.ndarray]
    ) -> list[UtteranceFeatures | Rejected]:
        """Encode the utterances of a shard. Batches depend on their lengths alone.

        Args:
            utterance_ids: One for each waveform.
            waveforms: int16, or float32 in [-1, 1], (S,) each, at the encoder's rate. They are not changed.

        Returns:
            One result for each utterance, in the order given.
        """
        results: dict[int, UtteranceFeatures | Rejected] = {}
        ready: dict[int, np.ndarray] = {}
        for row, (utterance_id, waveform) in enumerate(zip(utterance_ids, waveforms, strict=True)):
            problem = self._problem(utterance_id, waveform)
            if problem is None:
                ready[row] = waveform
            else:
                results[row] = problem
        rows = list(ready)
        batches = plan_batches(
            [len(waveform) for waveform in ready.values()],
            max_batch_samples=self._max_batch_samples,
            equal_lengths=not self.encoder.can_pad,
        )
        for batch in batches:
            members = [rows[position] for position in batch.rows]
            encoded = self.encoder.encode([to_float32(ready[row]) for row in members])
            for row, features_LTD in zip(members, encoded, strict=True):
                results[row] = self._rounded(utterance_ids[row], features_LTD)
        return [results[row] for row in range(len(waveforms))]

    def _problem(self, utterance_id: str, waveform: np.ndarray) -> Rejected | None:
        if len(waveform) < self.encoder.receptive_field:
            detail = f"{len(waveform)} samples; one frame of the encoder needs {self.encoder.receptive_field}"
            return Rejected(utterance_id, Reason.TOO_SHORT, detail)
        if not np.isfinite(waveform).all():
            return Rejected(utterance_id, Reason.NOT_FINITE, "the waveform holds values that are not finite")
        return None

    def _rounded(self, utterance_id: str, features_LTD: np.ndarray) -> UtteranceFeatures | Rejected:
        with np.errstate(over="ignore"):
            half_LTD = features_LTD.astype(np.float16)
        for layer, wide_TD, half_TD in zip(self.encoder.layers, features_LTD, half_LTD, strict=True):
            if np.isfinite(half_TD).all():
                continue
            if not np.isfinite(wide_TD).all():
                detail = f"layer {layer} holds values that are not finite"
                return Rejected(utterance_id, Reason.NOT_FINITE, detail)
            detail = f"layer {layer} holds {np.abs(wide_TD).max():.6g}, and float16 ends at 65504"
            return Rejected(utterance_id, Reason.FEATURE_OVERFLOW, detail)
        return UtteranceFeatures(utterance_id, dict(zip(self.encoder.layers, half_LTD, strict=True)))


def _repeatable_cuda() -> None:
    """Ask CUDA for the same bits each time, and for float32 where float32 is meant."""
    import torch

    torch.backends.cudnn.deterministic = True
    # Convolutions would otherwise use TF32, which keeps 10 bits of the mantissa.
    torch.backends.cudnn.allow_tf32 = False
