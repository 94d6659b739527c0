"""The networks of a training as its settings make them, and a micro-batch for them, made up from a shape alone.

Letters: B batch, T frames, L layers, D feature width, N symbols of a text.
"""

from dataclasses import replace

import numpy as np
import torch

from pipeline import schema
from pipeline.errors import SettingsError
from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.inputs import freeze
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.study.costing.shapes import TokenShape
from pipeline.tasks.asr.task import AsrTask
from pipeline.tasks.asr.text import Alphabet
from pipeline.tasks.er.task import ErTask
from pipeline.tasks.kinds import KINDS
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.se.targets import TargetLayer
from pipeline.tasks.se.task import SeTask
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tasks.sid.task import SidTask
from pipeline.tasks.source import FRAMES
from pipeline.tasks.task import Task
from pipeline.tasks.tts.model import SPEAKERS, TEXT, TEXT_MASK
from pipeline.tasks.tts.task import TtsTask
from pipeline.training.recipe import Tensors
from pipeline.vocoder.spec import VocoderSpec
from pipeline.vocoder.training.recipe import VocoderRecipe
from pipeline.vocoder.training.settings import TrainVocoderConfig
from pipeline.vocoder.training.sides import vocoder_sides
from pipeline.vocoder.training.source import JUDGED, PRESENT, SPEAKER, WAVEFORM, VocoderData

_UNKNOWN = "unknown"


def task_model(config: TrainTaskConfig, shape: TokenShape) -> TaskModel:
    """Build the fuser and the network of a task, with random weights.

    Raises:
        SettingsError: The settings do not fit the shape.
    """
    kind = "tokens" if config.data.tokens is not None else "features"
    fuser = build_fuser(_fuser_spec(config.fusing, shape, kind))
    if config.fusing.freeze_fuser:
        freeze(fuser)
    return TaskModel(fuser, _task(config, shape).head(fuser.dim))


def task_batch(config: TrainTaskConfig, shape: TokenShape) -> Tensors:
    """Make up a micro-batch of a task, as full as the settings let it be."""
    crop = config.data.crop_seconds if config.data.crop_seconds is not None else KINDS[config.task].crop_seconds
    seconds = min(shape.utterance_seconds, config.data.max_seconds if crop is None else crop)
    rows = _rows(shape, seconds, config.data.batch_seconds)
    if config.data.tokens is None:
        rows = [np.zeros((*row.shape, shape.dim), np.float16) for row in rows]
    batch = _task(config, shape).laid(rows)
    if config.task == "tts":
        texts = torch.zeros(len(rows), max(1, round(seconds * shape.symbols_per_second)), dtype=torch.int64)
        batch |= {TEXT: texts, TEXT_MASK: torch.ones_like(texts, dtype=torch.bool)}
        if config.tts.speaker_input == "table":
            batch[SPEAKERS] = torch.zeros(len(rows), dtype=torch.int64)
    return batch


def vocoder_recipe(config: TrainVocoderConfig, shape: TokenShape) -> VocoderRecipe:
    """Make the recipe of a vocoder, whose data nobody opens.

    Raises:
        SettingsError: The settings do not fit the shape.
    """
    named = config.network.speaker_input == "table"
    spec = VocoderSpec(
        settings=config.network,
        fuser=_fuser_spec(config.fusing, shape, "tokens"),
        sample_rate=shape.sample_rate,
        hop_length=shape.hop_length,
        speakers=_names(shape.speakers) if named else (),
    )
    return VocoderRecipe(
        data=VocoderData.of(config, spec, vocoder_sides(config.data)),
        spec=spec,
        weights=config.losses,
        optimizer=config.optimizer,
        discriminator_optimizer=config.optimizer,
        ema_decay=config.ema_decay or None,
    )


def vocoder_batch(config: TrainVocoderConfig, shape: TokenShape) -> Tensors:
    """Make up a micro-batch of a vocoder, as full as the settings let it be."""
    seconds = min(shape.utterance_seconds, config.data.crop_seconds)
    rows = _rows(shape, seconds, config.data.batch_seconds)
    tokens = torch.from_numpy(np.stack(rows))
    count, num_frames, num_layers = tokens.shape
    batch = {
        FRAMES: tokens,
        f"{FRAMES}_lengths": torch.full((count,), num_frames),
        f"{FRAMES}_mask": torch.ones(count, num_frames, dtype=torch.bool),
        PRESENT: torch.ones(count, num_layers, dtype=torch.bool),
        WAVEFORM: torch.zeros(count, num_frames * shape.hop_length),
        JUDGED: torch.tensor(True),
    }
    if config.network.speaker_input == "vector":
        batch[SPEAKER] = torch.ones(count, config.network.speaker_dim)
    elif config.network.speaker_input == "table":
        batch[SPEAKER] = torch.zeros(count, dtype=torch.int64)
    return batch


def _fuser_spec(fusing: FusionSettings, shape: TokenShape, kind: str) -> FuserSpec:
    """Say what a fuser is made for; what its weights begin as costs nothing."""
    columns = tuple(map(schema.layer_column, shape.layers))
    tokens = kind == "tokens"
    return FuserSpec(
        settings=replace(fusing, embedding_init="random", fuser=None, freeze_fuser=False),
        kind="tokens" if tokens else "features",
        columns=columns,
        dim=shape.dim,
        encoder_sha256=_UNKNOWN,
        num_clusters=dict.fromkeys(columns, shape.num_clusters) if tokens else {},
        codebook_sha256=dict.fromkeys(columns, _UNKNOWN) if tokens else {},
    )


def _task(config: TrainTaskConfig, shape: TokenShape) -> Task:
    if config.task == "se":
        columns = map(schema.layer_column, config.data.target_layers or shape.layers)
        targets = [TargetLayer(column=each, num_clusters=shape.num_clusters, codebook_sha256="") for each in columns]
        return SeTask(settings=config.conformer, targets=tuple(targets), columns=())
    if shape.vocabulary < 2:
        raise SettingsError(
            f"{config.task} needs a vocabulary of at least 2 symbols or classes, got {shape.vocabulary}"
        )
    names = _names(shape.vocabulary)
    if config.task == "sid":
        return SidTask(ecapa=config.ecapa, settings=config.sid, classes=names)
    if config.task == "er":
        return ErTask(ecapa=config.ecapa, classes=names, weights=None)
    alphabet = Alphabet(
        units=config.text.units,
        symbols=names,
        characters=frozenset(),
        text_normalization=config.text.text_normalization,
        drops_unknown=True,
    )
    if config.task == "asr":
        return AsrTask(settings=config.asr, alphabet=alphabet)
    return TtsTask(
        settings=config.tts,
        alphabet=alphabet,
        columns=tuple(map(schema.layer_column, shape.layers)),
        num_clusters=len(shape.layers) * (shape.num_clusters,),
        frames_per_symbol=shape.frames_per_second / shape.symbols_per_second,
        speakers=_names(shape.speakers) if config.tts.speaker_input == "table" else (),
    )


def _rows(shape: TokenShape, seconds: float, batch_seconds: float) -> list[np.ndarray]:
    """Draw tokens, int64 (T, L) each, of as many utterances as a micro-batch holds, one at least."""
    num_frames = max(1, round(seconds * shape.frames_per_second))
    # Rounded first: 17.92 / 0.56 is a little under 32.
    count = max(1, int(round(batch_seconds / seconds, 6)))
    draw = np.random.default_rng(0)
    return list(draw.integers(0, shape.num_clusters, (count, num_frames, len(shape.layers))))


def _names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
