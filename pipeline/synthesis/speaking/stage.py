"""Speak texts: a trained tts and a vocoder of its tokens in, speech out; or one text, as a recording.

Reads: a file of texts, a folder of ``train_task --task tts``, a vocoder's folder, and a recording of who is to speak.
Writes: the dataset OUTPUT of ``schema.SPEECH``, and OUTPUT/_manifest, a manifest of it, as ``synthesize`` does.
Restart: shards without a commit are spoken, others not. Memory: the texts, the two networks, and one shard of FLAC
files.
"""

from functools import partial
from typing import Any

from pipeline import schema
from pipeline.audio.recorded import write_recorded_manifest
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.synthesis.speaking.parts import Parts, open_parts
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.texts import TextFile, read_texts
from pipeline.tasks.tts.settings import told_settings
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import MakerFactory
from pipeline.work.worker_shape import WorkerShape

DATA_VERSION = 1


def prepare(config: SpeakConfig, parts: Parts, file: TextFile) -> Plan:
    """Plan the speech.

    Raises:
        PlanMismatchError: The output folder was made with other settings.
    """
    numbers = range(-(-len(file.texts) // config.texts_per_shard))
    trained, saved = parts.trained, parts.saved
    per_symbol = trained.spec["frames_per_symbol"] / trained.clock.frame_rate
    vectors = parts.speakers.vectors_sha256
    content = {
        "data_version": DATA_VERSION,
        "input_sha256": [file.sha256],
        "task_sha256": trained.sha256,
        "vocoder_sha256": saved.sha256,
        "columns": list(parts.columns),
        "speaker": config.speaker,
        **({} if vectors is None else {"speaker_vectors_sha256": vectors}),
        "unknown": config.unknown,
        **told_settings(config.generation),
        "batch_seconds": config.speaking.batch_seconds,
        "piece_seconds": config.speaking.piece_seconds,
        "texts_per_shard": config.texts_per_shard,
        "threads_per_worker": config.threads_per_worker,
    }
    lineage = {
        "kind": "speech",
        "schema_version": schema.SCHEMA_VERSION,
        "input_sha256": [file.sha256],
        "task_sha256": trained.sha256,
        "vocoder_sha256": saved.sha256,
        "sample_rate": saved.spec.sample_rate,
        "hop_length": saved.spec.hop_length,
        "codebooks": {column: trained.fuser.codebook_sha256[column] for column in parts.columns},
        "encoder": trained.dataset.plan.lineage["encoder"],
        "encoder_sha256": trained.fuser.encoder_sha256,
    }
    # Seconds are what such texts usually last: what the runner is chosen by, before anything is spoken.
    seconds = per_symbol * sum(len(text.text) + 1 for text in file.texts)
    plan = Plan(
        kind="speech",
        content=content,
        lineage=lineage,
        units=[f"shard-{number:05d}" for number in numbers],
        totals={"rows": float(len(file.texts)), "seconds": seconds},
    )
    check_folder(open_store(config.output), plan)
    return plan


def speak(config: SpeakConfig) -> Any:
    """Speak the texts of a file, or one text.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens than the tts writes.
        DatasetError: There is no finished tts.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: A setting does not fit tts or vocoder, or the one text cannot be spoken.
        TooManyRejectsError: More than ``max_reject_fraction`` of the texts cannot be spoken.
    """
    config = config.located()
    if config.text is not None:
        from pipeline.synthesis.speaking.one_text import speak_text

        return speak_text(config)
    return _speak(config)


def _speak(config: SpeakConfig) -> StageReport:
    assert config.text_file is not None
    parts, file = open_parts(config), read_texts(config.text_file)
    plan = prepare(config, parts, file)
    dataset = Dataset.create(config.output, plan)
    record_settings(dataset.store, config)
    size = config.texts_per_shard
    shards = {unit: (number * size, (number + 1) * size) for number, unit in enumerate(plan.units)}

    def factory(shape: WorkerShape) -> MakerFactory:
        from pipeline.synthesis.speaking.makers import SpeakMaker, SpeakTask

        task = SpeakTask(config=config, plan=plan, parts=parts, text_sha256=file.sha256, shards=shards)
        return partial(SpeakMaker, task, shape.device)

    report = run_stage(
        dataset,
        load=None,
        factory=factory,
        choice=config.work.choice(plan.totals["seconds"]),
        placement=config.placement,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
    )
    write_recorded_manifest(dataset)
    return report
