"""A tokenizer's folder of the encoder that ships, vocoders of random weights for it, and `synthesize --file`."""

from functools import partial

import torch

from pipeline.features.encoders.info import encoder_files
from pipeline.features.encoders.shipped import LAYERS, NAME
from pipeline.fusion.settings import FusionSettings
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.stage import synthesize
from pipeline.tokens.waveform_tokenizer import save_bundle
from pipeline.vocoder.network import build_vocoder
from pipeline.vocoder.saved import write_vocoder
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.spec import vocoder_spec

RATE, HOP = 16_000, 320
SIZES = {"convnext_dim": 16, "convnext_hidden": 24, "convnext_blocks": 2}


def shipped_books(layers=LAYERS):
    return read_codebooks(NAME, layers, 100)


def write_tokenizer(folder, books):
    settings = {"dtype": "float32", "normalize_waveform": False, "batch_seconds": 80.0}
    settings |= {"window_seconds": 20.0, "window_margin_seconds": 2.0}
    save_bundle(str(folder), encoder_files=partial(encoder_files, NAME), codebooks=books, settings=settings)


def write_loud_vocoder(folder, books, *, speakers=(), hop=HOP, voices=None, speaker_encoder=None, **settings):
    """Write a vocoder of random weights whose every weight matters."""
    lineage = {
        "encoder_sha256": books[0].lineage["encoder_sha256"],
        "codebooks": {book.column: book.sha256 for book in books},
        "num_clusters": {book.column: book.num_clusters for book in books},
        "sample_rate": RATE,
        "hop_length": hop,
    }
    sizes = VocoderSettings(**{**SIZES, **settings})
    who = {"speakers": speakers, "speaker_encoder": speaker_encoder}
    made = vocoder_spec(sizes, FusionSettings(embedding_dim=12), lineage, **who)
    torch.manual_seed(1)
    built = build_vocoder(made)
    with torch.no_grad():
        for weight in built.generator.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape) * (1.5 / weight[0].numel()) ** 0.5)
    write_vocoder(str(folder), made, built.state_dict(), voices=voices)


def spoken_file(folder, source, target, **settings):
    return synthesize(SynthesizeConfig.of(file=str(source), tokenizer=str(folder), output=str(target), **settings))
