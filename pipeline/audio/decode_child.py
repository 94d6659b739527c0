"""Reads headers and decodes audio in a process of its own, because libsndfile can crash and headers lie.

Started by ``pipeline.audio.decode.Decoder``, which talks to it over stdin and stdout. Imports no torch, ray or
pyarrow, so that it starts fast. A message is a 4-byte big-endian length, that many bytes of JSON, and
``num_bytes`` raw bytes when the JSON says so. Ends when stdin closes, which also happens when the parent is
killed, or by its own alarm when a request takes far too long and the parent is gone.

Memory: one utterance at the encoder's rate, twice, or 10 s of it where it is streamed. Cost: the samples
asked for, plus what a container needs to seek; a recording without a length is decoded whole to probe it, and what
FFmpeg reads (``media.py``) from its start on.
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from pipeline import faults
from pipeline.audio.child_memory import contain
from pipeline.audio.containers.declared import BadRecording
from pipeline.audio.mixing import Mixing
from pipeline.audio.opening import AnySound, Opener, Recording, refusal
from pipeline.audio.views import View
from pipeline.passed_over import Kind, PassedOver

_BLOCK = 65_536
_STREAM_SECONDS = 10.0
_ALARM_GRACE_SECONDS = 10.0


def _read(
    sound: AnySound, count: int, channel: int | None, dtype: str, mixing: Mixing | None = None
) -> npt.NDArray[Any]:
    """Read on from where the file stands, block by block; fewer than ``count`` samples when it ends before."""
    mixing = mixing or Mixing()
    samples = np.empty(count, dtype=dtype)
    filled = 0
    while filled < count:
        try:
            block_SC = sound.read(min(_BLOCK, count - filled), dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise refusal("truncated", f"decoding failed within {count} samples, after {filled}", error) from error
        if len(block_SC) == 0:
            break
        alone = block_SC.shape[1] == 1 or channel is not None
        mono = block_SC[:, channel or 0] if alone else mixing.mean(block_SC)
        samples[filled : filled + len(mono)] = mono
        filled += len(mono)
    return samples[:filled]


def probe(opener: Opener, request: dict[str, Any], passed_over: PassedOver) -> dict[str, Any]:
    """Read a header.

    Args:
        opener: Opens the recording.
        request: The recording: ``path`` of a local file, ``start`` and ``num_bytes`` of the recording in it, whether
            that is the ``whole`` file, whether it is ``remote`` (its bytes are to be fetched), and its ``name``.
        passed_over: Counts bytes behind the recording, and a header that says less than there is.

    Returns:
        The fields of ``AudioInfo``.

    Raises:
        Refused: The recording cannot be used.
    """
    with opener.open(request, thorough=True) as recording:
        num_samples = recording.num_samples
        if num_samples is None:
            num_samples = -recording.lead
            while count := len(_read(recording.sound, _BLOCK, 0, "float32")):
                num_samples += count
            if num_samples < max(1, recording.fewest - recording.lead):
                if num_samples <= 0:
                    raise BadRecording("too_short", "the recording has no samples")
                wanted = recording.fewest - recording.lead
                raise BadRecording("truncated", f"decoding ended after {num_samples} of at least {wanted} samples")
        if recording.trailing_bytes:
            passed_over.add(Kind.UNREAD_END)
        if recording.undeclared:
            passed_over.add(Kind.SHORT_HEADERS)
        for kind in recording.others:
            passed_over.add(Kind.OTHER_STREAMS, name=kind)
        if recording.late:
            passed_over.add(Kind.LATE_AUDIO)
        return {
            "container": recording.container,
            "sample_rate": recording.sound.samplerate,
            "num_channels": recording.sound.channels,
            "num_samples": num_samples,
        }


def _check_segment(request: dict[str, Any], recording: Recording, limits: dict[str, Any]) -> None:
    """Compare what the manifest says with what the header says."""
    sound, offset, count = recording.sound, request["offset_samples"], request["num_samples"]
    if sound.samplerate != request["sample_rate"]:
        raise BadRecording("header_lies", f"the file has {sound.samplerate} Hz, the manifest {request['sample_rate']}")
    channel = request["channel"]
    if channel is not None and not 0 <= channel < sound.channels:
        raise BadRecording("header_lies", f"the manifest names channel {channel}, the file has {sound.channels}")
    total = recording.num_samples
    past_end = total is not None and (offset >= total or offset + count > total + recording.slack)
    if offset < 0 or count < 1 or past_end:
        raise BadRecording("bad_segment", f"samples {offset} to {offset + count} are not in a recording of {total}")
    if count > limits["max_seconds"] * sound.samplerate:
        raise BadRecording(
            "too_long", f"{count / sound.samplerate:.1f} s; at most {limits['max_seconds']:g} are decoded"
        )


def _form(recording: Recording, channel: int | None, sample_rate: int) -> tuple[int | None, str]:
    """Say which channel to read, and whether int16 holds all there is of it."""
    sound = recording.sound
    channel = 0 if sound.channels == 1 else channel
    lossless = recording.container not in ("mp3", "ogg") and sound.subtype == "PCM_16"
    return channel, "int16" if lossless and channel is not None and sound.samplerate == sample_rate else "float32"


def stream(
    opener: Opener, request: dict[str, Any], sample_rate: int, passed_over: PassedOver | None = None
) -> Iterator[npt.NDArray[Any]]:
    """Decode a segment to mono at the encoder's rate, a stretch at a time: the same samples as in one piece.

    Args:
        opener: Opens the recording.
        request: The recording, as for ``probe``, and the manifest's ``offset_samples``, ``num_samples``,
            ``sample_rate`` and ``channel``.
        sample_rate: Rate of the result, Hz.
        passed_over: Counts channels that cancel; whole at the end.

    Yields:
        (S,) int16 where that loses nothing, else float32.

    Raises:
        Refused: The recording cannot be used; what was given is void.
    """
    wanted = request["offset_samples"] + request["num_samples"]
    with opener.open(request, thorough=False, wanted=wanted) as recording:
        _check_segment(request, recording, opener.limits)
        sound, offset, count = recording.sound, request["offset_samples"], request["num_samples"]
        channel, dtype = _form(recording, request["channel"], sample_rate)
        resampler = None
        if sound.samplerate != sample_rate:
            resampler = soxr.ResampleStream(sound.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        _skip_to(recording, offset)
        mixing = Mixing()
        got = given = 0
        ended = False
        while not ended:
            wanted = min(count - got, max(1, int(_STREAM_SECONDS * sound.samplerate)))
            samples = _read(sound, wanted, channel, dtype, mixing)
            if dtype == "float32" and not np.isfinite(samples).all():
                first = got + int(np.argmin(np.isfinite(samples)))
                raise BadRecording("not_finite", f"sample {offset + first} is NaN or infinite")
            got += len(samples)
            ended = got == count or len(samples) < wanted
            if resampler is not None:
                samples = resampler.resample_chunk(samples, last=ended)
            given += len(samples)
            if len(samples):
                yield samples
        if got < max(1, count - recording.slack):
            raise BadRecording("truncated", f"{got} of {count} samples from sample {offset} could be decoded")
        if recording.num_samples is not None and offset + count >= recording.num_samples:
            recording.check_end()
        if given == 0:
            raise BadRecording("too_short", f"{count} samples at {sound.samplerate} Hz are none at {sample_rate} Hz")
        if passed_over is not None and mixing.cancelled():
            passed_over.add(Kind.CHANNELS_CANCEL)


def decode(
    opener: Opener, request: dict[str, Any], sample_rate: int, passed_over: PassedOver | None = None
) -> npt.NDArray[Any]:
    """Decode a segment in one piece; see ``stream``."""
    pieces = list(stream(opener, request, sample_rate, passed_over))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _skip_to(recording: Recording, offset: int) -> None:
    """Read on from a place to which a seek is exact, and before which the decoder needs nothing."""
    offset += recording.lead
    start = min(offset - recording.early, recording.seek_end)
    if start > 0:
        try:
            recording.sound.seek(start)
        except soundfile.LibsndfileError as error:
            raise refusal("truncated", f"sample {start} cannot be reached", error) from error
    start = max(0, start)
    while start < offset:
        skipped = len(_read(recording.sound, min(_BLOCK, offset - start), 0, "float32"))
        if skipped == 0:
            raise BadRecording("truncated", f"the recording ends at sample {start}, before {offset}")
        start += skipped


def serve(
    opener: Opener, request: dict[str, Any], sample_rate: int
) -> Iterator[tuple[dict[str, Any], bytes | memoryview]]:
    """Answer one request; whatever is wrong with a recording becomes a reason, never an end of the process.

    Yields:
        One message; for a stream one a stretch with ``more`` set, and one without it at the end.
    """
    passed_over = PassedOver()
    View.failure = None
    try:
        faults.point("decode", request["key"])
        if request["do"] == "probe":
            header = probe(opener, request, passed_over)
            yield header | passed_over.note(), b""
        elif request["do"] == "stream":
            for samples in stream(opener, request, sample_rate, passed_over):
                yield _message(samples, more=True)
            yield {"more": False, **passed_over.note()}, b""
        else:
            header, payload = _message(decode(opener, request, sample_rate, passed_over))
            yield header | passed_over.note(), payload
    except BadRecording as refused:
        # libsndfile takes a read that fails for the end of the file.
        yield _unreadable(View.failure) if View.failure else {"reason": refused.reason, "detail": refused.detail}, b""
    except MemoryError:
        detail = f"decoding needs more than {opener.limits['memory_bytes']} bytes of memory"
        yield {"reason": "decoder_memory", "detail": detail}, b""
    except OSError as error:
        yield _unreadable(error), b""
    except Exception as error:
        yield {"reason": "decoder_crash", "detail": f"{type(error).__name__}: {error}"}, b""


def _unreadable(error: OSError) -> dict[str, Any]:
    return {"reason": "unreadable", "detail": f"reading failed: {error}", "errno": error.errno}


def _message(samples: npt.NDArray[Any], *, more: bool = False) -> tuple[dict[str, Any], memoryview]:
    samples = np.ascontiguousarray(samples)
    return {"dtype": samples.dtype.name, "num_bytes": samples.nbytes, "more": more}, samples.data.cast("B")


def _send(pipe: BinaryIO, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    text = json.dumps(header).encode()
    pipe.write(struct.pack(">I", len(text)) + text)
    pipe.write(payload)
    pipe.flush()


def _receive(pipe: BinaryIO) -> dict[str, Any]:
    """Read one message; {} when the pipe has ended."""
    head = pipe.read(4)
    message: dict[str, Any] = json.loads(pipe.read(struct.unpack(">I", head)[0])) if len(head) == 4 else {}
    return message


def main() -> None:
    """Serve requests from stdin until it closes; the settings are the one argument, as JSON."""
    settings = json.loads(sys.argv[1])
    requests, replies = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    # libmpg123 writes to stderr for every odd frame; an error at start was shown before this line.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    contain(settings["limits"]["memory_bytes"])
    _send(replies, {"ready": True})

    def fetch(start: int, stop: int) -> tuple[int, int]:
        """Ask the parent for bytes of a remote recording; the time that takes is the parent's."""
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        _send(replies, {"fetch": [start, stop]})
        held = _receive(requests)
        signal.setitimer(signal.ITIMER_REAL, left)
        return held["held"][0], held["held"][1]

    opener = Opener(settings["limits"], fetch)
    while request := _receive(requests):
        answers = serve(opener, request, settings["sample_rate"])
        while True:
            signal.setitimer(signal.ITIMER_REAL, settings["limits"]["timeout_seconds"] + _ALARM_GRACE_SECONDS)
            answer = next(answers, None)
            # Off while the parent is slow to read: that is no fault of the recording.
            signal.setitimer(signal.ITIMER_REAL, 0)
            if answer is None:
                break
            _send(replies, *answer)


if __name__ == "__main__":
    main()
