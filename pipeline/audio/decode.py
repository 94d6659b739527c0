"""Reads one recording, or a segment of one, into mono at the encoder's rate, whatever its bytes are.

The file is looked at here (it exists, is a plain file, lies under the roots, has a known magic); its content
is read in a child process with bounded memory and time (``decode_child.py``), so a file that crashes or hangs
libsndfile costs that file alone. Every fault of a recording is an AudioDecodeError with a ``schema.Reason``.

A resampled segment of S samples has floor(S * target / source + 1/2) samples. Memory: the segment. Cost of a
child: 0.15 s at its start, once a process.
"""

import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.containers import sniff
from pipeline.audio.decode_process import DecodeLimits as DecodeLimits
from pipeline.audio.decode_process import DecodeProcess
from pipeline.audio.download import Download, check_size
from pipeline.errors import AudioDecodeError, SettingsError
from pipeline.schema import Reason

Samples = npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""(S,) mono; int16 is the float32 waveform times 32768."""


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What the header of a recording declares."""

    container: str
    """wav, flac, ogg or mp3."""
    sample_rate: int
    """Samples per second of one channel, Hz."""
    num_channels: int
    """Channels in the file."""
    num_samples: int
    """Samples of one channel; counted by decoding where the header does not say (streamed FLAC, MP3)."""


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
        self._local_roots = [os.path.realpath(root) for root in roots if not root.startswith("s3://")]
        self._s3_roots = [root.rstrip("/") for root in roots if root.startswith("s3://")]
        self._bounded = bool(roots)
        self._lock = threading.Lock()
        self._child: DecodeProcess | None = None
        self._download: Download | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probe(self, uri: str) -> AudioInfo:
        """Read the header of a recording.

        Args:
            uri: Absolute local path, or ``s3://bucket/key``.

        Raises:
            AudioDecodeError: The recording cannot be used; its ``reason`` says why.
            StorageError: S3 failed; the recording may be fine.
        """
        with self._lock:
            header, _ = self._ask(uri, {"do": "probe", "key": uri})
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
    ) -> Samples:
        """Decode a segment to mono at the encoder's rate.

        Args:
            uri: Absolute local path, or ``s3://bucket/key``.
            offset_samples: First sample, counted at the recording's own rate.
            num_samples: Length, counted at the recording's own rate.
            sample_rate: The recording's rate as the manifest has it, Hz.
            channel: The one channel to read; None means the mean of all.
            utterance_id: Name of the utterance, for fault points.

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
            header, payload = self._ask(uri, request)
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
            header, payload = self._ask(uri, request)
            ended = False
            try:
                while header["more"]:
                    samples: Samples = np.frombuffer(payload, dtype=header["dtype"])
                    yield samples
                    assert self._child is not None
                    header, payload = self._child.receive(request["key"])
                    if "reason" in header:
                        ended = True
                        raise AudioDecodeError(Reason(header["reason"]), f"{header['detail']} ({uri})")
                ended = True
            finally:
                if not ended and self._child is not None:
                    # What is still in the pipe must not be taken for the answer to the next request.
                    self._child.close(force=True)
                    self._child = None

    def close(self) -> None:
        """End the child process and delete the downloaded recording; a later call starts anew."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None
            if self._download is not None:
                self._download.close()
                self._download = None

    def _ask(self, uri: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
        path = self._fetch(uri) if uri.startswith("s3://") else self._resolve(uri)
        place = {"path": path, "container": _container(path, uri, self.limits.max_file_bytes)}
        if self._child is None or not self._child.alive:
            self._child = DecodeProcess(self.sample_rate, self.limits)
        try:
            header, payload = self._child.ask({**request, **place})
        except BaseException:
            # Also after Ctrl-C: the answer under way must not be taken for that of the next request.
            self._child.close(force=True)
            self._child = None
            raise
        if "reason" in header:
            raise AudioDecodeError(Reason(header["reason"]), f"{header['detail']} ({uri})")
        return header, payload

    def _resolve(self, uri: str) -> str:
        """Give the real path of a local recording, if it is under the roots."""
        if not uri.startswith("/") or "\0" in uri:
            raise AudioDecodeError(Reason.BAD_ROW, f"a uri is an absolute path or s3://bucket/key, got {uri!r}")
        path = os.path.realpath(uri)
        inside = any(os.path.commonpath([root, path]) == root for root in self._local_roots)
        if self._bounded and not inside:
            raise AudioDecodeError(
                Reason.OUTSIDE_ROOT, f"{uri} leads to {path}, which is under no declared root; add --roots"
            )
        return path

    def _fetch(self, uri: str) -> str:
        """Give the local copy of an S3 object, downloaded unless it was the last one asked for."""
        if "@" in uri.split("/")[2] or uri.count("/") < 3 or uri.endswith("/"):
            raise AudioDecodeError(Reason.BAD_ROW, "an S3 uri is s3://bucket/key, without credentials")
        if self._bounded and not any(uri.startswith(f"{root}/") for root in self._s3_roots):
            raise AudioDecodeError(Reason.OUTSIDE_ROOT, f"{uri} is under no declared root; add --roots")
        if self._download is None or self._download.uri != uri:
            if self._download is not None:
                self._download.close()
                self._download = None
            self._download = Download(uri, self.limits.max_file_bytes)
        return self._download.path


def _container(path: str, uri: str, max_file_bytes: int) -> str:
    """Name the container of a file by its magic bytes; never blocks on a FIFO or a device."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioDecodeError(Reason.NOT_A_FILE, f"{uri} is {_kind(status.st_mode)}, not a plain file")
        check_size(status.st_size, uri, max_file_bytes)
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            head = os.read(file, 12)
        finally:
            os.close(file)
    except PermissionError as error:
        raise AudioDecodeError(Reason.UNREADABLE, f"{uri} may not be read by this user") from error
    except OSError as error:
        raise AudioDecodeError(Reason.MISSING, f"{uri} cannot be found: {error.strerror}") from error
    container = sniff(head)
    if container is None:
        raise AudioDecodeError(Reason.NOT_AUDIO, f"{uri} does not begin like WAV, FLAC, Ogg or MP3")
    return container


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")
