"""Pretrain an encoder: a HuBERT learns to predict the tokens of masked frames.

Reads: a manifest, its recordings, and tokens made from it. Writes: an encoder folder in Hugging Face form,
``model.safetensors``, ``config.json``, ``preprocessor_config.json``; beside it ``metrics.jsonl`` and ``tensorboard/``.
Restart: from the latest checkpoint in ``_checkpoints/``, with the losses of a run that never stopped. Memory: see
``training/loop.py``; decoded audio up to ``cache_gb`` a worker.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest, check_made
from pipeline.batches.augment import AugmentSettings
from pipeline.batches.noises import check_amount
from pipeline.batches.pools import TOO_SHORT
from pipeline.errors import SettingsError
from pipeline.features.encoders.files import CONFIG, PREPROCESSOR, local_folder, read_json
from pipeline.features.encoders.info import describe
from pipeline.pretraining.export import encoder_tensors, write_settings
from pipeline.pretraining.settings import MaskingSettings, PretrainEncoderConfig
from pipeline.pretraining.shapes import network_config
from pipeline.store.completion import success
from pipeline.store.dataset import FILES, Dataset, Output, Plan, check_folder, sha256
from pipeline.store.storage import absolute, open_store
from pipeline.training.progress import METRICS, Progress, history_lines
from pipeline.training.publishing import MODEL, Trained, make_model, model_commit, weights_bytes
from pipeline.training.settings import learning_content

if TYPE_CHECKING:
    from pipeline.pretraining.recipe import PretrainRecipe

DATA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a training run did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        output: Where.
        dataset_sha256: Hash of the finished folder.
        num_steps: Steps in all.
        audio_hours: Audio learned from, over all epochs.
        too_short: Training utterances, or ends of long ones, left out for having fewer frames than ``min_frames``.
        wall_seconds: Time this run took.
        num_parameters: Weights of the encoder.
        num_bytes: Bytes of its weights on disk.
        workers: How the run lay on the cluster.
        curve: What was logged at a tenth of the steps, two tenths and so on, and last validation.
    """

    stage: str
    output: str
    dataset_sha256: str
    num_steps: int
    audio_hours: float
    too_short: int
    wall_seconds: float
    num_parameters: int
    num_bytes: int
    workers: str
    curve: list[dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        size = f"{self.num_parameters:,} parameters, {self.num_bytes / 1e6:.2f} MB"
        lines = [("output", self.output), ("encoder", size), ("steps", f"{self.num_steps:,}")]
        lines += [("audio", f"{self.audio_hours:.2f} h"), ("too short, left out", f"{self.too_short:,}")]
        lines += [("wall time", f"{self.wall_seconds:.1f} s"), ("workers", self.workers)]
        for point in self.curve:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in point.items() if name != "step")
            lines.append((f"step {int(point['step']):,}", shown))
        return lines


@dataclass(frozen=True, kw_only=True)
class PreparedTraining:
    """What the driver knows before Ray starts.

    Attributes:
        plan: The run's plan.
        network: Fields of the network's config.
        clock: Its frames.
        make_recipe: Gives the recipe, which needs torch.
    """

    plan: Plan
    network: Mapping[str, Any]
    clock: Clock
    make_recipe: "Callable[[], PretrainRecipe]"

    @cached_property
    def recipe(self) -> "PretrainRecipe":
        """What pretraining gives the training loop."""
        return self.make_recipe()


