"""Mix a clean corpus with noises, and with rooms: pairs of noisy and clean utterances for speech enhancement.

Reads: a manifest of clean utterances, of noises and, where given, of room impulse responses, and their recordings.
Writes: the dataset OUTPUT of ``schema.MIXTURES``, one shard per shard and pass, and OUTPUT/_manifest, a manifest of it
whose ``clean_uri`` names the clean utterances.
Restart: shards without a commit are mixed, others not. Memory: in each worker a shard's waveforms, its FLAC files, 200
bytes per noise, and one utterance a few times over as float64.
"""

from dataclasses import dataclass
from functools import partial

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.audio.mixtures.report import MixReport
from pipeline.audio.mixtures.settings import MixCorpusConfig
from pipeline.audio.mixtures.sounds import check_splits, open_sounds
from pipeline.audio.mixtures.units import CleanLoader, unit_names
from pipeline.audio.recorded import write_recorded_manifest
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Plan, check_folder
from pipeline.store.provenance import record_settings
from pipeline.store.storage import open_store
from pipeline.work.executor import run_stage
from pipeline.work.units import MakerFactory
from pipeline.work.worker_shape import WorkerShape

DATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PreparedMixtures:
    """What the driver knows before Ray starts.

    Attributes:
        plan: Of the mixtures.
        whole: Whether utterances that are plain files are their only ones.
        strict: Whether the clean manifest was built so.
    """

    plan: Plan
    whole: bool
    strict: bool


def prepare(config: MixCorpusConfig) -> PreparedMixtures:
    """Plan the mixtures and refuse noises, rooms or a folder that do not fit. Needs no Ray.

    Raises:
        DatasetError: The manifest is not finished.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: Noises or rooms are no manifest, or a split has none.
    """
    clean = Manifest(config.manifest)
    sounds = {"noises": open_sounds(config.noises, "noises")}
    check_splits(clean, sounds["noises"], "noise")
    if config.rooms_heard is not None:
        sounds["rooms"] = open_sounds(config.rooms_heard, "rooms")
        check_splits(clean, sounds["rooms"], "room")
    origin = {
        f"{name}_sha256": success(manifest.dataset)["dataset_sha256"]
        for name, manifest in {"manifest": clean, **sounds}.items()
    }
    drawn = {"snrs": list(config.snrs)} if config.snrs else {"snr_db": list(config.range_db)}
    plan = Plan(
        kind="mixtures",
        content={
            "data_version": DATA_VERSION,
            **origin,
            **drawn,
            "level": config.level,
            "room_probability": config.room_probability if config.rooms_heard else None,
            "passes": config.passes,
            "sample_rate": config.sample_rate,
            "seed": config.seed,
            "max_utterance_seconds": config.max_utterance_seconds,
        },
        lineage={"kind": "mixtures", "schema_version": schema.SCHEMA_VERSION, **origin},
        units=unit_names(clean.units, config.passes),
        totals={"rows": clean.num_rows * config.passes, "seconds": clean.seconds * config.passes},
    )
    check_folder(open_store(config.output), plan)
    return PreparedMixtures(plan=plan, whole=clean.parts == 0 and not clean.joined, strict=clean.strict)


def mix_corpus(config: MixCorpusConfig) -> MixReport:
    """Mix the utterances of a manifest with noises, each at a drawn ratio: the same ones for the same seed.

    Raises:
        DatasetError: The manifest is not finished.
        ManifestError: Something is passed over, and the manifest was built with ``strict``.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: Noises or rooms are no manifest, or a split has none.
        TooManyRejectsError: More than ``max_reject_fraction`` of the utterances cannot be mixed.
    """
    config = config.located()
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)

    def factory(_: WorkerShape) -> MakerFactory:
        from pipeline.audio.mixtures.makers import MixMaker, MixTask

        return partial(MixMaker, MixTask(config=config, plan=prepared.plan, whole=prepared.whole))

    report = run_stage(
        dataset,
        load=CleanLoader(manifest=config.manifest, sample_rate=config.sample_rate, limits=config.limits),
        factory=factory,
        choice=config.work.choice(prepared.plan.totals["seconds"]),
        placement=config.placement,
        use_gpu=False,
        numerics_mode=config.numerics,
        max_reject_fraction=config.max_reject_fraction,
        strict=prepared.strict,
    )
    write_recorded_manifest(dataset)
    return MixReport.of(report, dataset)
