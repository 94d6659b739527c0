"""What a run tells while it goes on: losses by step as lines, as JSON lines and as TensorBoard events.

The first worker writes ``_progress.json`` every few seconds; the driver shows it. ``metrics.jsonl`` is written whole at
each checkpoint, from the history that the checkpoint holds, so that both always tell of the same steps.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.store.storage import LocalStore, Store
from pipeline.training.checkpoint import Progress

PROGRESS = "_progress.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
_SECONDS_BETWEEN = 2.0


class Telling:
    """Where the first worker writes what it logs."""

    def __init__(self, store: Store, *, num_steps: int, first_step: int, audio_seconds: float, workers: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._store = store
        self._num_steps, self._first_step, self._workers = num_steps, first_step, workers
        self._first_seconds = audio_seconds
        self._began = time.time()
        self._told = 0.0
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(store, LocalStore):
            folder = store.root / TENSORBOARD
        else:
            # TensorBoard's writer knows no S3 without TensorFlow: its file is copied there at checkpoints.
            self._scratch = tempfile.TemporaryDirectory(prefix="tensorboard-")
            folder = Path(self._scratch.name)
        self._folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Add a line to the history and show where the run is."""
        progress.history.append({"step": progress.step, **metrics})
        for name, value in metrics.items():
            self._writer.add_scalar(name.replace("validation_", "validation/"), value, progress.step)
        if time.time() - self._told >= _SECONDS_BETWEEN or progress.step == self._num_steps:
            self._told = time.time()
            self._store.write(PROGRESS, json.dumps(self._standing(progress, metrics)).encode())

    def _standing(self, progress: Progress, metrics: Mapping[str, float]) -> dict[str, Any]:
        elapsed = max(1e-9, time.time() - self._began)
        heard = progress.audio_seconds - self._first_seconds
        done = progress.step - self._first_step
        return {
            "step": progress.step,
            "num_steps": self._num_steps,
            "audio_hours": progress.audio_seconds / 3600,
            "times_real_time": heard / elapsed,
            "eta_seconds": (self._num_steps - progress.step) * elapsed / max(1, done),
            "workers": self._workers,
            "metrics": dict(metrics),
            "time": time.time(),
        }

    def checkpointed(self, progress: Progress) -> None:
        """Write the history beside a checkpoint."""
        lines = (json.dumps(line, sort_keys=True) for line in progress.history)
        self._store.write(METRICS, "".join(f"{line}\n" for line in lines).encode())
        self._writer.flush()
        if self._scratch is not None:
            for path in self._folder.iterdir():
                self._store.write(f"{TENSORBOARD}/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
        if self._scratch is not None:
            self._scratch.cleanup()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What ``_progress.json`` says."""

    step: int
    num_steps: int
    audio_hours: float
    times_real_time: float
    eta_seconds: float
    workers: int
    metrics: Mapping[str, float]
    time: float

    def line(self) -> str:
        """Say where the run is, in one line."""
        hours, rest = divmod(int(self.eta_seconds), 3600)
        parts = [f"step {self.step:,}/{self.num_steps:,}"]
        parts += [f"{name} {value:.4g}" for name, value in self.metrics.items()]
        parts += [f"{self.audio_hours:.2f} h of audio", f"{self.times_real_time:.0f} times real time"]
        parts += [f"ETA {hours}:{rest // 60:02d}:{rest % 60:02d}", f"{self.workers} worker(s)"]
        return ", ".join(parts)


def read_standing(store: Store) -> Standing | None:
    """Read how far a run has come, None where it has not begun."""
    try:
        return Standing(**json.loads(store.read(PROGRESS)))
    except (FileNotFoundError, ValueError, TypeError):
        return None
