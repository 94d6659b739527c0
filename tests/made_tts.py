"""A small text-to-speech task and its network, made in a test: three layers of different K."""

import torch
from made_tasks import alphabet_of, task_config, write_task_corpus
from made_vocoder import vocoder

from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.store.dataset import Dataset
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.stage import train_task
from pipeline.tasks.tts.settings import TtsSettings
from pipeline.tasks.tts.task import TtsTask
from pipeline.vocoder.saved import write_vocoder
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.spec import vocoder_spec

COLUMNS, SIZES = ("layer_01", "layer_03", "layer_06"), (5, 7, 4)


def task_of(pattern="parallel", **changes):
    settings = TtsSettings(
        text_layers=1, token_layers=2, tts_width=16, tts_heads=2, tts_ffn=24, stream_pattern=pattern, **changes
    )
    alphabet = alphabet_of(TextSettings(), ["abc cage"])
    speakers = ("s0", "s1") if settings.speaker_input == "table" else ()
    return TtsTask(
        settings=settings,
        alphabet=alphabet,
        columns=COLUMNS,
        num_clusters=SIZES,
        frames_per_symbol=3.0,
        speakers=speakers,
    )


def model_of(task, fusion="attention"):
    spec = FuserSpec(
        settings=FusionSettings(fusion=fusion, embedding_dim=8),
        kind="tokens",
        columns=COLUMNS,
        dim=None,
        encoder_sha256="e",
        num_clusters=dict(zip(COLUMNS, SIZES, strict=True)),
        codebook_sha256=dict.fromkeys(COLUMNS, "c"),
    )
    torch.manual_seed(0)
    fuser = build_fuser(spec)
    model = TaskModel(fuser, task.head(fuser.dim)).eval()
    with torch.no_grad():
        # Untrained weights say much the same of every step; larger ones give tokens that change and stops that come.
        for weights in model.head.parameters():
            weights.mul_(1.5)
        model.head.stop.bias.sub_(1.5)
    return model


BY_HEART = {
    **{"tts_dropout": 0.0, "target_dropout": 0.0, "text_layers": 2, "tts_width": 48, "tts_ffn": 96},
    **{"num_steps": 200, "lr": 4e-3, "warmup_steps": 20, "validate_every": 0, "checkpoint_every": 200},
    **{"valid_fraction": 0.0, "test_fraction": 0.0, "embedding_dim": 24, "batches_per_step": 3},
}
"""Settings with which eight texts are learned by heart."""


def write_tts(folder, **changes):
    """Write a corpus of eight texts, FOLDER/tts that knows them by heart and FOLDER/vocoder; gives the labels by id."""
    labels = write_task_corpus(folder, 8, change=lambda labels: labels | {"split": "train"})
    train_task(task_config(folder, folder / "tts", "tts", **BY_HEART | changes))
    write_fitting_vocoder(folder / "vocoder", folder / "tokens")
    return labels


def write_fitting_vocoder(folder, tokens, *, speakers=(), **settings):
    """Write a vocoder of random weights for the tokens of a dataset."""
    lineage = Dataset.open(str(tokens), kind="tokens").plan.lineage
    sizes = {"arch": "istft", "convnext_dim": 16, "convnext_hidden": 24, "convnext_blocks": 2, "n_fft": 1280}
    made = vocoder_spec(
        VocoderSettings(**sizes, **settings), FusionSettings(embedding_dim=12), lineage, speakers=speakers
    )
    write_vocoder(str(folder), made, vocoder(made).state_dict())
