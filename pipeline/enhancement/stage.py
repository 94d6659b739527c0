"""Enhance speech by its tokens: noisy tokens, a task se and a vocoder in, clean speech out; or one noisy recording.

Reads: a tokens dataset or an export of noisy recordings, a folder of ``train_task --task se``, a vocoder's folder, and
a manifest for labels and speakers. Writes: what synthesize writes, the dataset OUTPUT of ``schema.SPEECH`` and
OUTPUT/_manifest.
Restart: shards without a commit are made, others not. Memory: as synthesize, and one piece of one utterance in the
enhancement (``pipeline/tasks/se/enhancing.py``).
"""

from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.enhancement.settings import EnhanceConfig
from pipeline.synthesis.stage import PreparedSpeech, prepare_spoken, speak, spoken_input
from pipeline.tasks.enhancement import open_enhancement
from pipeline.tasks.trained import check_lineage
from pipeline.work.units import MakerFactory
from pipeline.work.worker_shape import WorkerShape


def prepare(config: EnhanceConfig) -> PreparedSpeech:
    """Plan the speech and refuse tokens, a task or a vocoder that do not belong together. Needs no Ray.

    Args:
        config: With each part named.

    Raises:
        CodebookMismatchError: The task hears other tokens, or the vocoder was trained on others than it says.
        DatasetError: An input is not finished, or the manifest is not that of the tokens.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: The folder is of another task, the vocoder does not know the layers, or a speaker does not fit.
    """
    assert config.task is not None
    enhancement = open_enhancement(config.task)
    given = spoken_input(config)
    check_lineage(enhancement.trained, given.lineage, given.uri)
    # Of the noisy tokens only the layers that are heard are read.
    books = {column: given.lineage["codebooks"][column] for column in enhancement.trained.fuser.columns}
    heard = replace(given, lineage={**given.lineage, "codebooks": books})
    return prepare_spoken(config, heard, enhancement.said, {"task_sha256": enhancement.trained.sha256})


def enhance(config: EnhanceConfig) -> Any:
    """Speak noisy recordings again without their noise, from the clean tokens that a task gives for their own.

    Source: Mousavi et al. 2024, arXiv 2406.10735: enhancement by discrete tokens and a vocoder of any layers.

    Raises:
        CodebookMismatchError: Tokens, task and vocoder do not belong together.
        DatasetError: An input is not finished.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: A setting does not fit.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be spoken.
    """
    config = config.resolved().located()
    if config.file is not None:
        from pipeline.enhancement.one_file import enhance_file

        return enhance_file(config)
    prepared = prepare(config)

    def factory(shape: WorkerShape) -> MakerFactory:
        from pipeline.enhancement.makers import EnhancedSpeechMaker

        assert config.task is not None
        return partial(EnhancedSpeechMaker, prepared.task(config), config.task, shape.device)

    return speak(config, prepared, factory)
