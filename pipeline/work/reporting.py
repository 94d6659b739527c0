"""Progress of a stage, counted from commits, and the report it ends with."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.passed_over import PassedOver
from pipeline.store.completion import Status
from pipeline.work.units import Done
from pipeline.work.waiting import ActorTimes, Compute, Waiting, compute, waiting

logger = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0
_DOING = {
    "busy": "busy",
    "reference": "measuring agreement",
    "decode": "waiting for decoded audio",
    "output": "for output",
    "end": "for the last shards",
}
_DOING_WITH_FEATURES = {
    "busy": "busy",
    "reference": "measuring agreement",
    "output": "waiting for features or output",
    "end": "for the last shards",
}
"""Features are read where they are quantised, and are not told apart from output."""
AUDIO, FEATURES = "decoded audio", "features"
_MODELS = {"speech": "vocoder"}
"""What the workers of a stage hold, where it is no encoder."""
_ENCODED, _PADDING = "encoded_seconds", "padding_seconds"


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What a stage did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        output: Where.
        dataset_sha256: Hash of the finished dataset.
        units: Units in the dataset.
        units_done_now: Units that this run committed; the others were there before.
        rows: Rows in the dataset.
        rejects: Rows in its ``_rejects``.
        reject_reasons: Rejects by reason.
        audio_hours: Hours of audio in the dataset's rows.
        num_frames: Frames in the dataset's rows.
        num_bytes: Bytes of data.
        frames_asked: Frames that were asked for; None where it was no certain number.
        wall_seconds: Time this run took.
        times_real_time: Seconds of audio committed by this run per second of wall time.
        workers: How the work lay on the cluster.
        source: What makers wait for: decoded audio, or features, which they read themselves.
        load_processes: Processes that decoded.
        make_processes: Processes that encoded; none of them also decoded.
        load_peak_bytes: Largest resident memory of a decoding process.
        make_peak_bytes: Largest resident memory of an encoding process.
        startup_seconds: Part of it before the first encoder was ready.
        padding: Share of what the encoder computed that was padding.
        waiting: What the encoders did with their time, shares that add up to 1; None without encoders.
        compute: Arithmetic done, and the share of the devices' peak; None without encoders.
        predicted_seconds: What ``--estimate`` said of this run; None where it was not asked or the run was resumed.
        agreement: By layer's column: share of tokens equal to batch-1 float32, its lower 95 % bound, and on how
            many frames and utterances.
        notes: Sums of what the units noted, as near-ties decided exactly.
        passed_over: What readers passed over, by kind (docs/passed_over.md).
        numerics: Numerics keys used, with their units.
    """

    stage: str
    output: str
    dataset_sha256: str
    units: int
    units_done_now: int
    rows: int
    rejects: int
    reject_reasons: Mapping[str, int]
    audio_hours: float
    num_frames: int
    num_bytes: int
    wall_seconds: float
    times_real_time: float
    frames_asked: int | None = None
    workers: str = ""
    source: str = AUDIO
    load_processes: int = 0
    make_processes: int = 0
    load_peak_bytes: int = 0
    make_peak_bytes: int = 0
    startup_seconds: float = 0.0
    padding: float = 0.0
    waiting: Waiting | None = None
    compute: Compute | None = None
    predicted_seconds: float | None = None
    agreement: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)
    passed_over: Mapping[str, Any] = field(default_factory=dict)
    numerics: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as short label and value pairs."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.reject_reasons.items())
        lines = [
            ("output", self.output),
            ("rows", f"{self.rows:,}" + (f" + {self.rejects:,} rejects ({reasons})" if self.rejects else "")),
            ("units", f"{self.units:,}, {self.units_done_now:,} of them in this run"),
            ("wall time", f"{self.wall_seconds:.1f} s"),
            ("data", f"{self.num_bytes / 1e6:.2f} MB"),
        ]
        if self.audio_hours:
            lines.insert(2, ("audio", f"{self.audio_hours:.3f} h, {self.times_real_time:.1f} times real time"))
        if self.num_frames:
            asked = f" kept of {self.frames_asked:,} asked for" if self.frames_asked is not None else ""
            lines.append(("frames", f"{self.num_frames:,}{asked}"))
        for name, count, peak in (
            ("decode processes", self.load_processes, self.load_peak_bytes),
            ("worker processes", self.make_processes, self.make_peak_bytes),
        ):
            if count:
                lines.append((name, f"{count}, peak memory {peak / 2**20:.0f} MiB"))
        lines += self._encoder_lines()
        lines += [(name, f"{value:,}") for name, value in self.notes.items()]
        lines += PassedOver.of(self.passed_over).lines()
        return lines

    def _encoder_lines(self) -> list[tuple[str, str]]:
        lines = []
        if self.waiting is not None:
            shares, words = asdict(self.waiting), _DOING
            if self.source != AUDIO:
                words = _DOING_WITH_FEATURES
                shares["output"] += shares["decode"]
            if self.stage in _MODELS:
                words = {**words, "output": "waiting for tokens or output"}
            model = _MODELS.get(self.stage, "encoder")
            lines.append((f"{model}s", ", ".join(f"{said} {shares[name]:.1%}" for name, said in words.items())))
            lines.append(("start", f"{self.startup_seconds:.1f} s until the first {model} was ready"))
            if model == "encoder":
                lines.append(("padding", f"{self.padding:.2%} of what was encoded"))
        if self.compute is not None:
            found = self.compute
            per_second = found.gflop / max(1e-9, self.audio_hours * 3600)
            lines.append(("arithmetic", f"{found.gflop:,.0f} GFLOP, {per_second:.1f} a second of audio"))
            share = f"{found.share_of_peak:.0%} of its matmul peak of {found.peak_gflops:,.0f}"
            lines.append(("speed", f"{found.gflops:,.1f} GFLOP/s a device while it computed, {share}"))
        if self.predicted_seconds is not None:
            lines.append(("predicted", f"{self.predicted_seconds:.0f} s, took {self.wall_seconds:.0f} s"))
        for column, agreed in self.agreement.items():
            share = f"{agreed['equal']:.2%} of {agreed['frames']:,} tokens equal batch-1 float32"
            text = f"{share} (95 % sure of {agreed['low']:.2%})"
            lines.append((f"agreement {column}", text))
        return lines


