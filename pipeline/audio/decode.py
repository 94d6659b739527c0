"""Reads one recording, or a segment of one, into mono at the encoder's rate, whatever its bytes are.

Where its bytes lie is found by ``sources.py`` (a plain file, a member of a tar, a cell of Parquet, an S3 object);
they are read in a child process with bounded memory and time (``decode_child.py``), so a file that crashes or hangs
libsndfile or FFmpeg costs that file alone. Every fault of a recording is an AudioDecodeError with a
``schema.Reason``; what the machine or the store does to it is tried again, then a StorageError (``trials.py``,
``doubts.py``).

A resampled segment of S samples has floor(S * target / source + 1/2) samples. Memory: the segment. Cost of a
child: 0.15 s at its start, once a process.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.control import check_decoder
from pipeline.audio.decode_process import DecodeDeath, DecodeProcess
from pipeline.audio.decode_process import DecodeLimits as DecodeLimits
from pipeline.audio.places import Place
from pipeline.audio.sources import Sources
from pipeline.audio.trials import Trials
from pipeline.errors import SettingsError
from pipeline.passed_over import NOTE, PassedOver
from pipeline.schema import Reason

Samples = npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""(S,) mono; int16 is the float32 waveform times 32768."""


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What the header of a recording declares."""

    container: str
    """wav, w64, aiff, au, caf, sphere, flac, ogg or mp3; through PyAV mp4, matroska, adts, amr or asf."""
    sample_rate: int
    """Samples per second of one channel, Hz."""
    num_channels: int
    """Channels in the file."""
    num_samples: int
    """Samples of one channel; counted by decoding where the header does not say (streamed FLAC, MP3, all of PyAV)."""


def to_float32(samples: Samples) -> npt.NDArray[np.float32]:
    """Turn decoded samples into a waveform.

    Args:
        samples: (S,) int16 or float32.

    Returns:
        (S,) float32; int16 is divided by 32768, float32 is given back as it is.

    Raises:
        TypeError: The samples are neither.
    """
    if samples.dtype == np.float32:
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    raise TypeError(f"samples must be int16 or float32, got {samples.dtype}")


class Decoder:
    """Probes and decodes recordings in a child process, which starts at first use and again after a crash.

    Use it as a context manager, or call ``close``. Calls from several threads take turns. It is not usable in a
    forked copy of the process.

    Args:
        sample_rate: Rate of decoded waveforms, Hz.
        limits: What one recording may cost.
        roots: Local folders and ``s3://bucket/prefix`` under which recordings must lie, links resolved; none
            means anywhere.
    """

    def __init__(self, *, sample_rate: int, limits: DecodeLimits | None = None, roots: Sequence[str] = ()) -> None:
        if sample_rate < 1:
            raise SettingsError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
        self.sample_rate = sample_rate
        self.limits = limits or DecodeLimits()
        self._sources = Sources(roots, self.limits.max_file_bytes)
        self._lock = threading.Lock()
        self._child: DecodeProcess | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probe(self, uri: str, *, part: Place | None = None, passed_over: PassedOver | None = None) -> AudioInfo:
        """Read the header of a recording.

        Args:
            uri: Absolute local path, or ``s3://bucket/key``.
            part: Where in that file the recording lies; None when it is the file.
            passed_over: Counts what of the recording is not read.

        Raises:
            AudioDecodeError: The recording cannot be used; its ``reason`` says why.
            StorageError: S3 failed; the recording may be fine.
        """
        with self._lock:
            ((header, _),) = self._answers(uri, part, {"do": "probe", "key": uri})
        _count(header.pop(NOTE, {}), passed_over, uri, part)
        return AudioInfo(**header)

    def decode(
        self,
        uri: str,
        *,
        offset_samples: int,
        num_samples: int,
        sample_rate: int,
        channel: int | None,
        utterance_id: str,
        part: Place | None = None,
        passed_over: PassedOver | None = None,
    ) -> Samples:
        """Decode a segment to mono at the encoder's rate.

        Args:
            uri: Absolute local path, or ``s3://bucket/key``.
            offset_samples: First sample, counted at the recording's own rate.
            num_samples: Length, counted at the recording's own rate.
            sample_rate: The recording's rate as the manifest has it, Hz.
            channel: The one channel to read; None means the mean of all.
            utterance_id: Name of the utterance, for fault points.
            part: Where in the file the recording lies; None when it is the file.
            passed_over: Counts what of the recording is not read, and channels that cancel.

        Returns:
            (S,) int16 when the source is 16-bit PCM at the encoder's rate and one channel of it is read, else
            float32. An MP3 may give up to 2304 source samples fewer than asked at its end; nothing else does.
            A segment equals that slice of the whole, but Opus keeps state: it differs by up to 1e-3, always alike.

        Raises:
            AudioDecodeError: The recording cannot be used; its ``reason`` says why.
            StorageError: S3 failed; the recording may be fine.
        """
        request = {
            "do": "decode",
            "key": utterance_id or uri,
            "offset_samples": offset_samples,
            "num_samples": num_samples,
            "sample_rate": sample_rate,
            "channel": channel,
        }
        with self._lock:
            ((header, payload),) = self._answers(uri, part, request)
        _count(header.get(NOTE, {}), passed_over, uri, part)
        samples: Samples = np.frombuffer(payload, dtype=header["dtype"])
        return samples

    def stream(
        self,
        uri: str,
        *,
        offset_samples: int,
        num_samples: int,
        sample_rate: int,
        channel: int | None,
        utterance_id: str,
        part: Place | None = None,
        passed_over: PassedOver | None = None,
    ) -> Iterator[Samples]:
        """Decode a segment of any length in bounded memory; see ``decode``, whose samples it gives.

        Other calls wait until the stream has ended or is closed. Time limits hold for each stretch.

        Yields:
            (S,) stretches of about 10 s.

        Raises:
            AudioDecodeError: The recording cannot be used, which may show late; what was given is void then.
            StorageError: S3 failed; the recording may be fine.
        """
        request: dict[str, Any] = {
            "do": "stream",
            "key": utterance_id or uri,
            "offset_samples": offset_samples,
            "num_samples": num_samples,
            "sample_rate": sample_rate,
            "channel": channel,
        }
        with self._lock:
            for header, payload in self._answers(uri, part, request):
                if header["more"]:
                    samples: Samples = np.frombuffer(payload, dtype=header["dtype"])
                    yield samples
                else:
                    _count(header.get(NOTE, {}), passed_over, uri, part)

    def close(self) -> None:
        """End the child process and let go of the last recording; a later call starts anew."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None
            self._sources.close()

    def __del__(self) -> None:
        # One that nobody closed, as in a worker whose process goes on: its child would stay as long.
        with contextlib.suppress(Exception):
            self.close()

    def _answers(
        self, uri: str, part: Place | None, request: Mapping[str, Any]
    ) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """Give what the decode process answers to one request.

        Where the process dies or a read fails, the recording is read again, and what was given is passed over: the same
        recording gives the same answers. See ``trials.py`` for what ends this.
        """
        trials = Trials(uri if part is None else f"{uri}: {part}", request["key"], self.limits.timeout_seconds)
        given = 0
        while True:
            source = self._sources.open(uri, part, from_start=request.get("offset_samples") == 0)
            asked = {**request, **source.place, "careful": trials.careful}
            alone = True
            try:
                child, alone = self._process(fresh=trials.fresh)
                for number, (header, payload) in enumerate(child.ask(asked, source.fetch)):
                    if "reason" in header:
                        reject = trials.refused(header)
                        break
                    if number >= given:
                        given += 1
                        yield header, payload
                else:
                    return
            except DecodeDeath as death:
                self._drop()
                reject = trials.died(death, alone=alone)
                if reject is not None and reject.reason == Reason.DECODER_CRASH:
                    check_decoder(lambda: self._process(fresh=True)[0])
            except BaseException:
                # Also after Ctrl-C: the answer under way must not be taken for that of the next request.
                self._drop()
                raise
            if reject is not None:
                raise reject

    def _process(self, *, fresh: bool) -> tuple[DecodeProcess, bool]:
        """Give the decode process, and whether it has read nothing yet."""
        if fresh:
            self._drop()
        if self._child is not None and self._child.alive:
            return self._child, False
        self._drop()
        self._child = DecodeProcess(self.sample_rate, self.limits)
        return self._child, True

    def _drop(self) -> None:
        """End the decode process, whatever it does."""
        if self._child is not None:
            self._child.close(force=True)
            self._child = None


def _count(told: Mapping[str, Any], passed_over: PassedOver | None, uri: str, part: Place | None) -> None:
    """Add what the decode process passed over in a recording, which is the example of all of it."""
    if passed_over is not None:
        passed_over.merge(PassedOver.of(told), example=uri if part is None else f"{uri}: {part}")
