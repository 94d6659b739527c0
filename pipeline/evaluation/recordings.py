"""The recordings of the utterances that a page shows, as spectrograms; each is read once.

What cannot be read costs its spectrogram alone, and the page says why. Memory: one utterance.
Letters: S samples, N spectra, M mel bins.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.pieces import decode_place
from pipeline.batches.pieces import Piece
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.features.encoders.spectrum import SPECTRUM_WINDOW

logger = logging.getLogger(__name__)

NUM_MEL_BINS = 40
SPECTRA_PER_FRAME = 2
MOST_SECONDS = 120.0
"""Of a longer recording no spectrogram is made: nobody could read it."""
_ALLOWED_SECONDS = 0.25
"""How much longer or shorter than its frames a recording may be: a frame hears more than a hop, and an MP3 may end up
to 2304 samples early."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """The recording of an utterance.

    Attributes:
        seconds: How long it is; None where it cannot be read.
        log_mel: float32 (N, M), log power of mel bands, the lowest first; None where there is no spectrogram.
        seconds_per_spectrum: From one of N to the next; spectrum n begins with sample n of these.
        reason: Why there is no spectrogram; None where there is.
    """

    seconds: float | None
    log_mel: np.ndarray | None
    seconds_per_spectrum: float
    reason: str | None


def hear(pieces: Sequence[Piece], clock: Clock, roots: Sequence[str]) -> Mapping[str, Heard]:
    """Read the recordings of whole utterances.

    Args:
        pieces: The utterances, with their places.
        clock: The encoder's frames.
        roots: Where recordings must lie.

    Returns:
        What was heard, by utterance id.
    """
    found = {}
    limits = DecodeLimits(max_seconds=MOST_SECONDS)
    with Decoder(sample_rate=clock.sample_rate, limits=limits, roots=roots) as decoder:
        for piece in pieces:
            heard = _heard(decoder, piece, clock)
            if heard.reason is not None:
                logger.warning("no spectrogram of %s: %s", piece.utterance_id, heard.reason)
            found[piece.utterance_id] = heard
    return found


def _heard(decoder: Decoder, piece: Piece, clock: Clock) -> Heard:
    each = clock.hop_length / SPECTRA_PER_FRAME / clock.sample_rate
    try:
        waveform = to_float32(decode_place(decoder, piece.place))
    except (AudioDecodeError, StorageError) as error:
        return Heard(seconds=None, log_mel=None, seconds_per_spectrum=each, reason=str(error))
    seconds, of_frames = len(waveform) / clock.sample_rate, piece.num_frames / clock.frame_rate
    reason = None
    if abs(seconds - of_frames) > _ALLOWED_SECONDS:
        reason = (
            f"its recording {piece.place['uri']} has {seconds:.2f} s, its {piece.num_frames} frames are "
            f"{of_frames:.2f} s: it is another now than the one that was encoded"
        )
    log_mel = log_mel_of(waveform, clock) if reason is None else None
    return Heard(seconds=seconds, log_mel=log_mel, seconds_per_spectrum=each, reason=reason)


def log_mel_of(waveform: np.ndarray, clock: Clock) -> np.ndarray:
    """Give the spectrogram of a waveform, with two spectra per frame of the encoder, which begin where frames begin.

    Args:
        waveform: float32 (S,) in [-1, 1]; one shorter than a window is filled with zeros.
        clock: The encoder's frames.

    Returns:
        float32 (N, M).
    """
    import torch

    from pipeline.features.encoders.log_mel import LogMel

    hop = clock.hop_length // SPECTRA_PER_FRAME
    make = LogMel(num_mel_bins=NUM_MEL_BINS, hop_length=hop, sample_rate=clock.sample_rate, scale=1.0)
    samples = np.pad(waveform, (0, max(0, SPECTRUM_WINDOW - len(waveform))))
    found: np.ndarray = make(torch.from_numpy(samples)[None])[0].float().numpy()
    return found
