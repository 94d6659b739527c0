"""Speak tokens: a tokens dataset or an export and a vocoder in, speech out; or one recording by way of its tokens.

Reads: a tokens dataset or an export, a vocoder's folder, a manifest for labels and speakers, and a recording of who is
to speak. Writes: the dataset OUTPUT of ``schema.SPEECH``, one shard per shard of tokens, and OUTPUT/_manifest, a
manifest of it.
Restart: shards without a commit are spoken, others not. Memory: one shard of tokens, and its FLAC files; waveforms one
batch or one piece at a time, and one utterance as 16-bit samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.audio.recorded import write_recorded_manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.synthesis.inputs import SpokenInput, export_input, tokens_input
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.speakers import Speakers, choose_speakers
from pipeline.vocoder.choosing import choose_columns
from pipeline.vocoder.saved import SavedVocoder, check_weights, read_spec
from pipeline.vocoder.settings import PREDICTED
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import MakerFactory
from pipeline.work.worker_shape import WorkerShape

if TYPE_CHECKING:
    from pipeline.synthesis.makers import SpeechTask

DATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PreparedSpeech:
    """What the driver knows before Ray starts.

    Attributes:
        plan: Of the speech.
        given: Where the tokens are.
        columns: The layers to hear.
        speakers: Who speaks.
    """

    plan: Plan
    given: SpokenInput
    columns: tuple[str, ...]
    speakers: Speakers

    def task(self, config: SynthesizeConfig) -> "SpeechTask":
        """Say what every worker is told."""
        from pipeline.synthesis.makers import SpeechTask

        return SpeechTask(config=config, plan=self.plan, given=self.given, columns=self.columns, speakers=self.speakers)


def prepare(config: SynthesizeConfig) -> PreparedSpeech:
    """Plan the speech and refuse a vocoder, layers, speakers or a folder that do not fit.

    Needs no Ray, and torch for ``speaker_reference`` alone.

    Raises:
        AudioDecodeError: The reference of the speaker cannot be read.
        CorruptDatasetError: The vocoder's weights are damaged.
        CodebookMismatchError: The vocoder was trained on other tokens.
        DatasetError: An input is not finished, or the manifest is not that of the tokens.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: The vocoder does not know the layers, never saw such a set, or predicts no durations where it
            should; a speaker is absent, too many, or unknown.
    """
    given = spoken_input(config)
    return prepare_spoken(config, given, given.lineage, {})


def spoken_input(config: SynthesizeConfig) -> SpokenInput:
    """Open the tokens dataset or the export.

    Raises:
        DatasetError: It is not finished.
        SettingsError: The export has text in place of speech.
    """
    if config.export is not None:
        return export_input(config.export, every_frame=config.speaking.durations != PREDICTED)
    return tokens_input(config.tokens or "")


def prepare_spoken(
    config: SynthesizeConfig, given: SpokenInput, said: Mapping[str, Any], beside: Mapping[str, str]
) -> PreparedSpeech:
    """Plan speech of tokens that need not be those that are read; see ``prepare``.

    Args:
        config: Says how they are spoken.
        given: What is read.
        said: Encoder and codebooks of the tokens that are spoken, as a tokens dataset's lineage.
        beside: What else the bytes depend on, for the content key and the lineage.
    """
    assert config.vocoder is not None
    saved = read_spec(config.vocoder)
    predicted = config.speaking.durations == PREDICTED
    if predicted:
        saved.spec.check_durations()
    columns = choose_columns(saved.spec, saved.spec.check_tokens(said), config.layers)
    manifest_sha256 = _check_manifest(config, given)
    speakers = choose_speakers(config, saved)
    vectors = {} if speakers.vectors_sha256 is None else {"speaker_vectors_sha256": speakers.vectors_sha256}
    plan = Plan(
        kind="speech",
        content={
            "data_version": DATA_VERSION,
            "input_sha256": list(given.sha256),
            "manifest_sha256": manifest_sha256,
            "vocoder_sha256": saved.sha256,
            "columns": list(columns),
            "speaker": config.speaker,
            **vectors,
            **({"durations": PREDICTED} if predicted else {}),
            **beside,
            "batch_seconds": config.speaking.batch_seconds,
            "piece_seconds": config.speaking.piece_seconds,
            "threads_per_worker": config.threads_per_worker,
        },
        lineage={**_lineage(saved, given, said, columns), **beside},
        units=list(given.units),
        totals=given.totals,
    )
    check_folder(open_store(config.output), plan)
    check_weights(config.vocoder)
    return PreparedSpeech(plan=plan, given=given, columns=columns, speakers=speakers)


def _check_manifest(config: SynthesizeConfig, given: SpokenInput) -> str | None:
    """Give the hash of the manifest, where it is the one of the tokens."""
    if config.manifest is None:
        return None
    manifest = Manifest(config.manifest)
    found: str = success(manifest.dataset)["dataset_sha256"]
    shards = {shard for _, shard in given.units.values()}
    if len(shards) < len(given.units):
        raise SettingsError(f"{given.uri} has several parts, each of another manifest; leave --manifest away")
    if (given.manifests and found not in given.manifests) or not shards <= set(manifest.units):
        raise DatasetError(
            f"{given.uri} was made from another manifest than {config.manifest}; give the one it was made from"
        )
    return found


def _lineage(
    saved: SavedVocoder, given: SpokenInput, said: Mapping[str, Any], columns: tuple[str, ...]
) -> dict[str, Any]:
    names = ("encoder", "encoder_sha256")
    return {
        "kind": "speech",
        "schema_version": schema.SCHEMA_VERSION,
        "input_sha256": list(given.sha256),
        "vocoder_sha256": saved.sha256,
        "sample_rate": saved.spec.sample_rate,
        "hop_length": saved.spec.hop_length,
        "codebooks": {column: said["codebooks"][column] for column in columns},
        **{name: given.lineage.get(name) for name in names},
    }


def synthesize(config: SynthesizeConfig) -> Any:
    """Speak the tokens of a dataset or an export, or those of one recording.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens.
        DatasetError: An input is not finished.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: A setting does not fit the vocoder.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be spoken.
    """
    config = config.located()
    if config.file is not None:
        from pipeline.synthesis.one_file import speak_file

        return speak_file(config)
    prepared = prepare(config)

    def factory(shape: WorkerShape) -> MakerFactory:
        from pipeline.synthesis.makers import SpeechMaker

        return partial(SpeechMaker, prepared.task(config), shape.device)

    return speak(config, prepared, factory)


def speak(
    config: SynthesizeConfig, prepared: PreparedSpeech, factory: Callable[[WorkerShape], MakerFactory]
) -> StageReport:
    """Make what a dataset of speech lacks, and write its manifest; gives the report.

    Args:
        config: Where, and who does the work.
        prepared: What is made.
        factory: Gives the makers of a worker.

    Raises:
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be spoken.
    """
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    report = run_stage(
        dataset,
        load=None,
        factory=factory,
        choice=config.work.choice(prepared.plan.totals["seconds"]),
        placement=config.placement,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
    )
    write_recorded_manifest(dataset)
    return report
