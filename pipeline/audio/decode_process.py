"""The process that decodes, as its parent sees it: requests out, answers in, limits on time, an end that is noticed."""

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.audio.views import Fetch
from pipeline.errors import AudioDecodeError, PipelineError, SettingsError
from pipeline.schema import Reason

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


class DecodeProcess:
    """One process of ``decode_child``, and the pipes to it."""

    def __init__(self, sample_rate: int, limits: DecodeLimits) -> None:
        """Start it and wait until it is ready.

        Args:
            sample_rate: Rate of decoded waveforms, Hz.
            limits: What one recording may cost.

        Raises:
            PipelineError: It does not start.
        """
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
        self._fetch: Fetch | None = None
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

    def ask(self, request: Mapping[str, Any], fetch: Fetch | None = None) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer; on an error the process is gone.

        Args:
            request: See ``decode_child``.
            fetch: Makes bytes of a remote recording present, when the process asks for them.
        """
        self._fetch = fetch
        self._send(request)
        return self.receive(request["key"])

    def receive(self, key: str) -> tuple[dict[str, Any], bytearray]:
        """Wait for an answer about the recording ``key``; on an error the process is gone."""
        try:
            deadline = time.monotonic() + self._limits.timeout_seconds
            while "fetch" in (answer := self._receive(deadline))[0]:
                start, stop = answer[0]["fetch"]
                if self._fetch is None or not 0 <= start < stop:
                    raise ValueError(f"bytes {start} to {stop} are asked for")
                began = time.monotonic()
                held = self._fetch(start, stop)
                # A slow store is not the fault of the recording.
                deadline += time.monotonic() - began
                self._send({"held": held})
            return answer
        except TimeoutError as error:
            raise AudioDecodeError(
                Reason.DECODER_TIMEOUT, f"{key} was not decoded within {self._limits.timeout_seconds:g} s"
            ) from error
        except (EOFError, ValueError) as error:
            how = self.close()
            raise AudioDecodeError(Reason.DECODER_CRASH, f"the decode process {how} while it read {key}") from error

    def _send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message).encode()
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(struct.pack(">I", len(text)) + text)

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
