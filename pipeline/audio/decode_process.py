"""The process that decodes, as its parent sees it: requests out, answers in, limits on time, an end that is noticed."""

import contextlib
import dataclasses
import fcntl
import json
import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pipeline.audio.views import Fetch
from pipeline.errors import PipelineError, SettingsError
from pipeline.work.deaths import Death

_PIPE_BYTES = 1 << 18
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


class DecodeDeath(Exception):
    """A decode process that ended, or had to be ended, while it had a request.

    Args:
        death: How.
        late: Whether it was ended because its time was over.
    """

    def __init__(self, death: Death, *, late: bool = False) -> None:
        super().__init__(death.how)
        self.death = death
        self.late = late


class DecodeProcess:
    """One process of ``decode_child``, and the pipes to it."""

    def __init__(self, sample_rate: int, limits: DecodeLimits) -> None:
        """Start it and wait until it is ready.

        Args:
            sample_rate: Rate of decoded waveforms, Hz.
            limits: What one recording may cost.

        Raises:
            PipelineError: It cannot start here.
            DecodeDeath: It was killed, or the machine had no room for it.
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
        try:
            self._process = subprocess.Popen(
                # -P: a numpy.py in the working directory must not become the child's numpy.
                [sys.executable, "-P", "-m", "pipeline.audio.decode_child", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                # Ctrl-C is for the parent, which ends its child.
                start_new_session=True,
            )
        except OSError as error:
            raise DecodeDeath(Death(how=f"could not be started ({error.strerror})", own=False)) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._replies: IO[bytes] = self._process.stdout
        # The child then waits for its parent every 8 s of speech, not every 2; more would be a lot for many of them.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._replies, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        try:
            self._receive(time.monotonic() + _START_SECONDS)
        except (EOFError, TimeoutError, ValueError) as error:
            status = self.close()
            if status < 0:
                raise DecodeDeath(replace(Death.of(status), own=False)) from error
            raise PipelineError(
                f"the decode process did not start (exit status {status}); what it wrote to "
                "stderr says why; check that numpy, soundfile and soxr import in this environment"
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any], fetch: Fetch | None = None) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """Send one request and give its answers: one, or of a stream one a stretch and one at the end.

        Args:
            request: See ``decode_child``.
            fetch: Makes bytes of a remote recording present, when the process asks for them.

        Raises:
            DecodeDeath: The process is gone.
        """
        self._fetch = fetch
        self._send(request)
        more = True
        while more:
            answer = self._answer()
            more = answer[0].get("more", False)
            yield answer

    def _answer(self) -> tuple[dict[str, Any], bytearray]:
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
            stopped = self._stopped()
            self.close(force=True)
            raise DecodeDeath(
                Death(how="was stopped" if stopped else "took too long", own=not stopped), late=True
            ) from error
        except ValueError as error:
            # What it wrote cannot be: its memory is no longer sound.
            self.close(force=True)
            raise DecodeDeath(Death(how="gave an answer that cannot be", own=True)) from error
        except EOFError as error:
            raise DecodeDeath(Death.of(self.close())) from error

    def _stopped(self) -> bool:
        """Whether the process was halted, as by SIGSTOP or a frozen group: then its time did not run."""
        try:
            state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state in ("T", "t", "D")

    def _send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message).encode()
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(struct.pack(">I", len(text)) + text)

    def close(self, *, force: bool = False) -> int:
        """End the process, at once or by closing its stdin; give its exit status, minus the signal that ended it."""
        self._requests.close()
        try:
            status = self._process.wait(timeout=0 if force else 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._selector.close()
        self._replies.close()
        return status

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