def prepare(config: PretrainEncoderConfig) -> PreparedTraining:
    """Plan the run and refuse tokens or a folder that do not fit. Needs no Ray.

    Raises:
        DatasetError: An input is not finished, or the tokens were not made from the manifest.
        SettingsError: The tokens have not these columns, or the encoder another clock.
        EncoderError: ``init_encoder`` cannot be read.
        PlanMismatchError: The output folder was made with other settings.
    """
    tokens, manifest = Dataset.open(config.tokens, kind="tokens"), Dataset.open(config.manifest, kind="manifest")
    manifest_sha256 = check_made(tokens, manifest)
    sizes = tokens.plan.lineage["num_clusters"]
    columns = config.targets or tuple(sizes)
    if absent := sorted(set(columns) - set(sizes)):
        raise SettingsError(f"{config.tokens} has the columns {', '.join(sizes)}, not {', '.join(absent)}")
    network, clock, init_sha256 = _network(config)
    lineage = tokens.plan.lineage
    if (lineage["sample_rate"], lineage["hop_length"]) != (clock.sample_rate, clock.hop_length):
        raise SettingsError(
            f"the tokens have {lineage['frame_rate']:g} frames a second at {lineage['sample_rate']} Hz, the encoder "
            f"{clock.frame_rate:g} at {clock.sample_rate} Hz; they must be the same"
        )
    own = {name: getattr(config, name) for name in MaskingSettings.__dataclass_fields__ if name != "cache_gb"}
    made_of = {"tokens_sha256": success(tokens)["dataset_sha256"], "manifest_sha256": manifest_sha256}
    made_of |= {f"{name}_sha256": _augmentation_sha256(name, getattr(config, name)) for name in ("noise", "rooms")}
    for name in ("noise", "rooms", "init_encoder", "init_revision"):
        own.pop(name)
    content = {
        "data_version": DATA_VERSION,
        **made_of,
        "init_sha256": init_sha256,
        "targets": list(columns),
        **own,
        **learning_content(config.training, config.optimizer),
    }
    plan = Plan(
        kind="encoder",
        content=content,
        lineage={
            "kind": "encoder",
            "schema_version": schema.SCHEMA_VERSION,
            **content,
            "target_encoder": lineage["encoder"],
            "target_encoder_sha256": lineage["encoder_sha256"],
            "codebooks": {column: lineage["codebooks"][column] for column in columns},
        },
        units=[MODEL],
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    recipe = partial(_recipe, config, columns, [sizes[column] for column in columns], clock)
    return PreparedTraining(plan=plan, network=network, clock=clock, make_recipe=recipe)


def _augmentation_sha256(name: str, uri: str | None) -> str | None:
    if uri is None:
        return None
    manifest = Manifest(uri)
    check_amount(name, manifest)
    return str(success(manifest.dataset)["dataset_sha256"])


def _network(config: PretrainEncoderConfig) -> tuple[dict[str, Any], Clock, str | None]:
    """Give the fields of the network's config, its clock, and the hash of the encoder it begins with."""
    from transformers import HubertConfig

    shape = config.shape if config.init_encoder is None else None
    fields = network_config(shape, dropout=config.dropout, layerdrop=config.layerdrop)
    init_sha256 = None
    if config.init_encoder is not None:
        info = describe(
            config.init_encoder, revision=config.init_revision, normalize_waveform=config.normalize_waveform
        )
        if info.model_type != "hubert":
            raise SettingsError(f"init_encoder must be a HuBERT, {config.init_encoder} is a {info.model_type}")
        init_sha256 = info.weights_sha256
        published = read_json(local_folder(config.init_encoder, config.init_revision) / "config.json")
        # The adapter behind the blocks is trained by no loss of ours, and may be as large as it says.
        published |= {"add_adapter": False} if published.get("add_adapter") else {}
        fields = {**published, **fields}
    network = HubertConfig(**fields)
    clock = Clock.of_convolutions(16_000, network.conv_kernel, network.conv_stride)
    return fields, clock, init_sha256


def _located(init: str | None) -> str | None:
    """Make a local folder independent of the working directory; a Hugging Face name stays."""
    return absolute(init) if init is not None and Path(init).is_dir() else init


def _recipe(
    config: PretrainEncoderConfig, columns: tuple[str, ...], sizes: list[int], clock: Clock
) -> "PretrainRecipe":
    # Not at the top: a run with nothing left to do needs no torch.
    from pipeline.pretraining.recipe import PretrainRecipe
    from pipeline.pretraining.source import DataSettings

    augment = {name: getattr(config, name) for name in AugmentSettings.__dataclass_fields__}
    for name in ("noise", "rooms"):
        augment[name] = None if augment[name] is None else absolute(augment[name])
    data = DataSettings(
        manifest=absolute(config.manifest),
        tokens=absolute(config.tokens),
        columns=columns,
        clock=clock,
        normalize=config.normalize_waveform,
        seed=config.training.seed,
        max_samples=int(config.batch_seconds * clock.sample_rate),
        crop_seconds=config.crop_seconds,
        min_frames=config.min_frames,
        mask_probability=config.mask_probability,
        mask_length=config.mask_length,
        shuffle_hours=config.shuffle_hours,
        valid_fraction=config.valid_fraction,
        valid_minutes=config.valid_minutes,
        cache_bytes=int(config.cache_gb * 1e9),
        augment=AugmentSettings(**augment),
    )
    return PretrainRecipe(
        data=data,
        optimizer=config.optimizer,
        num_clusters=tuple(sizes),
        shape=config.shape,
        init=_located(config.init_encoder),
        revision=config.init_revision,
        head=config.head,
        dropout=config.dropout,
        layerdrop=config.layerdrop,
        unmasked_weight=config.unmasked_weight,
    )


def pretrain_encoder(config: PretrainEncoderConfig) -> TrainingReport:
    """Train a HuBERT by masked prediction of tokens, and write it as an encoder folder.

    Source: Hsu et al. 2021, HuBERT, arXiv 2106.07447.

    Raises:
        DatasetError: The tokens were not made from the manifest.
        TrainingError: A loss is not finite, or workers were lost too often.
        PlanMismatchError: The output folder was made with other settings.
    """
    prepared = prepare(config)

    def publish(dataset: Dataset, trained: Trained) -> Output:
        return _published(dataset, prepared, config, trained)

    made = make_model(config, config.output, prepared.plan, prepared.make_recipe, config.training, publish)
    return _report(made.dataset, str(success(made.dataset)["dataset_sha256"]), made.workers, made.seconds)


def _published(dataset: Dataset, prepared: PreparedTraining, config: PretrainEncoderConfig, trained: Trained) -> Output:
    """Write the encoder's settings, and give its weights and what they tell of themselves."""
    from pipeline.pretraining.recipe import NETWORK

    progress = trained.progress
    tensors = encoder_tensors(trained.checkpoint.weights(NETWORK), config.weights_dtype)
    write_settings(
        dataset.store,
        prepared.network,
        normalize=config.normalize_waveform,
        sample_rate=prepared.clock.sample_rate,
        lineage=prepared.plan.lineage,
    )
    # Another run of the same command may have put its own, which is not so far, in its place.
    dataset.store.write(METRICS, history_lines(progress))
    return Output(
        data=weights_bytes(tensors),
        rows=sum(tensor.numel() for tensor in tensors.values()),
        seconds=progress.amount,
        notes={
            "curve": _curve(progress),
            TOO_SHORT: progress.cursor[TOO_SHORT],
            FILES: {
                METRICS: sha256(history_lines(progress)),
                **{name: sha256(dataset.store.read(name)) for name in (CONFIG, PREPROCESSOR)},
            },
        },
    )


def _curve(progress: Progress) -> list[dict[str, float]]:
    """Pick what was logged at each tenth of the steps, and the last validation."""
    training = [line for line in progress.history if "loss" in line]
    marks = [progress.step * tenth // 10 for tenth in range(1, 11)]
    picked = {}
    for mark in marks:
        before = [line for line in training if line["step"] <= mark]
        if before:
            picked[before[-1]["step"]] = before[-1]
    validation = [line for line in progress.history if "validation_loss" in line]
    return [*picked.values(), *validation[-1:]]


def _report(dataset: Dataset, digest: str, workers: str, seconds: float) -> TrainingReport:
    commit = model_commit(dataset)
    return TrainingReport(
        stage="encoder",
        output=dataset.uri,
        dataset_sha256=digest,
        num_steps=int(dataset.plan.content["num_steps"]),
        audio_hours=commit.seconds / 3600,
        too_short=int(commit.notes[TOO_SHORT]),
        wall_seconds=seconds,
        num_parameters=commit.data.rows,
        num_bytes=commit.data.bytes,
        workers=workers,
        curve=list(commit.notes["curve"]),
    )
