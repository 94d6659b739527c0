"""TensorBoard's event files of a run: scalars, and what a recipe lets one hear and see."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.store.storage import LocalStore, Store
from pipeline.training.listeners import Listener
from pipeline.training.progress import Progress
from pipeline.training.recipe import Audio, Figure

logger = logging.getLogger(__name__)

FOLDER = "tensorboard"


def open_tensorboard(store: Store, first_step: int) -> Listener | None:
    """Open TensorBoard's writer for a run's folder; None where TensorBoard is not installed, which is said once."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning(
            "tensorboard is not installed: no event files are written, metrics.jsonl has every number; "
            "pip install 'strata-tokens[train]'"
        )
        return None
    return TensorBoard(SummaryWriter, store, first_step)


class TensorBoard:
    """Writes event files; to S3 they are copied at checkpoints."""

    def __init__(self, writer: Any, store: Store, first_step: int) -> None:
        self._store = store
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(store, LocalStore):
            folder = store.root / FOLDER
        else:
            # TensorBoard's writer knows no S3 without TensorFlow: its file is copied there at checkpoints.
            self._scratch = tempfile.TemporaryDirectory(prefix="tensorboard-")
            folder = Path(self._scratch.name)
        self._folder = folder
        self._writer = writer(str(folder), purge_step=first_step)

    def log(self, progress: Progress, group: str, metrics: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"{group}/{name}" if group else name, value, progress.step)

    def show(self, progress: Progress, group: str, shown: Sequence[Audio | Figure]) -> None:
        """Write sounds and figures."""
        for each in shown:
            tag = f"{group}/{each.name}"
            if isinstance(each, Audio):
                self._writer.add_audio(tag, each.waveform[None], progress.step, sample_rate=each.sample_rate)
            else:
                self._writer.add_figure(tag, each.figure, progress.step)

    def validated(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Do nothing: each set was heard of."""

    def checkpointed(self, progress: Progress) -> None:
        """Bring what was written to disk, and to the store."""
        self._writer.flush()
        if self._scratch is not None:
            for path in self._folder.iterdir():
                self._store.write(f"{FOLDER}/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
        if self._scratch is not None:
            self._scratch.cleanup()
