"""Decodes pieces, and keeps what it decoded.

Memory: decoded audio up to a budget. Time: a recording is decoded again where the budget has dropped it.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.decode import DecodeLimits, Decoder, Samples, to_float32
from pipeline.audio.normalization import normalized
from pipeline.audio.pieces import decode_place
from pipeline.batches.pieces import MAX_SECONDS, Piece
from pipeline.errors import DatasetError
from pipeline.schema import PIECES


class Waveforms:
    """Decodes pieces, and keeps what it decoded up to a budget; several threads may ask for them."""

    def __init__(
        self, clock: Clock, roots: tuple[str, ...], *, normalize: bool, cache_bytes: int, spare_frames: int = 0
    ) -> None:
        """Prepare to decode; the child process starts at the first waveform.

        Args:
            clock: The encoder's frames.
            roots: Where audio must lie.
            normalize: Whether the encoder wants zero mean and unit variance.
            cache_bytes: Decoded audio to keep.
            spare_frames: Frames that a whole utterance may have by this clock beyond its tokens: 1 for
                ``Clock.of_hops`` of an encoder that hears less than two hops at once.
        """
        self._clock = clock
        self._normalize, self._spare = normalize, spare_frames
        self._limits = DecodeLimits(max_seconds=2 * MAX_SECONDS)
        self._decoder = Decoder(sample_rate=clock.sample_rate, limits=self._limits, roots=roots)
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._left = cache_bytes
        self._lock = threading.Lock()

    def __call__(self, piece: Piece) -> np.ndarray:
        """Give the waveform of a piece.

        Returns:
            float32 (S,), normalised over the piece if the encoder wants it; S is at least what its frames hear.

        Raises:
            AudioDecodeError: The recording has become unreadable since it was tokenised.
            DatasetError: The recording has another number of frames than tokens.
        """
        samples = self._kept.get(piece.key)
        if samples is None:
            samples = self._decode(piece)
            self._check(piece, len(samples))
            self._keep(piece.key, samples)
        waveform = to_float32(samples)
        if self._normalize:
            waveform = normalized(waveform)
        return waveform

    def close(self) -> None:
        """End the decoding process."""
        self._decoder.close()

    def _decode(self, piece: Piece) -> Samples:
        if PIECES.name not in piece.place or piece.whole:
            return decode_place(self._decoder, self._place(piece))
        first = piece.first_frame * self._clock.hop_length
        stop = first + self._clock.num_samples(piece.num_frames)
        return decode_place(self._decoder, piece.place, start=first, stop=stop)

    def _place(self, piece: Piece) -> Mapping[str, Any]:
        if piece.whole:
            return piece.place
        rate, place = piece.place["sample_rate"], piece.place
        first = piece.first_frame * self._clock.hop_length * rate // self._clock.sample_rate
        # A few samples more, because resampling rounds; the recording ends where it ends.
        wanted = self._clock.num_samples(piece.num_frames) * rate // self._clock.sample_rate + 8
        return {
            **place,
            "offset_samples": place["offset_samples"] + first,
            "num_samples": min(wanted, place["num_samples"] - first),
        }

    def _check(self, piece: Piece, num_samples: int) -> None:
        found = self._clock.num_frames(num_samples)
        if found < piece.num_frames or (piece.whole and found > piece.num_frames + self._spare):
            raise DatasetError(
                f"{piece.utterance_id} has {piece.num_frames} tokens, and {found} frames in its recording "
                f"{piece.place['uri']}; were the tokens made from this recording, by an encoder of the same frames?"
            )

    def _keep(self, key: str, samples: np.ndarray) -> None:
        with self._lock:
            if key not in self._kept:
                self._left -= samples.nbytes
            self._kept[key] = samples
            while self._left < 0:
                self._left += self._kept.popitem(last=False)[1].nbytes
