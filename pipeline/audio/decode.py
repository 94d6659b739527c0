"""Reads one recording, or a segment of one, into mono at the encoder's rate, whatever its bytes are.

The file is looked at here (it exists, is a plain file, lies under the roots, has a known magic); its content
is read in a child process with bounded memory and time (``decode_child.py``), so a file that crashes or hangs
libsndfile costs that file alone. Every fault of a recording is an AudioDecodeError with a ``schema.Reason``.

A resampled segment of S samples has floor(S * target / source + 1/2) samples. Memory: the segment. Cost of a
child: 0.15 s at its start, once a process.
"""

import dataclasses
import json
import os
import selectors
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.containers import sniff
from pipeline.audio.download import Download, check_size
from pipeline.errors import AudioDecodeError, PipelineError, SettingsError
from pipeline.schema import Reason

Samples = npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""(S,) mono; int16 is the float32 waveform times 32768."""

_START_SECONDS = 120.0
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """What one recording may cost."""

    max_seconds: float = 180.0
    """Longest utterance that is decoded, seconds."""
    max_channels: int = 32
    """Most channels of a recording."""
    min_sample_rate: int = 2000
    """Lowest sample rate of a recording, Hz."""
    max_sample_rate: int = 768_000
    """Highest sample rate of a recording, Hz."""
    max_file_bytes: int = 16 << 30
    """Largest recording, bytes."""
    max_expansion: int = 10_000
    """Most 16-bit bytes that a header may declare for a byte of file; FLAC makes about 8,000 of silence."""
    timeout_seconds: float = 60.0
    """Time after which one request is given up and its process killed, seconds."""
    memory_bytes: int = 2 << 30
    """Memory that the decode process may take beyond its libraries, bytes."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise SettingsError(f"{field.name} must be above 0, got {getattr(self, field.name)}")
        if self.min_sample_rate > self.max_sample_rate:
            raise SettingsError(
                f"min_sample_rate must not exceed max_sample_rate, got {self.min_sample_rate} and "
                f"{self.max_sample_rate}"
            )


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
        self._child: _Child | None = None
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
            self._child = _Child(self.sample_rate, self.limits)
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


class _Child:
    """One process of ``decode_child``, and the pipes to it."""

    def __init__(self, sample_rate: int, limits: DecodeLimits) -> None:
        settings = {"sample_rate": sample_rate, "limits": dataclasses.asdict(limits)}
        root = str(Path(__file__).parents[2])
        environment = {
            **os.environ,
            # Ray puts a runtime environment on sys.path, which a new interpreter would not see.
            "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._limits = limits
        self._process = subprocess.Popen(
            # -P: a numpy.py in the working directory must not become the child's numpy.
            [sys.executable, "-P", "-m", "pipeline.audio.decode_child", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            # Ctrl-C is for the parent: a child that died of it would look like a crash of its recording.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._replies: IO[bytes] = self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        try:
            self._receive(time.monotonic() + _START_SECONDS)
        except (EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise PipelineError(
                f"the decode process did not start (exit status {self._process.returncode}); what it wrote to "
                "stderr says why; check that numpy, soundfile and soxr import in this environment"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer; on an error the process is gone."""
        text = json.dumps(request).encode()
        try:
            self._requests.write(struct.pack(">I", len(text)) + text)
            return self._receive(time.monotonic() + self._limits.timeout_seconds)
        except TimeoutError as error:
            raise AudioDecodeError(
                Reason.DECODER_TIMEOUT,
                f"{request['key']} was not decoded within {self._limits.timeout_seconds:g} s",
            ) from error
        except (EOFError, BrokenPipeError, ValueError) as error:
            how = self.close()
            raise AudioDecodeError(
                Reason.DECODER_CRASH, f"the decode process {how} while it read {request['key']}"
            ) from error

    def close(self, *, force: bool = False) -> str:
        """End the process, at once or by closing its stdin, and say how it ended."""
        self._requests.close()
        try:
            status = self._process.wait(timeout=0 if force else 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._selector.close()
        self._replies.close()
        return f"died by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytearray]:
        """Read one message; ValueError means a child whose memory is no longer sound."""
        length = int.from_bytes(self._read(4, deadline), "big")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(self._read(length, deadline))
        num_bytes = header.get("num_bytes", 0)
        if not 0 <= num_bytes <= self._limits.memory_bytes:
            raise ValueError(f"a payload of {num_bytes} bytes")
        return header, self._read(num_bytes, deadline)

    def _read(self, count: int, deadline: float) -> bytearray:
        data = bytearray(count)
        filled = 0
        while filled < count:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            got = os.readv(self._replies.fileno(), [memoryview(data)[filled:]])
            if got == 0:
                raise EOFError
            filled += got
        return data
