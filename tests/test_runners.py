"""Every stage gives the same bytes in this process, on Ray with one worker, and on Ray with two."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_corpus import write_corpus
from made_export import tree

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.audio.synthesis.settings import SynthesizeCorpusConfig
from pipeline.audio.synthesis.stage import synthesize_corpus
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.stage import export_tokens
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import describe_codebooks
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

STAGES = {
    BuildManifestConfig: build_manifest,
    DescribeCodebooksConfig: describe_codebooks,
    ExportTokensConfig: export_tokens,
    ExtractFeaturesConfig: extract_features,
    FitKmeansConfig: fit_kmeans,
    SynthesizeCorpusConfig: synthesize_corpus,
    TokenizeCorpusConfig: tokenize_corpus,
}
K = 8


def configs(root, encoder):
    """Give the settings of every stage by name, in the order in which they are made; inputs are what ``here`` made."""
    spoken = find_spec("espeakng_loader") is not None
    vad = find_spec("silero_vad") is not None
    encoded = {"manifest": str(root / "manifest"), "encoder": encoder}
    books = {"codebooks": str(root / "kmeans"), "num_clusters": K}
    found = {
        "synthesis": SynthesizeCorpusConfig.of(output=str(root / "synthesis"), num_utterances=10) if spoken else None,
        "manifest": BuildManifestConfig.of(
            corpus=str(root / ("synthesis" if spoken else "audio")),
            layout="folder",
            output=str(root / "manifest"),
            vad="silero" if vad else None,
            shard_minutes=0.1,
        ),
        "features": ExtractFeaturesConfig.of(output=str(root / "features"), layers=(1, 3), **encoded),
        "sample": ExtractFeaturesConfig.of(output=str(root / "sample"), layers=(1, 3), sample_frames=400, **encoded),
        "kmeans": FitKmeansConfig.of(
            features=(str(root / "features"),), output=str(root / "kmeans"), num_clusters=(K,), num_quantizers=2
        ),
        "kmeans||": FitKmeansConfig.of(
            features=(str(root / "sample"),), output=str(root / "kmeans||"), num_clusters=(K, 12), init="k-means||"
        ),
        "cards": DescribeCodebooksConfig.of(codebooks=str(root / "kmeans"), features=str(root / "features")),
        "tokens": TokenizeCorpusConfig.of(output=str(root / "tokens"), **encoded, **books),
        "tokens of features": TokenizeCorpusConfig.of(
            output=str(root / "tokens of features"), features=str(root / "features"), **books
        ),
        "export": ExportTokensConfig.of(
            tokens=str(root / "tokens"),
            manifest=str(root / "manifest"),
            output=str(root / "export"),
            layers=(3, 1),
            bpe_merges=10,
            order="shuffled",
            shard_ids=2_000,
            formats=("megatron", "parquet"),
        ),
    }
    return {name: config for name, config in found.items() if config is not None}


NAMES = list(configs(Path("names"), "alone"))


@pytest.fixture(scope="module")
def here(tmp_path_factory, small_encoder):
    """Every stage made in this process, and its settings."""
    root = tmp_path_factory.mktemp("here")
    if "synthesis" not in NAMES:
        write_corpus(root / "audio", num_files=10)
    # Group norm: the stem whose features depend on batch neighbours if anything is wrong.
    found = configs(root, small_encoder(kind="hubert", stem="group", stable=False))
    for config in found.values():
        STAGES[type(config)](config.but(runner="here"))
    return found


def written(config):
    """Give what a stage has written for readers; of cards, what depends on no fonts."""
    if isinstance(config, DescribeCodebooksConfig):
        cards = sorted((Path(config.codebooks) / "_cards").iterdir())
        return {card.name: card.read_bytes() for card in cards if card.suffix in (".json", ".md")}
    return tree(Path(config.output))


def elsewhere(config, folder, **changes):
    """Give settings of the same work in another folder, whose last name is the same."""
    if not isinstance(config, DescribeCodebooksConfig):
        return config.but(output=str(folder / Path(config.output).name), **changes)
    copy = folder / "kmeans"
    shutil.copytree(config.codebooks, copy, ignore=shutil.ignore_patterns("_cards"))
    return config.but(codebooks=str(copy), **changes)


@pytest.mark.parametrize("name", NAMES)
def test_ray_with_one_worker_or_two_gives_the_bytes_of_this_process(here, tmp_path, name):
    config = here[name]
    expected = written(config)
    assert len(expected) > 0
    for workers in (1, 2):
        there = elsewhere(config, tmp_path / f"{workers}", runner="ray", num_workers=workers)
        report = STAGES[type(there)](there)
        assert written(there) == expected
        if name == "tokens":
            assert report.load_processes >= 1
            # Of a corpus this small the first worker that is ready may make every unit.
            assert 1 <= report.make_processes <= workers
            assert report.workers.startswith(f"{workers} encoder actor")
