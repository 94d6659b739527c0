"""Train a vocoder: tokens of any set of layers become speech.

Reads: a tokens dataset, and the manifest and recordings that it was made from. Writes: a vocoder's folder,
``model.safetensors`` and ``config.json`` (``vocoder/saved.py``), which binds it to its encoder and codebooks by hashes,
and ``speakers.safetensors`` where speakers are vectors; beside it ``metrics.jsonl`` and ``tensorboard/``. Restart: from
the latest checkpoint in ``_checkpoints/``, with the losses of a run that never stopped. Memory: see
``training/loop.py``; decoded audio up to ``cache_gb`` a worker.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.loading import Manifest
from pipeline.batches.pools import REASONS
from pipeline.batches.sides import TRAIN, VALIDATION, Sides
from pipeline.batches.survey import SideFacts, Wanted, survey
from pipeline.errors import SettingsError
from pipeline.fusion.saved import check_fuser
from pipeline.fusion.spec import read_centroids
from pipeline.store.completion import success
from pipeline.store.dataset import FILES, Dataset, Output, Plan, check_folder, sha256
from pipeline.store.storage import open_store
from pipeline.training.progress import METRICS, history_lines
from pipeline.training.publishing import MODEL, Trained, make_model
from pipeline.training.settings import TrainingSettings, learning_content
from pipeline.vocoder.saved import WEIGHTS, vocoder_files
from pipeline.vocoder.speaker_vectors import find_encoder
from pipeline.vocoder.spec import VocoderSpec, vocoder_spec
from pipeline.vocoder.training.report import VocoderReport, report_of
from pipeline.vocoder.training.settings import TrainVocoderConfig
from pipeline.vocoder.training.sides import vocoder_sides

if TYPE_CHECKING:
    from pipeline.vocoder.training.recipe import VocoderRecipe

DATA_VERSION = 1
KIND = "vocoder"
_SPEAKER = "speaker"


@dataclass(frozen=True, kw_only=True)
class PreparedVocoder:
    """What the driver knows before Ray starts.

    Attributes:
        plan: The run's plan.
        training: How to train; without validation where nothing is held out for it.
        spec: What the vocoder is made for.
        make_recipe: Gives the recipe, which needs torch.
    """

    plan: Plan
    training: TrainingSettings
    spec: VocoderSpec
    make_recipe: Callable[[], "VocoderRecipe"]

    @cached_property
    def recipe(self) -> "VocoderRecipe":
        """What the vocoder gives the training loop."""
        return self.make_recipe()


def prepare(config: TrainVocoderConfig) -> PreparedVocoder:
    """Plan the run and refuse what cannot be trained. Needs neither Ray nor torch.

    Raises:
        DatasetError: An input is not finished, or the tokens were not made from the manifest.
        SettingsError: A layer is not there, sizes do not fit the tokens, or a side is empty.
        CodebookMismatchError: The codebooks are not those of the tokens.
        PlanMismatchError: The output folder was made with other settings.
    """
    data = config.data
    tokens, manifest = Dataset.open(data.tokens, kind="tokens"), Manifest(data.manifest)
    manifest_sha256 = manifest.check_made(tokens)
    lineage = tokens.plan.lineage
    sides = vocoder_sides(data)
    spec = _spec(config, lineage, _speakers(config, manifest, sides))
    _check_crops(config, spec)
    training = _with_validation(config.training, sides)
    made_of: dict[str, Any] = {"input_sha256": success(tokens)["dataset_sha256"], "manifest_sha256": manifest_sha256}
    if config.fusing.fuser is not None:
        made_of["fuser_sha256"] = check_fuser(config.fusing.fuser, spec.fuser).sha256
    elif config.fusing.embedding_init == "centroids":
        read_centroids(spec.fuser)
    if spec.speaker_encoder is not None:
        made_of["speaker_encoder"] = asdict(spec.speaker_encoder)
    content = {
        "data_version": DATA_VERSION,
        **made_of,
        "layers": list(spec.columns),
        **data.learned_from(),
        **_flat(config),
        **learning_content(training, config.optimizer),
    }
    plan = Plan(
        kind=KIND,
        content=content,
        lineage={
            "kind": KIND,
            "schema_version": schema.SCHEMA_VERSION,
            **content,
            "encoder": lineage["encoder"],
            "encoder_sha256": lineage["encoder_sha256"],
            "codebooks": dict(spec.fuser.codebook_sha256),
            "num_clusters": dict(spec.fuser.num_clusters),
            "sample_rate": spec.sample_rate,
            "hop_length": spec.hop_length,
        },
        units=[MODEL],
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    recipe = partial(_recipe, config, spec, sides)
    return PreparedVocoder(plan=plan, training=training, spec=spec, make_recipe=recipe)


def _spec(config: TrainVocoderConfig, lineage: Mapping[str, Any], speakers: tuple[str, ...]) -> VocoderSpec:
    vectors = config.network.speaker_input == "vector"
    return vocoder_spec(
        config.network,
        config.fusing,
        lineage,
        columns=tuple(map(schema.layer_column, config.data.layers)),
        codebooks=config.data.codebooks,
        speakers=speakers,
        speaker_encoder=find_encoder(int(lineage["sample_rate"])) if vectors else None,
    )


def _speakers(config: TrainVocoderConfig, manifest: Manifest, sides: Sides) -> tuple[str, ...]:
    """Give the training speakers in order, where each has an entry of a table; see that every side has something."""
    wanted = (_SPEAKER,) if config.network.speaker_input == "table" else ()
    _, facts = survey(manifest, sides, Wanted(needed=wanted, classes=wanted))
    if not wanted:
        return ()
    speakers = facts[TRAIN].values[_SPEAKER].values
    for side in sides.held_out:
        _refuse_unheard(manifest, side, facts[side], speakers)
    return speakers


def _refuse_unheard(manifest: Manifest, side: str, facts: SideFacts, speakers: tuple[str, ...]) -> None:
    if unheard := sorted(set(facts.values[_SPEAKER].values) - set(speakers)):
        told = ", ".join(unheard[:5]) + (f" and {len(unheard) - 5} more" if len(unheard) > 5 else "")
        raise SettingsError(
            f"{manifest.dataset.uri}: {side} has speakers that training never hears ({told}), and speaker_input table "
            "knows those of training; give another --seed, or a smaller --valid-fraction and --test-fraction"
        )


def _check_crops(config: TrainVocoderConfig, spec: VocoderSpec) -> None:
    """Refuse crops that are shorter than the shortest utterance that is used."""
    for name in ("crop_seconds", "valid_seconds"):
        seconds = getattr(config.data, name)
        frames = int(seconds * spec.sample_rate) // spec.hop_length
        if frames < config.data.min_frames:
            raise SettingsError(
                f"{name} {seconds:g} is {frames} frames of {spec.hop_length} samples, fewer than min_frames "
                f"{config.data.min_frames}; give longer crops, or a smaller --min-frames"
            )


def _with_validation(training: TrainingSettings, sides: Sides) -> TrainingSettings:
    if VALIDATION in sides.held_out:
        training.check_validated(VALIDATION)
        return training
    if training.best_by is not None:
        raise SettingsError(f"best_by {training.best_by} needs utterances to validate on: give --valid-fraction")
    return replace(training, validate_every=0)


def _flat(config: TrainVocoderConfig) -> dict[str, Any]:
    """Give the settings of networks and losses that weights depend on, as plain JSON values."""
    found = {**config.network.flat(), **config.losses.flat(), **config.fusing.flat()}
    # What it begins with is named by its hash.
    del found["fuser"]
    found |= {
        "discriminator_lr": config.discriminator_lr,
        "discriminators_from": config.discriminators_from,
        "ema_decay": config.ema_decay,
        "weights_dtype": config.weights_dtype,
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _recipe(config: TrainVocoderConfig, spec: VocoderSpec, sides: Sides) -> "VocoderRecipe":
    # Not at the top: a run with nothing left to do needs no torch.
    from pipeline.vocoder.training.recipe import VocoderRecipe
    from pipeline.vocoder.training.source import VocoderData

    lr = config.optimizer.lr if config.discriminator_lr is None else config.discriminator_lr
    return VocoderRecipe(
        data=VocoderData.of(config, spec, sides),
        spec=spec,
        weights=config.losses,
        optimizer=config.optimizer,
        discriminator_optimizer=replace(config.optimizer, lr=lr),
        ema_decay=config.ema_decay or None,
    )


def train_vocoder(config: TrainVocoderConfig) -> VocoderReport:
    """Train a vocoder on tokens and their recordings, and write it as a folder.

    Source: Mousavi et al. 2024, How Should We Extract Discrete Audio Tokens from Self-Supervised Models?, arXiv
    2406.10735, with HiFi-GAN's training (Kong et al. 2020, arXiv 2010.05646).

    Raises:
        DatasetError: The tokens were not made from the manifest.
        SettingsError: A layer is not there, or sizes do not fit the tokens.
        TrainingError: A loss is not finite, or workers were lost too often.
        PlanMismatchError: The output folder was made with other settings.
    """
    config = config.located()
    prepared = prepare(config)

    def publish(dataset: Dataset, trained: Trained) -> Output:
        return _published(dataset, prepared, config, trained)

    made = make_model(config, config.output, prepared.plan, prepared.make_recipe, prepared.training, publish)
    return report_of(made.dataset, made.workers, made.seconds)


def _published(dataset: Dataset, prepared: PreparedVocoder, config: TrainVocoderConfig, trained: Trained) -> Output:
    """Write what describes the vocoder, and give its weights and what they tell of themselves."""
    from safetensors.torch import load

    from pipeline.vocoder.training.recipe import GENERATOR
    from pipeline.vocoder.training.voices import mean_voices

    progress = trained.progress
    kept = [line for line in progress.history if line["step"] == progress.published_step]
    metrics = {name: value for line in kept for name, value in line.items() if name.startswith(f"{VALIDATION}_")}
    training = {**prepared.plan.content, "steps": progress.published_step, "metrics": metrics}
    files = vocoder_files(
        dataset.uri,
        prepared.spec,
        trained.checkpoint.weights(GENERATOR),
        dtype=config.weights_dtype,
        training=json.loads(json.dumps(training)),
        voices=mean_voices(prepared.recipe.data) if prepared.spec.speaker_encoder is not None else None,
    )
    beside = {**files, METRICS: history_lines(progress)}
    del beside[WEIGHTS]
    for name, data in beside.items():
        dataset.store.write(name, data)
    return Output(
        data=files[WEIGHTS],
        rows=sum(tensor.numel() for tensor in load(files[WEIGHTS]).values()),
        seconds=progress.amount,
        notes={
            "metrics": metrics,
            "step": progress.published_step,
            "ended": progress.ended or "steps",
            "steps": progress.step,
            "left_out": {name: progress.cursor[name] for name in REASONS if progress.cursor.get(name)},
            FILES: {name: sha256(data) for name, data in beside.items()},
        },
    )
