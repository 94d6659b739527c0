"""From the waveforms of a shard to their features, batch by batch: what an encoder actor holds. Knows no Ray.

    plan of batches -> prepare (host thread) -> encode (device thread) -> pieces, for whoever quantises or stores them

While a caller works on one batch, the next is on the device and the one after it on its way there. Batches, and so
the bits of every feature, follow from the lengths of the utterances given and from nothing else.

Costs: the encoder's forward passes. Memory: three batches: waveforms of one, activations of one, float16 features
of two, 2 L D bytes a frame (a minute at L = 5, D = 1024: 31 MB).
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np

from pipeline.audio.batching import plan_batches
from pipeline.audio.decode import to_float32
from pipeline.errors import AudioDecodeError
from pipeline.features.encoders.encoder import PreparedBatch, SslEncoder
from pipeline.features.passes.device import Device, EncodedRows, EncodeLog, Turn
from pipeline.features.passes.windows import Blocks, WaveformMoments, Window, Windowing, cut, measure
from pipeline.schema import Reason
from pipeline.work.runtime import set_threads

_STRETCH = 160_000
"""Samples of a waveform in memory that are looked at together: statistics take 8 bytes for each."""


@dataclass(frozen=True, kw_only=True)
class FeaturePiece:
    """Features of an utterance, or of a stretch of a long one.

    Attributes:
        row: The utterance, by its place among those given.
        first_frame: Place of the first frame in the utterance.
        features: By layer, float16 (T, D).
    """

    row: int
    first_frame: int
    features: dict[int, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An utterance that has no usable features; pieces of it that came before are void.

    Attributes:
        row: The utterance, by its place among those given.
        reason: The code for ``_rejects``.
        detail: One sentence for a person.
    """

    row: int
    reason: Reason
    detail: str


