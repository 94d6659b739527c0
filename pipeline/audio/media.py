"""Reads what libsndfile cannot through FFmpeg, in PyAV: AAC, AMR, WMA, Opus and others in MP4, Matroska, ADTS and ASF.

A recording is decoded from its start, because these codecs remember: AAC draws its noise from a generator that runs
through the file. It stays open, with the samples that were read last, so that segments that follow each other cost one
decoding of it. FFmpeg is told the container and opens no other file, whatever the recording names.

Memory: 32 MiB of samples, a block and a packet. Cost, one core: AAC 900 times real time, Opus and WMA 560, AMR 200.
"""

import contextlib
import importlib.util
from collections import deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.child_memory import loading
from pipeline.audio.containers.declared import BadRecording, Declared
from pipeline.audio.packet_times import PacketTimes
from pipeline.audio.views import View

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

FORMATS = {"mp4": "mov", "matroska": "matroska", "adts": "aac", "amr": "amr", "asf": "asf"}
"""FFmpeg's name of each container that is read this way."""

_CODECS = {
    *("aac", "alac", "flac", "mp3float", "mp3", "opus", "vorbis", "ac3", "eac3", "amrnb", "amrwb"),
    *("wmav1", "wmav2", "wmapro", "wmavoice", "wmalossless"),
    *(f"pcm_{name}" for name in ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be")),
    *("pcm_alaw", "pcm_mulaw"),
}
# FFmpeg's own decoder of AMR refuses the frames that stand for silence.
_DECODERS = {"amrnb": "libopencore_amrnb"}
_BLOCK = 1 << 16
# Samples that stay: this much, or as a share of the memory that there may be.
_KEPT_BYTES, _KEPT_SHARE = 32 << 20, 8
# By how much less than a header says decoding may give, seconds: timestamps are rounded, and delays are not counted.
_SECONDS_SLACK = 0.5
# More than the delay of an encoder, by which FFmpeg puts the first sample later where a tag of iTunes names it.
_LATE_SECONDS = 0.15
# By FFmpeg's name of a form of samples, without the p of one whose channels lie apart.
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}


