"""Fusers and what they are given, made in a test: three layers of different K, two utterances of different length."""

import itertools

import numpy as np
import torch
from made_features import ENCODER, make_codebook, write_codebooks

from pipeline.fusion.fuser import build_fuser
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import feature_spec, token_spec

LAYERS = (1, 3, 6)
COLUMNS = ("layer_01", "layer_03", "layer_06")
SIZES = (5, 7, 4)
DIM = 8
LENGTHS = (6, 4)
FUSIONS = ("attention", "single", "mean", "weighted", "concat")
INITS = tuple(itertools.product(("random", "centroids"), (False, True)))


def lineage(books):
    """Give the lineage of a tokens dataset made with codebooks."""
    return {
        "encoder_sha256": ENCODER,
        "dim": books[0].dim,
        "num_clusters": {book.column: book.num_clusters for book in books},
        "codebooks": {book.column: book.sha256 for book in books},
    }


def make_books(seed=0, sizes=SIZES, layers=LAYERS):
    rng = np.random.default_rng(seed)
    return [make_codebook(layer, rng.standard_normal((size, DIM))) for layer, size in zip(layers, sizes, strict=True)]


def settings(fusion="attention", **others):
    layer = {"fusion_layer": "layer_03"} if fusion == "single" else {}
    return FusionSettings(fusion=fusion, **{**layer, **others})


def tokens_spec(folder, fusion="attention", *, books=None, columns=(), **others):
    """Give the spec of a fuser of tokens, and write their codebooks into a folder."""
    books = make_books() if books is None else books
    where = folder / books[0].sha256[:8]
    if not where.exists():
        write_codebooks(where, books)
    return token_spec(settings(fusion, **others), lineage(books), columns=columns, codebooks=str(where))


def features_spec(fusion="attention", **others):
    made = {"encoder_sha256": ENCODER, "dim": DIM, "layers": list(LAYERS)}
    return feature_spec(settings(fusion, **others), made)


def fuser(spec, seed=0):
    """Build a fuser, with learned weights that are not equal where they would begin so."""
    torch.manual_seed(seed)
    made = build_fuser(spec)
    if spec.settings.fusion == "weighted" and not spec.settings.freeze_fuser:
        with torch.no_grad():
            made.fusion.scores.copy_(torch.tensor([0.3, -0.2, 0.5])[: len(spec.columns)])
    return made


def mask():
    return torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def values(spec, seed=1):
    """Give a batch of two utterances, of tokens or of features as they are stored."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    if spec.kind == "features":
        return torch.randn(*shape, len(LAYERS), DIM, generator=generator).half()
    sizes = [spec.num_clusters[column] for column in spec.columns]
    return torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=-1)
