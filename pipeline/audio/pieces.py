"""Decodes what a row of a manifest tells: a recording, or pieces of several with silence before each.

A piece is decoded as it would be alone: by the same child, with the same limits, resampled by itself. Pieces lie side
by side at the encoder's rate, without a cross-fade. A silence of S samples is floor(S * target / source + 1/2) zeros. A
piece that gives less than its header tells (an MP3, at its end) is filled with zeros; so length and frames of a joined
utterance follow from its manifest. Memory: what is asked for; of a stream, a stretch of about 10 s or one silence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from pipeline.audio.decode import Decoder, Samples, to_float32
from pipeline.audio.places import Place
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import PassedOver
from pipeline.schema import PIECES, Reason

Count = TypeVar("Count", int, np.ndarray)

_ARGUMENTS = ("uri", "offset_samples", "num_samples", "sample_rate", "channel", "utterance_id")


def decoded_length(num_samples: Count, source_rate: Count, sample_rate: int) -> Count:
    """Give the samples that a recording has once it is resampled: the nearest whole number, a half upwards."""
    length: Count = (2 * num_samples * sample_rate + source_rate) // (2 * source_rate)
    return length


def decode_arguments(place: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the ``PLACE`` of a recording into arguments of ``Decoder.decode``."""
    return {"part": Place.of(place), **{name: place[name] for name in _ARGUMENTS}}


def decode_place(
    decoder: Decoder,
    place: Mapping[str, Any],
    passed_over: PassedOver | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
) -> Samples:
    """Decode what a row of a manifest tells.

    Args:
        decoder: What decodes it.
        place: The ``place_columns`` of the row.
        passed_over: Counts what of the recordings is not read.
        start: Of a joined utterance, the first sample wanted, at the decoder's rate. Pieces outside are not read.
        stop: The sample behind the last one wanted; None for the end.

    Returns:
        (S,) int16 if all that is read is, else float32.

    Raises:
        AudioDecodeError: A recording cannot be used; of a piece, the detail names it.
        StorageError: S3 failed; the recording may be fine.
    """
    pieces = place.get(PIECES.name)
    if pieces is None:
        return decoder.decode(**decode_arguments(place), passed_over=passed_over)
    _check_length(decoder, place, start, stop)
    parts: list[Samples] = []
    for (begin, end), number in _spans(pieces, decoder.sample_rate):
        first, last = max(start, begin), end if stop is None else min(stop, end)
        if first >= last:
            continue
        if number is None:
            parts.append(np.zeros(last - first, np.int16))
            continue
        try:
            samples = decoder.decode(**decode_arguments(pieces[number]), passed_over=passed_over)
        except AudioDecodeError as error:
            raise _of_piece(error, pieces, number) from error
        whole = np.concatenate([samples, np.zeros(end - begin - len(samples), samples.dtype)])
        parts.append(whole[first - begin : last - begin])
    if all(part.dtype == np.int16 for part in parts):
        return np.concatenate([np.zeros(0, np.int16), *parts])
    return np.concatenate([to_float32(part) for part in parts])


def stream_place(decoder: Decoder, place: Mapping[str, Any], passed_over: PassedOver) -> Iterator[Samples]:
    """Decode what a row of a manifest tells, of any length, in bounded memory; see ``Decoder.stream``.

    Yields:
        (S,) stretches of about 10 s, silences and the rest of pieces shorter ones.

    Raises:
        AudioDecodeError: A recording cannot be used, which may show late; what was given is void then.
        StorageError: S3 failed; the recording may be fine.
    """
    pieces = place.get(PIECES.name)
    if pieces is None:
        yield from decoder.stream(**decode_arguments(place), passed_over=passed_over)
        return
    _check_length(decoder, place, 0, None)
    for (begin, end), number in _spans(pieces, decoder.sample_rate):
        given = 0
        if number is not None:
            try:
                for samples in decoder.stream(**decode_arguments(pieces[number]), passed_over=passed_over):
                    given += len(samples)
                    yield samples
            except AudioDecodeError as error:
                raise _of_piece(error, pieces, number) from error
        if end - begin > given:
            yield np.zeros(end - begin - given, np.int16)


def _spans(pieces: Sequence[Mapping[str, Any]], sample_rate: int) -> Iterator[tuple[tuple[int, int], int | None]]:
    """Give begin and end of each silence and piece in order, and the number of the piece; None for a silence."""
    begin = 0
    for number, piece in enumerate(pieces):
        for count, which in ((piece["silence_samples"], None), (piece["num_samples"], number)):
            end = begin + decoded_length(count, piece["sample_rate"], sample_rate)
            yield (begin, end), which
            begin = end


def _check_length(decoder: Decoder, place: Mapping[str, Any], start: int, stop: int | None) -> None:
    """Hold a joined utterance to the limit of its length, as the decode child holds a recording to it."""
    rate, most = place["sample_rate"], decoder.limits.max_seconds
    wanted = place["num_samples"] / rate if stop is None else (stop - start) / decoder.sample_rate
    if wanted > most:
        raise AudioDecodeError(
            Reason.TOO_LONG, f"{wanted:.1f} s of {len(place[PIECES.name])} pieces; at most {most:g} are decoded"
        )


def _of_piece(error: AudioDecodeError, pieces: Sequence[Mapping[str, Any]], number: int) -> AudioDecodeError:
    piece = pieces[number]
    part = Place.of(piece)
    where = piece["uri"] if part is None else f"{piece['uri']}: {part}"
    return AudioDecodeError(
        error.reason, f"piece {number + 1} of {len(pieces)}, {piece['utterance_id']} of {where}: {error.detail}"
    )
