"""Speak a corpus in parallel: many utterances of ``synthetic.py``, written as recordings and one listing.

Writes: ``OUTPUT/audio/*.wav``, ``OUTPUT/listing.jsonl`` (for ``--layout listing``) and the dataset
``OUTPUT/_utterances`` that keeps count. Restart: pieces of 25 utterances without a commit are spoken, others not.
"""

import json
from functools import partial

from pipeline.audio.synthesis.makers import PIECE, Speaker
from pipeline.audio.synthesis.settings import SynthesizeCorpusConfig
from pipeline.store.dataset import Dataset, Plan, check_folder, shard_name
from pipeline.store.provenance import record_settings
from pipeline.store.reading import read_unit
from pipeline.store.storage import join, located, open_store
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.worker_shape import Placement

DATA_VERSION = 1
LISTING = "listing.jsonl"
SECONDS_PER_UTTERANCE = 3.0
"""Length of a spoken utterance, about; it decides who speaks them, not what they say."""


def synthesize_corpus(config: SynthesizeCorpusConfig) -> StageReport:
    """Speak a labelled corpus with espeak-ng: the same recordings for the same settings.

    Raises:
        SettingsError: A setting is out of range.
        PlanMismatchError: The folder holds a corpus of other settings.
    """
    config = located(config, "output")
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
        factory=lambda _: partial(Speaker, config, plan),
        choice=config.work.choice(SECONDS_PER_UTTERANCE * config.num_utterances),
        placement=Placement(num_workers=config.num_workers),
        use_gpu=False,
        numerics_mode="any",
        max_reject_fraction=0.0,
    )
    rows = [row for unit in plan.units for row in read_unit(dataset, unit).to_pylist()]
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    open_store(config.output).write(LISTING, text.encode())
    return report
