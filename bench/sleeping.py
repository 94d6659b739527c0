"""Encoders that sleep as a GPU would compute, so that a cluster of many can be had on a small machine.

Everything else is the product's: shards go through Ray Data, makers are actors, outputs are committed.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes, shard_name
from pipeline.work.choice import Choice
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import Utterance
from pipeline.work.waiting import Work
from pipeline.work.worker_shape import Placement

COLUMNS = ("layer_07", "layer_12", "layer_18")
SHARD_SECONDS = 1800.0
_FRAMES = 50
"""Frames of the one utterance that stands for a shard."""


class SleepingMaker:
    """Writes a few tokens per shard, after it has slept as long as an encoder would have the device.

    Args:
        plan: The plan of the tokens.
        seconds: That time.
    """

    stage = "tokens"

    def __init__(self, plan: Plan, seconds: float) -> None:
        self._plan, self._seconds = plan, seconds
        self._device = threading.Lock()

    def numerics(self) -> Mapping[str, str]:
        """Say that bits depend on nothing."""
        return {}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Sleep with the device, then lay out."""
        with self._device:
            began, clock = time.time(), time.perf_counter()
            time.sleep(self._seconds)
            busy = time.perf_counter() - clock
        work = Work(kind="encode", began=began, ended=began + busy, busy=busy)
        tokens = np.zeros(_FRAMES, np.uint16)
        cells = {"utterance_id": [unit], "num_frames": [_FRAMES], **{name: [tokens] for name in COLUMNS}}
        fields = schema.tokens(list(COLUMNS))
        table = pa.table({field.name: pa.array(cells[field.name], field.type) for field in fields}, schema=fields)
        data = parquet_bytes(table, self._plan.lineage)
        return Output(data=data, rows=1, seconds=SHARD_SECONDS, num_frames=_FRAMES, work=(work,))


def decoded(unit: str) -> list[Utterance]:
    """Give a second of silence for a shard: what moves here is not audio but shards."""
    return [Utterance(utterance_id=unit, uri="", samples=np.zeros(16_000, np.int16), seconds=SHARD_SECONDS)]


def run(folder: Path, *, shards: int, sleep_seconds: float, workers: int) -> StageReport:
    """Make a dataset on the Ray that this process is connected to.

    Args:
        folder: The dataset.
        shards: Its shards.
        sleep_seconds: What a shard takes of a device.
        workers: Actors, one GPU each.
    """
    plan = Plan(
        kind="tokens",
        content={"sleep": sleep_seconds},
        lineage={"num_clusters": dict.fromkeys(COLUMNS, 500)},
        units=[shard_name(number) for number in range(shards)],
        totals={"rows": shards, "seconds": shards * SHARD_SECONDS},
    )
    dataset = Dataset.create(str(folder), plan)
    return run_stage(
        dataset,
        load=decoded,
        factory=lambda shape: partial(SleepingMaker, plan, sleep_seconds),
        choice=Choice("ray", shards * SHARD_SECONDS),
        # Each decoder is a process, which costs seconds of a core when it starts: few, where many share two cores.
        placement=Placement(num_workers=workers, gpus_per_worker=1.0, decode_cpus=1.0),
        numerics_mode="same",
        max_reject_fraction=0.0,
    )
