"""Every exception that Strata raises for its users.

    PipelineError
    |-- SettingsError            a setting that cannot work; found before Ray starts
    |   `-- ClusterShapeError    the cluster cannot run the stage in this shape
    |-- StorageError             a store that cannot keep our promises or does not answer, or a machine that kills
    |-- DatasetError             a dataset folder that is absent, unfinished or damaged
    |   |-- PlanMismatchError    the folder holds the work of other settings
    |   |-- SchemaMismatchError  a file whose columns or lineage are not those expected
    |   `-- CorruptDatasetError  bytes that differ from what a commit recorded
    |-- ManifestError            a corpus or listing that cannot become a manifest
    |-- AudioDecodeError         one recording that cannot be used; becomes a row of ``_rejects``
    |-- EncoderError             an SSL encoder that cannot be loaded or used as asked
    |-- FeatureError             features of one utterance that cannot be stored; becomes a row of ``_rejects``
    |-- CodebookMismatchError    a codebook that does not belong to these features
    |-- ForeignCodebookError     a codebook of another program that cannot be read, or not safely
    |-- CheckpointError          a K-means or training checkpoint that cannot be resumed
    |-- TrainingError            a training run that cannot go on
    |-- UnjudgedError            one utterance that a judge of speech cannot judge; becomes a null with a reason
    `-- TooManyRejectsError      more utterances were rejected than ``max_reject_fraction`` allows

A message says what is wrong, where (path or utterance_id) and what to do about it. It shows no secret: each passes
through ``redaction.py``, whoever wrote it, a library or the person who gave the setting.
"""

from pipeline.redaction import redact


class PipelineError(Exception):
    """Base of all errors that are meant to be read by the person who runs Strata.

    Args:
        message: What is wrong, where, and what to do about it; secrets in it are hidden.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(redact(message))


class SettingsError(PipelineError, ValueError):
    """A setting, or two settings together, that cannot work."""


class ClusterShapeError(SettingsError):
    """The Ray cluster has too few CPUs or GPUs for the workers asked for."""


class StorageError(PipelineError):
    """A store that does not answer, or cannot give the guarantees a commit needs; or a machine that ends our processes.

    It says nothing about a recording, and what is committed stays.
    """


class DatasetError(PipelineError):
    """A dataset folder that is absent, unfinished or damaged."""


class PlanMismatchError(DatasetError):
    """The output folder was planned with other settings, inputs or code."""


class SchemaMismatchError(DatasetError):
    """A file whose columns, types or lineage differ from what the reader needs."""


class CorruptDatasetError(DatasetError):
    """Bytes on disk differ from the size or checksum that was committed."""


class ManifestError(PipelineError):
    """A corpus folder or listing that cannot become a manifest."""


class AudioDecodeError(PipelineError):
    """One recording that cannot be used.

    Args:
        reason: A ``schema.Reason`` value, the code stored in ``_rejects``.
        detail: One sentence for a person: what was found, and the limit it broke if any.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = redact(detail)

    def __reduce__(self) -> tuple[type["AudioDecodeError"], tuple[str, str]]:
        """Survive pickling between processes: the default would call the class with one argument."""
        return type(self), (self.reason, self.detail)


class EncoderError(PipelineError):
    """An SSL encoder that cannot be loaded, or has not the layers asked for."""


class FeatureError(PipelineError):
    """Features of one utterance that cannot be stored as float16."""


class CodebookMismatchError(PipelineError):
    """A codebook that was fitted on other features than those it is asked to quantise."""


class ForeignCodebookError(PipelineError):
    """A codebook of another program that cannot be read, or not without running code of whoever wrote it."""


class CheckpointError(PipelineError):
    """A checkpoint that is damaged or belongs to another run."""


class TrainingError(PipelineError):
    """A training run that cannot go on: a loss that is not finite, or workers lost too often."""


class UnjudgedError(PipelineError):
    """One utterance that a judge of speech cannot judge.

    Args:
        reason: A ``metrics.speech.judge.Reason`` value, the code in the row of the utterance.
        detail: Part of a sentence for a person: what was found, and the limit it broke if any.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = redact(detail)

    def __reduce__(self) -> tuple[type["UnjudgedError"], tuple[str, str]]:
        """Survive pickling between processes, as ``AudioDecodeError``."""
        return type(self), (self.reason, self.detail)


class TooManyRejectsError(PipelineError):
    """More utterances were rejected than ``max_reject_fraction`` allows."""
