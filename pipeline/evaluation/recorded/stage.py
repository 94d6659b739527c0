"""Judge recordings: manifests of speech side by side, each beside the recordings as they should be.

Reads: manifests, as ``synthesize``, ``mix_corpus`` and ``build_manifest`` write them, and their recordings. Writes:
``utterances.parquet``, a row per utterance and manifest; ``metrics.json``; ``index.html`` to listen; ``samples/``; all
in one commit. Restart: a run that was killed judges what is left (``speech/kept.py``) and gives the same figures. It is
one process, without Ray.
Memory: the judges, one utterance of every manifest, their ids, and a row of each.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.cards.facts import card_bytes
from pipeline.evaluation.comparison import METRICS
from pipeline.evaluation.once import made_once
from pipeline.evaluation.recorded.chosen import Chosen, choose
from pipeline.evaluation.settings import REFERENCE, EvaluateConfig
from pipeline.evaluation.speech.report import SpeechReport, report_of
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, parquet_bytes
from pipeline.store.storage import open_store

if TYPE_CHECKING:
    from pipeline.evaluation.speech.judging import Found
    from pipeline.metrics.speech.judge import Judge, Pair

logger = logging.getLogger(__name__)

DATA_VERSION = 2
KIND = "recorded_evaluation"
UNIT = "utterances"
_HOP_SAMPLES = 320
"""Of the spectrograms on the page, 20 ms."""
_LOG_SECONDS = 10.0
"""Between two lines of progress."""


@dataclass(frozen=True, kw_only=True)
class PreparedRecordings:
    """What is known before anything is decoded.

    Attributes:
        plan: Of the evaluation.
        chosen: The utterances.
        judges: They.
        referred: Whether there are recordings as they should be, under the name ``reference``.
    """

    plan: Plan
    chosen: Chosen
    judges: "list[Judge]"
    referred: bool


def prepare(config: EvaluateConfig) -> PreparedRecordings:
    """Open everything and refuse what does not belong together.

    Raises:
        DatasetError: A manifest is not finished.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: The manifests have no utterance in common, or a judge is not there.
    """
    from pipeline.metrics.speech.judging import libraries
    from pipeline.metrics.speech.registry import make_judges

    settings = config.recordings
    manifests = {name: Manifest(uri) for name, uri in zip(settings.called, settings.recorded, strict=True)}
    if settings.reference is not None:
        # First, because its labels are those of the corpus.
        manifests = {REFERENCE: Manifest(settings.reference), **manifests}
    chosen = choose(manifests, config.speech.num_utterances)
    judges = make_judges(config.speech.judges, utmos=config.speech.utmos)
    content = {
        "data_version": DATA_VERSION,
        "manifests": {name: success(manifest.dataset)["dataset_sha256"] for name, manifest in manifests.items()},
        "judges": libraries(judges),
        "num_utterances": config.speech.num_utterances,
        "examples": config.examples,
    }
    lineage = {"kind": KIND, "schema_version": schema.SCHEMA_VERSION, **content}
    plan = Plan(kind=KIND, content=content, lineage=lineage, units=[UNIT])
    check_folder(open_store(config.output), plan)
    return PreparedRecordings(plan=plan, chosen=chosen, judges=judges, referred=settings.reference is not None)


def evaluate_recorded(config: EvaluateConfig) -> SpeechReport:
    """Judge manifests of speech side by side.

    Raises:
        AudioDecodeError: A recording cannot be read.
        DatasetError: A manifest is not finished.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: The manifests have no utterance in common, or a judge is not there.
    """
    began = time.monotonic()
    prepared = prepare(config)
    dataset = made_once(config, config.output, prepared.plan, lambda dataset: _make(dataset, prepared, config))
    return report_of(dataset, time.monotonic() - began)


def _make(dataset: Dataset, prepared: PreparedRecordings, config: EvaluateConfig) -> None:
    """Judge everything and commit it at once."""
    from pipeline.cards.plots import can_plot
    from pipeline.evaluation.recorded.page import page
    from pipeline.evaluation.speech.facts import figures
    from pipeline.evaluation.speech.judging import Found
    from pipeline.evaluation.speech.kept import KeptRows
    from pipeline.features.numerics import numerics_key
    from pipeline.metrics.speech.rows import row_schema

    began, chosen, found = time.monotonic(), prepared.chosen, Found()
    kept = KeptRows(dataset, prepared.judges, "cpu")
    found.rows += kept.judge(_pairs(prepared, found, config.examples))
    about = {
        "side": "all",
        "utterances": len(chosen.names),
        "left_out": dict(chosen.left_out),
        "manifests": prepared.plan.content["manifests"],
    }
    numbers = figures(found.rows, prepared.judges, list(config.recordings.called), about)
    beside = {METRICS: card_bytes(numbers), "index.html": page(numbers, found.examples, found.pictures)}
    beside |= {picture.name: picture.data for picture in found.pictures}
    output = Output(
        data=parquet_bytes(pa.Table.from_pylist(found.rows, schema=row_schema(prepared.judges)), prepared.plan.lineage),
        rows=len(chosen.names),
        seconds=time.monotonic() - began,
        notes={"plots": can_plot()},
        beside=beside | found.samples,
    )
    dataset.commit(UNIT, dataset.announce(UNIT), output, numerics_key("cpu"))


def _pairs(prepared: PreparedRecordings, found: "Found", examples: int) -> "Iterator[Pair]":
    """Give what judges hear, and keep the first utterances to be listened to."""
    from pipeline.metrics.speech.judge import SAMPLE_RATE, Pair

    clock = Clock(sample_rate=SAMPLE_RATE, hop_length=_HOP_SAMPLES, receptive_field=_HOP_SAMPLES)
    told = time.monotonic()
    for number, each in enumerate(prepared.chosen.heard()):
        if number < examples:
            found.keep(number, {"utterance_id": each.utterance_id, **each.labels}, each.waveforms, clock)
        reference = each.waveforms[REFERENCE] if prepared.referred else None
        for name, waveform in each.waveforms.items():
            yield Pair(
                utterance_id=each.utterance_id,
                condition=name,
                generated=waveform,
                reference=reference,
                text=each.labels["text"],
            )
        if time.monotonic() - told > _LOG_SECONDS:
            told = time.monotonic()
            logger.info("judged %d of %d utterances", number + 1, len(prepared.chosen.names))
