"""A small text-to-speech task and its network, made in a test: three layers of different K."""

import torch
from made_tasks import alphabet_of

from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.tasks.asr.settings import TextSettings
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.tts.settings import TtsSettings
from pipeline.tasks.tts.task import TtsTask

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
