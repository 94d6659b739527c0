"""Speak a corpus in parallel: many utterances of ``synthetic.py``, written as recordings and one listing.

Writes: ``OUTPUT/audio/*.wav``, ``OUTPUT/listing.jsonl`` (for ``--layout listing``) and the dataset
``OUTPUT/_utterances`` that keeps count. Restart: pieces of 25 utterances without a commit are spoken, others not.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import soundfile

from pipeline.audio.synthetic import LANGUAGE, SyntheticSpec, plan_utterance, render
from pipeline.errors import SettingsError
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, parquet_bytes, shard_name
from pipeline.store.provenance import record_settings
from pipeline.store.reading import read_unit
from pipeline.store.storage import absolute, join, open_store
from pipeline.work.executor import cluster_shape, run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import Utterance
from pipeline.work.worker_shape import Placement

DATA_VERSION = 1
PIECE = 25
LISTING = "listing.jsonl"

COLUMNS = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("utterance_id", "uri", "text", "speaker", "emotion", "language", "split")
    ]
)


@dataclass(frozen=True, kw_only=True)
class SynthesizeCorpusConfig:
    """Settings of synthesize_corpus."""

    output: str
    """Folder of the corpus, local or s3://."""
    num_utterances: int = 240
    """Utterances to speak, 2 to 6 seconds each."""
    num_voices: int = 12
    """Different voices, the corpus's speakers."""
    seed: int = 0
    """Seed of sentences, voices and styles."""
    num_workers: int | None = None
    """Processes that speak; default: one a CPU."""

    def __post_init__(self) -> None:
        if self.num_utterances < 1:
            raise SettingsError(f"num_utterances must be at least 1, got {self.num_utterances}")

    @property
    def spec(self) -> SyntheticSpec:
        """What the corpus is made of."""
        return SyntheticSpec(num_utterances=self.num_utterances, num_voices=self.num_voices, seed=self.seed)


def synthesize_corpus(config: SynthesizeCorpusConfig) -> StageReport:
    """Speak a labelled corpus with espeak-ng: the same recordings for the same settings.

    Raises:
        SettingsError: A setting is out of range.
        PlanMismatchError: The folder holds a corpus of other settings.
    """
    config = replace(config, output=absolute(config.output))
    plan = Plan(
        kind="synthetic",
        content={
            "data_version": DATA_VERSION,
            "num_utterances": config.num_utterances,
            "num_voices": config.num_voices,
            "seed": config.seed,
        },
        lineage={"kind": "synthetic", "seed": config.seed},
        units=[shard_name(number) for number in range(-(-config.num_utterances // PIECE))],
        totals={"rows": config.num_utterances},
    )
    uri = join(config.output, "_utterances")
    check_folder(open_store(uri), plan)
    config.spec  # noqa: B018 - its checks belong before Ray starts
    dataset = Dataset.create(uri, plan)
    record_settings(dataset.store, config)
    report = run_stage(
        dataset,
        load=None,
        factory=partial(Speaker, config, plan),
        shape=cluster_shape(Placement(num_workers=config.num_workers), use_gpu=False),
        numerics_mode="any",
        max_reject_fraction=0.0,
    )
    rows = [row for unit in plan.units for row in read_unit(dataset, unit).to_pylist()]
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    open_store(config.output).write(LISTING, text.encode())
    return report


class Speaker:
    """Speaks one piece of the corpus after the other."""

    stage = "synthetic"

    def __init__(self, config: SynthesizeCorpusConfig, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._store = open_store(config.output)

    def numerics(self) -> Mapping[str, str]:
        """One espeak-ng release speaks the same everywhere."""
        return {}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Speak the utterances of a piece; ``utterances`` is empty, they follow from the settings."""
        begin = int(unit.removeprefix("shard-")) * PIECE
        rows, seconds = [], 0.0
        for index in range(begin, min(begin + PIECE, self._config.num_utterances)):
            planned = plan_utterance(self._config.spec, index)
            samples, sample_rate = render(planned)
            name = f"audio/{planned.utterance_id}.wav"
            recording = io.BytesIO()
            soundfile.write(recording, samples, sample_rate, format="WAV", subtype="PCM_16")
            self._store.write(name, recording.getvalue())
            seconds += len(samples) / sample_rate
            labels = {field: getattr(planned, field) for field in ("text", "speaker", "emotion", "split")}
            rows.append({"utterance_id": planned.utterance_id, "uri": name, "language": LANGUAGE, **labels})
        table = pa.Table.from_pylist(rows, schema=COLUMNS)
        return Output(data=parquet_bytes(table, self._plan.lineage), rows=len(rows), seconds=seconds)