class Tally:
    """Counts of a running stage, from the commits it has seen."""

    def __init__(self, start: Status) -> None:
        self.start = start
        self.began = time.monotonic()
        self.units = 0
        self.seconds = 0.0
        self.rows = start.rows
        self.rejects = start.rejects
        self.loaders: set[str] = set()
        self.makers: set[str] = set()
        self.load_bytes = 0
        self.make_bytes = 0
        self.began_at = time.time()
        self.actors: defaultdict[str, ActorTimes] = defaultdict(ActorTimes)

    def add(self, done: Done) -> None:
        """Count a unit that has just been committed."""
        self.units += 1
        self.seconds += done.commit.seconds
        self.rows += done.commit.data.rows
        self.rejects += done.commit.num_rejects
        self.loaders |= {done.loader} - {""}
        self.makers.add(done.process)
        self.load_bytes = max(self.load_bytes, done.load_bytes)
        self.make_bytes = max(self.make_bytes, done.make_bytes)
        self.actors[done.worker].add(done.times)

    @property
    def speed(self) -> float:
        """Seconds of audio per second of wall time, in this run."""
        return self.seconds / max(1e-9, time.monotonic() - self.began)

    @property
    def units_done(self) -> int:
        """Units with a commit, those of earlier runs too."""
        return self.start.done + self.units

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio in committed rows, those of earlier runs too."""
        return self.start.seconds + self.seconds

    def line(self) -> str:
        """Say where the stage stands, in one line."""
        hours = self.audio_seconds / 3600
        parts = [f"{self.start.kind}: {self.units_done}/{self.start.units} units", f"{hours:.3f} h of audio"]
        if self.start.total_seconds:
            parts[-1] = f"{hours:.3f}/{self.start.total_seconds / 3600:.3f} h of audio"
        if self.seconds:
            left = self.start.total_seconds - self.audio_seconds
            parts.append(f"{self.speed:.1f} times real time")
            if left > 0:
                parts.append(f"ETA {_clock(left / self.speed)}")
        return ", ".join([*parts, f"{self.rejects} rejects"])

    def report(self, end: Status, *, workers: str, dataset_sha256: str) -> StageReport:
        """Turn the counts and the final status into a report."""
        return StageReport(
            stage=end.kind,
            output=end.uri,
            dataset_sha256=dataset_sha256,
            units=end.units,
            units_done_now=self.units,
            rows=end.rows,
            rejects=end.rejects,
            reject_reasons=end.reasons,
            audio_hours=end.seconds / 3600,
            num_frames=end.num_frames,
            num_bytes=end.num_bytes,
            wall_seconds=time.monotonic() - self.began,
            times_real_time=self.speed,
            workers=workers,
            load_processes=len(self.loaders),
            make_processes=len(self.makers),
            load_peak_bytes=self.load_bytes,
            make_peak_bytes=self.make_bytes,
            startup_seconds=min((actor.ready for actor in self.actors.values()), default=self.began_at) - self.began_at,
            padding=end.notes.get(_PADDING, 0.0)
            / max(1e-9, end.notes.get(_ENCODED, 0.0) + end.notes.get(_PADDING, 0.0)),
            waiting=waiting(self.actors.values(), time.time()),
            compute=compute(self.actors.values()),
            notes={name: value for name, value in end.notes.items() if name not in (_ENCODED, _PADDING)},
            passed_over=end.passed_over,
            numerics=end.numerics,
        )


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


class Progress:
    """Shows a tally: a live line on a terminal, a log line every ten seconds elsewhere."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._logged = time.monotonic()
        self._told = -1

    def __enter__(self) -> Self:
        """Start showing."""
        if self._console.is_terminal:
            self._live = Live(Text(self._tally.line()), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def show(self) -> None:
        """Show the tally as it is now."""
        if self._live is not None:
            self._live.update(Text(self._tally.line()))
        elif time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._log()

    def _log(self) -> None:
        self._logged = time.monotonic()
        self._told = self._tally.units
        logger.info("%s", self._tally.line())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing; leave the last line."""
        if self._live is not None:
            self._live.stop()
        elif self._told != self._tally.units:
            self._log()


def print_report(title: str, lines: list[tuple[str, str]]) -> None:
    """Print label and value pairs as a small table on standard error."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in lines:
        # Text, not markup: a file name may hold brackets or control characters.
        table.add_row(label, Text("".join(c if c.isprintable() else "?" for c in value)))
    Console(stderr=True).print(table)
