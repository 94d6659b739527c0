"""Reads headers and decodes audio in a process of its own, because libsndfile can crash and headers lie.

Started by ``pipeline.audio.decode.Decoder``, which talks to it over stdin and stdout. Imports no torch, ray or
pyarrow, so that it starts fast. A message is a 4-byte big-endian length, that many bytes of JSON, and
``num_bytes`` raw bytes when the JSON says so. Ends when stdin closes, which also happens when the parent is
killed, or by its own alarm when a request takes far too long and the parent is gone.

Memory: one utterance at the encoder's rate, twice, or 10 s of it where it is streamed. Cost: the samples
asked for, plus what a container needs to seek; a recording without a length is decoded whole to probe it.
"""

import io
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from pipeline import faults
from pipeline.audio.containers import BadRecording, check_mp3, check_ogg, check_wave
from pipeline.audio.mixing import Mixing
from pipeline.audio.views import Fetch, Overlaid, View
from pipeline.passed_over import Kind, PassedOver

_BLOCK = 65_536
_STREAM_SECONDS = 10.0
_CONTAINERS = {"WAV": "wav", "WAVEX": "wav", "RF64": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}
# What libsndfile gives for a FLAC whose encoder wrote to a pipe.
_NO_LENGTH = 2**63 - 1
# Two MPEG frames: readers of MP3 differ on whether encoder delay and padding are part of the recording.
_MP3_SLACK = 2 * 1152
# Two of the longest Vorbis blocks.
_VORBIS_LEAD = 2 * 8192
_ALARM_GRACE_SECONDS = 10.0


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read straight on."""

    def seekable(self) -> bool:
        """Keep ``read`` from seeking after each block: that fails at the end of a FLAC without a length."""
        return False


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """An open recording whose header was found possible.

    Attributes:
        sound: The open file.
        container: wav, flac, ogg or mp3.
        num_samples: As the header declares, None when it does not.
        seek_end: The last sample to which a seek is exact.
        slack: Samples that may be missing at the end without being called truncated.
    """

    sound: _Sound
    container: str
    num_samples: int | None
    seek_end: int
    slack: int


@contextmanager
def _opened(source: dict[str, Any], limits: dict[str, Any], fetch: Fetch | None) -> Iterator[_Recording]:
    """Open a recording and refuse a header that cannot be true or breaks a limit."""
    container, num_bytes = source["container"], source["num_bytes"]
    view = View(source["path"], source["start"], num_bytes, fetch if source["remote"] else None)
    declared, overlay, last_page = True, None, None
    # Buffered: the checks read a few bytes at a time, and of a remote object 64 KiB come anyway.
    with io.BufferedReader(view, _BLOCK) as file:
        if container == "wav":
            overlay = check_wave(file)
        elif container == "ogg":
            last_page = check_ogg(file)
        elif container == "mp3":
            declared, overlay = check_mp3(file)
        plain = source["whole"] and not source["remote"]
        opened = Overlaid(view, overlay) if overlay is not None else source["path"] if plain else view
        view.seek(0)
        try:
            sound = _Sound(opened)
        except soundfile.LibsndfileError as error:
            raise _refusal("not_audio", "libsndfile cannot open it", error) from error
        with sound:
            yield _checked(sound, num_bytes, limits, declared=declared, last_page=last_page)


def _checked(
    sound: _Sound, num_bytes: int, limits: dict[str, Any], *, declared: bool, last_page: int | None
) -> _Recording:
    if sound.format not in _CONTAINERS:
        raise BadRecording("not_audio", f"the container is {sound.format}, not WAV, FLAC, Ogg or MP3")
    container = _CONTAINERS[sound.format]
    _check_header(sound, num_bytes, limits)
    num_samples = sound.frames if declared and sound.frames != _NO_LENGTH else None
    if num_samples == 0:
        raise BadRecording("too_short", "the recording has no samples")
    # libsndfile 1.2.2 seeks wrongly within the last page of Vorbis: 17,000 samples of 44.1 kHz were others.
    seek_end = sound.frames
    if sound.subtype == "VORBIS":
        seek_end = max(0, sound.frames - last_page - _VORBIS_LEAD) if last_page is not None else 0
    return _Recording(
        sound=sound,
        container=container,
        num_samples=num_samples,
        seek_end=seek_end,
        slack=_MP3_SLACK if container == "mp3" else 0,
    )


def _check_header(sound: _Sound, num_bytes: int, limits: dict[str, Any]) -> None:
    if sound.channels > limits["max_channels"]:
        raise BadRecording("too_many_channels", f"{sound.channels} channels; at most {limits['max_channels']} are read")
    low, high = limits["min_sample_rate"], limits["max_sample_rate"]
    if not low <= sound.samplerate <= high:
        raise BadRecording("bad_sample_rate", f"{sound.samplerate} Hz is outside {low} to {high} Hz")
    declared = sound.frames * sound.channels * 2
    if sound.frames != _NO_LENGTH and declared > limits["max_expansion"] * num_bytes:
        raise BadRecording("header_lies", f"{sound.frames} samples are declared in a file of {num_bytes} bytes")


def _refusal(reason: str, what: str, error: soundfile.LibsndfileError) -> BadRecording:
    text = error.error_string.strip()
    return BadRecording("decoder_memory" if "malloc" in text.lower() else reason, f"{what}: {text}")


def _read(sound: _Sound, count: int, channel: int | None, dtype: str, mixing: Mixing | None = None) -> npt.NDArray[Any]:
    """Read on from where the file stands, block by block; fewer than ``count`` samples when it ends before."""
    mixing = mixing or Mixing()
    samples = np.empty(count, dtype=dtype)
    filled = 0
    while filled < count:
        try:
            block_SC = sound.read(min(_BLOCK, count - filled), dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _refusal("truncated", f"decoding failed within {count} samples, after {filled}", error) from error
        if len(block_SC) == 0:
            break
        alone = block_SC.shape[1] == 1 or channel is not None
        mono = block_SC[:, channel or 0] if alone else mixing.mean(block_SC)
        samples[filled : filled + len(mono)] = mono
        filled += len(mono)
    return samples[:filled]


def probe(request: dict[str, Any], limits: dict[str, Any], fetch: Fetch | None = None) -> dict[str, Any]:
    """Read a header.

    Args:
        request: The recording: ``path`` of a local file, ``start`` and ``num_bytes`` of the recording in it, whether
            that is the ``whole`` file, whether it is ``remote`` (its bytes are to be fetched), and its
            ``container`` by magic bytes.
        limits: Fields of ``DecodeLimits``.
        fetch: Makes bytes of a remote recording present in the file.

    Returns:
        The fields of ``AudioInfo``.

    Raises:
        Refused: The recording cannot be used.
    """
    with _opened(request, limits, fetch) as recording:
        num_samples = recording.num_samples
        if num_samples is None:
            num_samples = 0
            while count := len(_read(recording.sound, _BLOCK, 0, "float32")):
                num_samples += count
            if num_samples == 0:
                raise BadRecording("too_short", "the recording has no samples")
        return {
            "container": recording.container,
            "sample_rate": recording.sound.samplerate,
            "num_channels": recording.sound.channels,
            "num_samples": num_samples,
        }


def _check_segment(request: dict[str, Any], recording: _Recording, limits: dict[str, Any]) -> None:
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


def _form(recording: _Recording, channel: int | None, sample_rate: int) -> tuple[int | None, str]:
    """Say which channel to read, and whether int16 holds all there is of it."""
    sound = recording.sound
    channel = 0 if sound.channels == 1 else channel
    lossless = recording.container in ("wav", "flac") and sound.subtype == "PCM_16"
    return channel, "int16" if lossless and channel is not None and sound.samplerate == sample_rate else "float32"


def stream(
    request: dict[str, Any],
    limits: dict[str, Any],
    sample_rate: int,
    fetch: Fetch | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[npt.NDArray[Any]]:
    """Decode a segment to mono at the encoder's rate, a stretch at a time: the same samples as in one piece.

    Args:
        request: The recording, as for ``probe``, and the manifest's ``offset_samples``, ``num_samples``,
            ``sample_rate`` and ``channel``.
        limits: Fields of ``DecodeLimits``.
        sample_rate: Rate of the result, Hz.
        fetch: Makes bytes of a remote recording present in the file.
        passed_over: Counts channels that cancel; whole at the end.

    Yields:
        (S,) int16 where that loses nothing, else float32.

    Raises:
        Refused: The recording cannot be used; what was given is void.
    """
    with _opened(request, limits, fetch) as recording:
        _check_segment(request, recording, limits)
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
        if given == 0:
            raise BadRecording("too_short", f"{count} samples at {sound.samplerate} Hz are none at {sample_rate} Hz")
        if passed_over is not None and mixing.cancelled():
            passed_over.add(Kind.CHANNELS_CANCEL)


def decode(
    request: dict[str, Any],
    limits: dict[str, Any],
    sample_rate: int,
    fetch: Fetch | None = None,
    passed_over: PassedOver | None = None,
) -> npt.NDArray[Any]:
    """Decode a segment in one piece; see ``stream``."""
    pieces = list(stream(request, limits, sample_rate, fetch, passed_over))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _skip_to(recording: _Recording, offset: int) -> None:
    start = min(offset, recording.seek_end)
    if start > 0:
        try:
            recording.sound.seek(start)
        except soundfile.LibsndfileError as error:
            raise _refusal("truncated", f"sample {start} cannot be reached", error) from error
    while start < offset:
        skipped = len(_read(recording.sound, min(_BLOCK, offset - start), 0, "float32"))
        if skipped == 0:
            raise BadRecording("truncated", f"the recording ends at sample {start}, before {offset}")
        start += skipped


def serve(
    request: dict[str, Any], settings: dict[str, Any], fetch: Fetch
) -> Iterator[tuple[dict[str, Any], bytes | memoryview]]:
    """Answer one request; whatever is wrong with a recording becomes a reason, never an end of the process.

    Yields:
        One message; for a stream one a stretch with ``more`` set, and one without it at the end.
    """
    passed_over = PassedOver()
    try:
        faults.point("decode", request["key"])
        limits = settings["limits"]
        if request["do"] == "probe":
            yield probe(request, limits, fetch), b""
        elif request["do"] == "stream":
            for samples in stream(request, limits, settings["sample_rate"], fetch, passed_over):
                yield _message(samples, more=True)
            yield {"more": False, **passed_over.note()}, b""
        else:
            samples = decode(request, limits, settings["sample_rate"], fetch, passed_over)
            header, payload = _message(samples)
            yield header | passed_over.note(), payload
    except BadRecording as refused:
        yield {"reason": refused.reason, "detail": refused.detail}, b""
    except MemoryError:
        detail = f"decoding needs more than {settings['limits']['memory_bytes']} bytes of memory"
        yield {"reason": "decoder_memory", "detail": detail}, b""
    except OSError as error:
        yield {"reason": "unreadable", "detail": f"reading failed: {error}"}, b""
    except Exception as error:
        yield {"reason": "decoder_crash", "detail": f"{type(error).__name__}: {error}"}, b""


def _message(samples: npt.NDArray[Any], *, more: bool = False) -> tuple[dict[str, Any], memoryview]:
    samples = np.ascontiguousarray(samples)
    return {"dtype": samples.dtype.name, "num_bytes": samples.nbytes, "more": more}, samples.data.cast("B")


def _contain(memory_bytes: int) -> None:
    """Bound what this process may allocate from now on, beyond the 150 MB that its libraries have mapped."""
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, mapped + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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
    _contain(settings["limits"]["memory_bytes"])
    _send(replies, {"ready": True})

    def fetch(start: int, stop: int) -> tuple[int, int]:
        """Ask the parent for bytes of a remote recording; the time that takes is the parent's."""
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        _send(replies, {"fetch": [start, stop]})
        held = _receive(requests)
        signal.setitimer(signal.ITIMER_REAL, left)
        return held["held"][0], held["held"][1]

    while request := _receive(requests):
        answers = serve(request, settings, fetch)
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
