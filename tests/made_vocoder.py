"""Vocoders and tokens, made in a test: three layers of different K, two utterances of different length."""

import torch
from made_fusion import lineage as fused_lineage
from made_fusion import make_books

from pipeline.fusion.settings import FusionSettings
from pipeline.vocoder.network import build_vocoder
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.spec import vocoder_spec

HOP = 20
LENGTHS = (23, 14)
SIZES = {
    "hifigan": {"upsample_rates": (5, 4), "upsample_kernels": (11, 8), "upsample_channels": 16},
    "istft": {"convnext_dim": 16, "convnext_hidden": 24, "convnext_blocks": 3, "n_fft": 80},
}
ARCHS = tuple(SIZES)


def lineage(books=None):
    """Give the lineage of a tokens dataset of an encoder with a hop of 20 samples."""
    return {**fused_lineage(books or make_books()), "sample_rate": 1000, "hop_length": HOP}


def spec(arch="istft", *, fusing=None, columns=(), speakers=(), books=None, **others):
    settings = VocoderSettings(arch=arch, **{**SIZES[arch], **others})
    fusing = fusing or FusionSettings(embedding_dim=12)
    return vocoder_spec(settings, fusing, lineage(books), columns=columns, speakers=speakers)


def vocoder(made, seed=0):
    """Build a vocoder whose every weight matters: none begins near 0."""
    torch.manual_seed(seed)
    built = build_vocoder(made)
    with torch.no_grad():
        for name, weight in built.generator.named_parameters():
            if weight.ndim > 1 and not name.endswith("original0"):
                fan = weight[0].numel()
                weight.copy_(torch.randn(weight.shape) * (1.5 / fan) ** 0.5)
            elif name.endswith("original0"):
                weight.fill_(1.2)
            elif name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape) * 0.3)
    return built.eval()


def mask(lengths=LENGTHS):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def tokens(made, lengths=LENGTHS, seed=1):
    """Give int64 (B, T, L), each layer's own tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    sizes = [made.fuser.num_clusters[column] for column in made.columns]
    return torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=-1)