class _Unusable(Exception):
    """Carries the reject of one window to its recording."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(rejected.detail)
        self.rejected = rejected


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
        batch_seconds: float = 8.0,
        window_seconds: float = 30.0,
        window_margin_seconds: float = 2.0,
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
            window_seconds: Longer utterances are encoded in overlapping windows of this length.
            window_margin_seconds: What is dropped at each end of a window in favour of its neighbour.
            threads: Compute threads on CPU.
            revision: Git revision of a Hugging Face name.

        Raises:
            EncoderError: The encoder cannot be loaded, or has not these layers.
            SettingsError: Nothing of a window would be kept.
        """
        set_threads(threads)
        self.device = device
        self._compute = Device(device)
        self.encoder = SslEncoder.from_pretrained(
            encoder,
            layers=layers,
            dtype=dtype,
            device=device,
            normalize_waveform=normalize_waveform,
            revision=revision,
        )
        self._max_batch_samples = max(1, round(batch_seconds * self.encoder.sample_rate))
        self._windowing: Windowing | None = Windowing.of(
            self.encoder.info, window_seconds=window_seconds, margin_seconds=window_margin_seconds
        )

    def beside(self, other: "FeatureExtractor") -> "FeatureExtractor":
        """Compute in turn with another extractor on the same device; give this one."""
        self._compute = other._compute
        return self

    def with_budget(self, batch_seconds: float) -> "FeatureExtractor":
        """Give an extractor with the same loaded encoder and another batch budget, seconds."""
        other = copy.copy(self)
        other._max_batch_samples = max(1, round(batch_seconds * self.encoder.sample_rate))
        return other

    def alone(self) -> "FeatureExtractor":
        """Give an extractor with the same loaded encoder that encodes every utterance by itself and in one piece."""
        other = copy.copy(self)
        other._max_batch_samples = 1
        other._windowing = None
        return other

    def stream(
        self, waveforms: Sequence[np.ndarray | Blocks], log: EncodeLog | None = None
    ) -> Iterator[FeaturePiece | Rejected]:
        """Encode the utterances of a shard. Batches depend on their lengths alone.

        Args:
            waveforms: int16, or float32 in [-1, 1], (S,) each, at the encoder's rate, not changed; or, for a
                recording too long to hold, what gives such blocks of it.
            log: Is filled in as batches are done.

        Yields:
            A result for each utterance, batch by batch, shortest first; unusable ones before all others. Those
            longer than a window come last, one piece a window.
        """
        log = EncodeLog() if log is None else log
        short: dict[int, np.ndarray] = {}
        long: dict[int, tuple[Blocks, WaveformMoments]] = {}
        for row, waveform in enumerate(waveforms):
            if isinstance(waveform, np.ndarray) and not self._is_long(len(waveform)):
                # Integers are finite; only floats are worth a pass over the samples.
                finite = waveform.dtype.kind != "f" or bool(np.isfinite(waveform).all())
                problem = self._problem(row, len(waveform), finite)
                short[row] = waveform
            else:
                blocks = partial(_stretches, waveform) if isinstance(waveform, np.ndarray) else waveform
                try:
                    # Before the device's turn begins: nobody waits for a whole recording to be decoded.
                    statistics = measure(blocks(), stem_patch=self.encoder.stem_patch)
                    problem = self._problem(row, statistics.num_samples, statistics.finite)
                    if self._is_long(statistics.num_samples):
                        long[row] = blocks, statistics
                    elif problem is None:
                        short[row] = np.concatenate(list(blocks()))
                except AudioDecodeError as error:
                    problem = Rejected(row=row, reason=Reason(error.reason), detail=error.detail)
            if problem is not None:
                short.pop(row, None)
                long.pop(row, None)
                yield problem
        with self._compute.turn() as turn:
            yield from self._whole(short, log, None if long else turn)
            for row, (blocks, statistics) in long.items():
                yield from self._in_windows(row, blocks, statistics, log)

    def _is_long(self, num_samples: int) -> bool:
        return self._windowing is not None and num_samples > self._windowing.num_samples

    def _whole(
        self, waveforms: Mapping[int, np.ndarray], log: EncodeLog, turn: Turn | None
    ) -> Iterator[FeaturePiece | Rejected]:
        """Encode utterances in one piece each, in batches; end the turn when the device has the last one."""
        rows = list(waveforms)
        batches = plan_batches(
            [len(waveforms[row]) for row in rows],
            max_batch_samples=self._max_batch_samples,
            equal_lengths=not self.encoder.can_pad,
        )

        def prepare(members: Sequence[int]) -> PreparedBatch:
            return self.encoder.prepare([to_float32(waveforms[row]) for row in members])

        running: Future[list[EncodedRows]] | None = None
        for number, batch in enumerate(batches):
            members = [rows[position] for position in batch.rows]
            following = self._compute.submit(self.encoder, prepare, members, log)
            lengths = [len(waveforms[row]) for row in members]
            log.samples += sum(lengths)
            log.padding += len(lengths) * batch.num_samples - sum(lengths)
            if turn is not None and number == len(batches) - 1:
                turn.end()
            if running is not None:
                yield from self._pieces(running.result())
            running = following
        if running is not None:
            yield from self._pieces(running.result())

    def _in_windows(
        self, row: int, blocks: Blocks, statistics: WaveformMoments, log: EncodeLog
    ) -> Iterator[FeaturePiece | Rejected]:
        """Encode one recording in windows, as many in a batch as its budget holds, and keep the centre of each."""
        assert self._windowing is not None
        normalize = self.encoder.normalize_waveform
        heard = statistics.heard(normalize=normalize)
        size = max(1, self._max_batch_samples // self._windowing.num_samples)
        found = cut(blocks(), self._windowing.plan(statistics.num_samples))
        running: tuple[list[Window], Future[list[EncodedRows]]] | None = None
        try:
            while group := list(islice(found, size)):
                waveforms = [statistics.normalized(waveform) if normalize else waveform for _, waveform in group]

                def prepare(members: Sequence[int], waveforms: list[np.ndarray] = waveforms) -> PreparedBatch:
                    chosen = [waveforms[place] for place in members]
                    return self.encoder.prepare(chosen, normalized=True, recording=heard)

                following = self._compute.submit(self.encoder, prepare, list(range(len(group))), log, row=row)
                log.samples += sum(len(waveform) for waveform in waveforms)
                if running is not None:
                    yield from self._centres(row, *running)
                running = [window for window, _ in group], following
            if running is not None:
                yield from self._centres(row, *running)
        except AudioDecodeError as error:
            yield Rejected(row=row, reason=Reason(error.reason), detail=error.detail)
        except _Unusable as unusable:
            yield unusable.rejected

    def _centres(
        self, row: int, windows: Sequence[Window], running: Future[list[EncodedRows]]
    ) -> Iterator[FeaturePiece]:
        for found in self._pieces(running.result()):
            if isinstance(found, Rejected):
                raise _Unusable(replace(found, row=row))
            window = windows[found.row]
            kept = slice(window.skip_frames, window.skip_frames + window.keep_frames)
            features = {layer: half_TD[kept] for layer, half_TD in found.features.items()}
            yield FeaturePiece(row=row, first_frame=window.first_frame, features=features)

    def extract(
        self, waveforms: Sequence[np.ndarray | Blocks], log: EncodeLog | None = None
    ) -> list[dict[int, np.ndarray] | Rejected]:
        """Encode utterances and give whole results in the order given; see ``stream``.

        Args:
            waveforms: As for ``stream``.
            log: Is filled in as batches are done.

        Returns:
            For each utterance its features by layer, float16 (T, D), or why it has none.
        """
        pieces: dict[int, list[FeaturePiece]] = {}
        results: dict[int, dict[int, np.ndarray] | Rejected] = {}
        for found in self.stream(waveforms, log):
            if isinstance(found, Rejected):
                results[found.row] = found
            else:
                pieces.setdefault(found.row, []).append(found)
        for row, parts in pieces.items():
            results.setdefault(row, join_pieces(parts))
        return [results[row] for row in range(len(waveforms))]

    def _problem(self, row: int, num_samples: int, finite: bool) -> Rejected | None:
        if num_samples < self.encoder.receptive_field:
            detail = f"{num_samples} samples; one frame of the encoder needs {self.encoder.receptive_field}"
            return Rejected(row=row, reason=Reason.TOO_SHORT, detail=detail)
        if not finite:
            detail = "the waveform holds values that are not finite"
            return Rejected(row=row, reason=Reason.NOT_FINITE, detail=detail)
        return None

    def _pieces(self, results: list[EncodedRows]) -> Iterator[FeaturePiece | Rejected]:
        for members, encoded in results:
            if encoded is None:
                detail = "one utterance alone needs more memory than there is; lower --window-seconds"
                yield Rejected(row=members[0], reason=Reason.ENCODER_MEMORY, detail=detail)
                continue
            for row, half_LTD, peaks_L in zip(members, encoded.features, encoded.peaks, strict=True):
                yield self._piece(row, half_LTD, peaks_L)

    def _piece(self, row: int, half_LTD: np.ndarray, peaks_L: np.ndarray) -> FeaturePiece | Rejected:
        for layer, half_TD, peak in zip(self.encoder.layers, half_LTD, peaks_L, strict=True):
            if not np.isfinite(peak):
                detail = f"layer {layer} holds values that are not finite"
                return Rejected(row=row, reason=Reason.NOT_FINITE, detail=detail)
            # 65,520 and above round to infinity; what is just below rounds to the largest number.
            if peak > np.finfo(np.float16).max and not np.isfinite(half_TD).all():
                detail = f"layer {layer} holds {peak:.6g}, and float16 ends at 65504"
                return Rejected(row=row, reason=Reason.FEATURE_OVERFLOW, detail=detail)
        return FeaturePiece(row=row, first_frame=0, features=dict(zip(self.encoder.layers, half_LTD, strict=True)))


def join_pieces(pieces: Sequence[FeaturePiece]) -> dict[int, np.ndarray]:
    """Join the pieces of one utterance, given in their order.

    Returns:
        By layer, float16 (T, D).
    """
    if len(pieces) == 1:
        return pieces[0].features
    return {layer: np.concatenate([piece.features[layer] for piece in pieces]) for layer in pieces[0].features}


def _stretches(waveform: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(waveform), _STRETCH):
        yield waveform[start : start + _STRETCH]
