"""One encoder and the shards that pass through it: pieces of features out, rejects kept, time counted.

Two calls of an actor share one encoder: the second one's shard is encoded while the first one's is written.
"""

import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.errors import EncoderError
from pipeline.features.encoders.flops import encoder_gflop
from pipeline.features.encoders.info import find
from pipeline.features.numerics import numerics_key
from pipeline.features.passes.device import EncodeLog
from pipeline.features.passes.extractor import FeatureExtractor, FeaturePiece, Rejected
from pipeline.features.passes.matmul import matmul_peak
from pipeline.features.passes.settings import EncodingSettings, shard_loader
from pipeline.features.passes.windows import Blocks
from pipeline.passed_over import PassedOver
from pipeline.work.units import Reject, Utterance, mark, reasons
from pipeline.work.waiting import Work


class ShardEncoder:
    """Encodes the utterances of shards on one device."""

    def __init__(self, config: EncodingSettings, manifest: str, device: str, stage: str, encoder_sha256: str) -> None:
        """Load the encoder.

        Args:
            config: Settings of the pass.
            manifest: The manifest whose shards it encodes.
            device: A torch device.
            stage: Name of the stage, for rejects.
            encoder_sha256: The weights that the plan was made for.

        Raises:
            EncoderError: It cannot be loaded, or has other weights.
        """
        self.stage = stage
        self._config = config
        self._device = device
        self.extractor = self._load(config.dtype)
        # A name on a hub may mean other weights on this node than it meant on the driver.
        if self.extractor.encoder.weights_sha256 != encoder_sha256:
            raise EncoderError(
                f"{config.encoder} has other weights on {platform.node()} than the plan says "
                f"({self.extractor.encoder.weights_sha256[:12]}..., not {encoder_sha256[:12]}...); pin --revision"
            )
        self.loader = shard_loader(config, manifest, self.extractor.encoder.info)
        self._network = find(config.encoder, config.revision).config
        # Half a second, once an actor, for the report: what share of the device is used.
        self.peak = matmul_peak(device, config.dtype)
        self._reference: FeatureExtractor | None = None
        self._loading = threading.Lock()

    def _load(self, dtype: str) -> FeatureExtractor:
        config = self._config
        return FeatureExtractor(
            encoder=config.encoder,
            revision=config.revision,
            layers=sorted(config.layers),
            dtype=dtype,
            device=self._device,
            normalize_waveform=config.normalize_waveform,
            batch_seconds=config.batch_seconds,
            window_seconds=config.window_seconds,
            window_margin_seconds=config.window_margin_seconds,
            threads=config.threads_per_worker,
        )

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return numerics_key(self._device)

    def open(self, utterances: Sequence[Utterance]) -> "EncodedShard":
        """Begin a shard; iterating over the result encodes it."""
        return EncodedShard(self, utterances)

    def gflop(self, seconds: float) -> float:
        """Count the arithmetic of an utterance, in windows where it is longer than one; 10^9 operations."""
        piece = min(seconds, self._config.window_seconds)
        if piece <= 0:
            return 0.0
        samples = round(piece * self.extractor.encoder.sample_rate)
        top_layer = self.extractor.encoder.layers[-1]
        return encoder_gflop(self._network, top_layer=top_layer, num_samples=samples) * seconds / piece

    def waveform(self, utterance: Utterance, passed_over: PassedOver) -> np.ndarray | Blocks:
        """Give an utterance's samples, or what streams them where it is too long to have been sent.

        Args:
            utterance: One that is usable.
            passed_over: Counts what its decoding passes over; what was sent was counted where it was decoded.
        """
        if utterance.samples is not None:
            samples: np.ndarray = utterance.samples
            return samples
        source = utterance.source
        assert source is not None

        def blocks() -> Iterator[np.ndarray]:
            # It is streamed again where its mean and variance are measured first.
            passed_over.clear()
            return self.loader.stream(source, passed_over)

        return blocks

    def reference(self, waveforms: Sequence[np.ndarray], log: EncodeLog) -> list[dict[int, np.ndarray] | Rejected]:
        """Encode each utterance by itself in float32: what every dtype and batch is measured against.

        Args:
            waveforms: int16 or float32 (S,) each, at the encoder's rate.
            log: Counts the time that this took, the loading of a second copy of the encoder included.

        Returns:
            For each utterance its features by layer, float16 (T, D), or why it has none.
        """
        with self._loading:
            if self._reference is None:
                exact = self._config.dtype == "float32"
                began = time.time()
                self._reference = (self.extractor if exact else self._load("float32").beside(self.extractor)).alone()
                log.busy += time.time() - began
        return self._reference.extract(waveforms, log)


class EncodedShard:
    """The utterances of one shard on their way through the encoder; iterate once.

    Attributes:
        utterances: All utterances of the shard.
        rejects: Those without features, by their place in the shard; complete when the iteration has ended.
        log: What encoding it took.
    """

    def __init__(self, encoder: ShardEncoder, utterances: Sequence[Utterance]) -> None:
        self._encoder = encoder
        self.log = EncodeLog()
        self.utterances = utterances
        self.rejects: dict[int, Reject] = {}
        self._passed_over = [PassedOver.of(utterance.passed_over or {}) for utterance in utterances]

    def __iter__(self) -> Iterator[FeaturePiece]:
        """Give pieces of features as the encoder makes them; ``row`` is the utterance's place in the shard."""
        mark(self.utterances)
        places = self._places()
        for row, utterance in enumerate(self.utterances):
            if utterance.problem is not None:
                self.reject(row, *utterance.problem)
        waveforms = [self._encoder.waveform(self.utterances[row], self._passed_over[row]) for row in places]
        for found in self._encoder.extractor.stream(waveforms, self.log):
            row = places[found.row]
            if isinstance(found, Rejected):
                self.reject(row, found.reason, found.detail)
            else:
                yield FeaturePiece(row=row, first_frame=found.first_frame, features=found.features)

    def _places(self) -> list[int]:
        return [row for row, utterance in enumerate(self.utterances) if utterance.usable]

    def reject(self, row: int, reason: str, detail: str) -> None:
        """Leave an utterance out.

        Args:
            row: Its place in the shard.
            reason: A ``schema.Reason`` value.
            detail: One sentence for a person.
        """
        utterance = self.utterances[row]
        self.rejects[row] = Reject(
            utterance_id=utterance.utterance_id,
            uri=utterance.uri,
            stage=self._encoder.stage,
            reason=reason,
            detail=detail,
        )

    @property
    def rejected(self) -> list[Reject]:
        """The rejects in the shard's order."""
        return [self.rejects[row] for row in sorted(self.rejects)]

    def work(self) -> Work:
        """Say when and how long the device worked on the shard, and how much that was."""
        kept = [self.utterances[row].seconds for row in self._places() if row not in self.rejects]
        return self.log.work("encode", gflop=sum(map(self._encoder.gflop, kept)), peak=self._encoder.peak)

    def notes(self) -> dict[str, object]:
        """Give what the commit records of the encoding: counts, and every batch that did not fit into memory."""
        rate = self._encoder.extractor.encoder.sample_rate
        used = self._places()
        splits = [[self.utterances[used[place]].utterance_id for place in split] for split in self.log.splits]
        return {
            "reasons": reasons(self.rejected),
            "encoded_seconds": self.log.samples / rate,
            "padding_seconds": self.log.padding / rate,
            **({"split_batches": len(splits), "splits": splits} if splits else {}),
            **PassedOver.sum(self._passed_over).note(),
        }