class MediaSound:
    """An open recording, read like a ``soundfile.SoundFile`` whose samples are float32.

    Args:
        view: The bytes of the recording; closed with it.
        container: As ``find_container`` names it.
        declared: What was found of it.
        limits: Fields of ``DecodeLimits``.

    Attributes:
        samplerate: Hz.
        channels: How many.
        subtype: FFmpeg's name of the codec.
        others: Kinds of the streams that are not read, but for pictures of a cover.
        late: Whether the audio begins later than the recording's clock.
    """

    def __init__(self, view: View, container: str, declared: Declared, limits: dict[str, Any]) -> None:
        self.samplerate = self.channels = 0
        self._view = view
        self._container = container
        self._declared = declared
        self._limits = limits
        self._most_kept = min(_KEPT_BYTES, limits["memory_bytes"] // _KEPT_SHARE)
        self._av = _loaded()
        self._position = 0
        self._open: InputContainer | None = None
        self._begin()
        if not self._more():
            raise BadRecording("too_short", "the recording has no samples")

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> npt.NDArray[np.float32]:
        """Read on: (S, C), fewer samples than asked for only at the end.

        Args:
            frames: Samples of a channel.
            dtype: As soundfile has it; only float32.
            always_2d: As soundfile has it; only True.

        Raises:
            BadRecording: It is damaged.
        """
        assert (dtype, always_2d) == ("float32", True)
        if self._position < self._kept_from:
            self._begin()
        pieces: list[npt.NDArray[np.float32]] = []
        missing = frames
        while missing and (self._position < self._end or self._more()):
            start = self._kept_from
            for block in self._kept:
                if start <= self._position < start + len(block):
                    pieces.append(block[self._position - start :][:missing])
                    self._position += len(pieces[-1])
                    missing -= len(pieces[-1])
                start += len(block)
        return np.concatenate([np.empty((0, self.channels), np.float32), *pieces])

    def seek(self, frames: int) -> int:
        """Go to a sample; what lies before it is decoded at the next read."""
        self._position = frames
        return frames

    def close(self) -> None:
        """Close the recording."""
        self._close()
        self._view.close()

    def _close(self) -> None:
        if self._open is not None:
            self._blocks.close()
            self._open.close()
            self._open = None

    def _begin(self) -> None:
        """Open the recording at its start."""
        self._close()
        self._view.seek(0)
        self._kept: deque[npt.NDArray[np.float32]] = deque()
        self._kept_from = self._end = 0
        with self._told("FFmpeg cannot open it"):
            self._open = self._opened()
            self._blocks = self._joined(self._stream(self._open))

    def _opened(self) -> "InputContainer":
        allowed = ",".join(sorted(_CODECS))
        opened: InputContainer = self._av.open(
            self._view,
            mode="r",
            format=FORMATS[self._container],
            container_options={
                "protocol_whitelist": "",
                "format_whitelist": FORMATS[self._container],
                "codec_whitelist": allowed,
                **({"enable_drefs": "0", "use_absolute_path": "0"} if self._container == "mp4" else {}),
            },
            metadata_errors="replace",
            io_open=_refuse_file,
        )
        return opened

    def _stream(self, opened: "InputContainer") -> "AudioStream":
        """Choose the stream to read: the first of audio."""
        if not opened.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in opened.streams})) or "nothing"
            raise BadRecording("not_audio", f"it holds no audio, but {kinds}")
        stream = opened.streams.audio[0]
        name = stream.codec_context.codec.name if stream.codec_context is not None else "unknown"
        if name not in _CODECS:
            raise BadRecording("not_audio", f"its codec {name} is not read; convert it (ffmpeg -i FILE FILE.flac)")
        pictures = self._av.stream.Disposition.attached_pic
        self.subtype = name
        self.others = tuple(
            other.type
            for other in opened.streams
            if other.type in ("audio", "video") and other.index != stream.index and not other.disposition & pictures
        )
        self.late = float((stream.start_time or 0) * (stream.time_base or 0)) > _LATE_SECONDS
        return stream

    def _more(self) -> bool:
        """Decode one block more; False at the end."""
        with self._told(f"decoding failed after {self._end} samples"):
            block = next(self._blocks, None)
        if block is None:
            return False
        self._kept.append(block)
        self._end += len(block)
        # Always one block: the position may lie in it.
        while len(self._kept) > 1 and 4 * self.channels * (self._end - self._kept_from) > self._most_kept:
            self._kept_from += len(self._kept.popleft())
        return True

    def _joined(self, stream: "AudioStream") -> Generator[npt.NDArray[np.float32], None, None]:
        """Join frames into blocks, and look at the end whether all was there."""
        held: list[npt.NDArray[np.float32]] = []
        count = total = 0
        try:
            for samples in self._frames(stream):
                held.append(samples)
                count += len(samples)
                total += len(samples)
                if total * self.channels * 2 > self._limits["max_expansion"] * self._view.size:
                    raise BadRecording("header_lies", f"{total} samples come from {self._view.size} bytes")
                if count >= _BLOCK:
                    yield np.concatenate(held)
                    held, count = [], 0
        except (self._av.FFmpegError, BadRecording):
            # What lies before the damage is sound.
            if held:
                yield np.concatenate(held)
            raise
        if held:
            yield np.concatenate(held)
        seconds = self._declared.seconds
        # A duration counts the longest stream.
        if seconds is not None and not self.others and total < (seconds - _SECONDS_SLACK) * self.samplerate:
            found = f"{total / max(1, self.samplerate):.2f} s could be decoded where the header says {seconds:.2f} s"
            raise BadRecording("truncated", found)

    def _frames(self, stream: "AudioStream") -> Iterator[npt.NDArray[np.float32]]:
        """Decode packet by packet: (S, C), without what the container takes away at either end."""
        context = self._context(stream)
        assert self._open is not None
        times = PacketTimes(self._container == "mp4", stream, self._open.metadata.get("iTunSMPB", ""))
        for packet, last in self._packets(stream):
            times.packet(packet, last=last)
            for frame in context.decode(packet):
                self._check(frame)
                samples = times.cut(frame, _float32(frame))
                if len(samples):
                    yield samples

    def _context(self, stream: "AudioStream") -> "AudioCodecContext":
        context = stream.codec_context
        other = _DECODERS.get(self.subtype)
        if other in self._av.codecs_available:
            context = self._av.CodecContext.create(other, "r")
            context.sample_rate, context.layout = stream.codec_context.sample_rate, stream.codec_context.layout
        context.thread_count = 1
        return context

    def _packets(self, stream: "AudioStream") -> Iterator[tuple["Packet[AudioStream]", bool]]:
        """Give the packets of the stream, and whether one is the last; at the end an empty one, for the decoder."""
        assert self._open is not None
        held: Packet[AudioStream] | None = None
        count = 0
        for packet in self._open.demux(stream):
            if packet.is_corrupt:
                raise BadRecording("truncated", f"its packet {count} is cut or damaged")
            if packet.has_sidedata("encryption_info") or count == 0 and packet.has_sidedata("encryption_init_info"):
                raise BadRecording("not_audio", "it is encrypted")
            flush = packet.dts is None and packet.size == 0
            if held is not None:
                yield held, flush
            held = packet
            count += not flush
        if View.failure is not None:
            raise View.failure
        most = len(stream.index_entries) if self._container == "mp4" else self._declared.packets or 0
        # Of other containers packets are counted of all streams.
        if count < most and (self._container == "mp4" or len(self._open.streams) == 1):
            raise BadRecording("truncated", f"{count} of its {most} packets are there")
        if held is not None:
            yield held, False

    def _check(self, frame: "AudioFrame") -> None:
        """Compare the form of a frame with the limits, and with the first."""
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if not self.samplerate:
            if channels > self._limits["max_channels"]:
                most = self._limits["max_channels"]
                raise BadRecording("too_many_channels", f"{channels} channels; at most {most} are read")
            low, high = self._limits["min_sample_rate"], self._limits["max_sample_rate"]
            if not low <= rate <= high:
                raise BadRecording("bad_sample_rate", f"{rate} Hz is outside {low} to {high} Hz")
            self.samplerate, self.channels = rate, channels
        if (rate, channels) != (self.samplerate, self.channels):
            found = f"{rate} Hz and {channels} channels follow {self.samplerate} Hz and {self.channels}"
            raise BadRecording("header_lies", f"its form changes: {found}; split it")

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Make a reject of an error of FFmpeg; a read that failed, and a lack of memory, stay what they are."""
        try:
            yield
        except MemoryError:
            raise
        except self._av.FFmpegError as error:
            if View.failure is not None:
                raise View.failure from error
            missing = isinstance(error, self._av.error.PatchWelcomeError)
            raise BadRecording("not_audio" if missing else "truncated", f"{what}: {error.strerror}") from error


def _loaded() -> Any:
    """Import PyAV, which takes 0.1 s and 100 MB: only where a recording needs it.

    Raises:
        BadRecording: It is not installed.
    """
    if importlib.util.find_spec("av") is None:
        raise BadRecording(
            "not_audio",
            'PyAV reads it, which is not installed: pip install "strata-tokens[av]", or convert it '
            "(ffmpeg -i FILE FILE.flac)",
        )
    with loading():
        import av
        import av.error
        import av.stream
    return av


def _refuse_file(url: str, flags: int, options: dict[str, str]) -> None:
    """Open nothing: a recording is one file."""
    raise PermissionError("a recording names another file, which is not opened")


def _float32(frame: "AudioFrame") -> npt.NDArray[np.float32]:
    """Give the samples of a frame: (S, C). Twice as fast as ``to_ndarray`` of PyAV."""
    dtype, channels = np.dtype(_DTYPES[frame.format.name.rstrip("p")]), frame.layout.nb_channels
    buffers: Any = frame.planes
    samples_SC: npt.NDArray[Any]
    if frame.format.is_planar:
        planes = [np.frombuffer(buffer, dtype, count=frame.samples) for buffer in buffers]
        samples_SC = planes[0][:, None] if channels == 1 else np.stack(planes, axis=1)
    else:
        samples_SC = np.frombuffer(buffers[0], dtype, count=frame.samples * channels).reshape(-1, channels)
    if samples_SC.dtype.kind == "f":
        return samples_SC.astype(np.float32, copy=False)
    middle = 128 if samples_SC.dtype == np.uint8 else 0
    scale = 2.0 ** (8 * samples_SC.dtype.itemsize - 1)
    return ((samples_SC.astype(np.float64) - middle) / scale).astype(np.float32)
