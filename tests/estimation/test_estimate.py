"""What is predicted before a run, against what the run then gives."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_corpus import write_corpus

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import DatasetError, SettingsError
from pipeline.estimation.sizing import SizingWishes
from pipeline.estimation.stage import estimate
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.run import RunPipelineConfig
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_encoder):
    root = tmp_path_factory.mktemp("estimated")
    write_corpus(root / "corpus", num_files=40)
    build_manifest(
        BuildManifestConfig.of(
            corpus=str(root / "corpus"), layout="folder", output=str(root / "manifest"), shard_minutes=0.5
        )
    )
    return root, small_encoder(stem="group", stable=False)


def features_config(made, **changes):
    root, encoder = made
    settings = {"manifest": str(root / "manifest"), "output": str(root / "features"), "encoder": encoder}
    return ExtractFeaturesConfig.of(**{**settings, "layers": (1, 3), **changes})


def test_the_counts_of_an_estimate_are_those_of_the_run(made):
    root, encoder = made
    predicted = estimate(features_config(made))
    assert sorted(path.name for path in Path(root / "features").iterdir()) == ["_estimate.json"]
    report = extract_features(features_config(made))
    size = predicted.corpus
    assert (size.utterances, size.left_out, size.shards) == (report.rows, 0, report.units)
    assert size.num_frames == report.num_frames
    assert size.num_tokens == 2 * report.num_frames
    assert size.audio_hours == pytest.approx(report.audio_hours, rel=1e-6)
    assert size.padding[8.0] == pytest.approx(report.padding, abs=1e-9)
    cells = pq.read_table(root / "features").select(["layer_01", "layer_03"])
    assert size.features_bytes == sum(len(cell) for column in cells.columns for cell in column.to_pylist())
    assert report.compute is not None
    assert size.gflop == pytest.approx(report.compute.gflop, rel=0.02)
    assert predicted.speeds[8.0] > 0
    assert 0 < predicted.share_of_peak < 1
    assert report.predicted_seconds == pytest.approx(predicted.wall_seconds)
    assert ("predicted") in dict(report.lines())

    fit_kmeans(
        FitKmeansConfig.of(features=(str(root / "features"),), output=str(root / "codebooks"), num_clusters=(64,))
    )
    tokens = TokenizeCorpusConfig.of(
        manifest=str(root / "manifest"),
        codebooks=str(root / "codebooks"),
        encoder=encoder,
        output=str(root / "tokens"),
    )
    predicted = estimate(tokens)
    report = tokenize_corpus(tokens)
    assert predicted.corpus.num_tokens == 2 * report.num_frames
    assert predicted.corpus.tokens_bytes == pytest.approx(report.num_bytes, rel=0.2)
    json.dumps(predicted.to_json())


@pytest.mark.parametrize("change", [{"sample_frames": 500}, {"sample_frames": 10**6}])
def test_the_bytes_of_a_sample_are_predicted(made, tmp_path, change):
    config = features_config(made, output=str(tmp_path / "sample"), **change)
    predicted = estimate(config)
    report = extract_features(config)
    cells = pq.read_table(tmp_path / "sample").select(["layer_01", "layer_03"])
    assert predicted.corpus.features_frames == report.num_frames
    assert predicted.corpus.features_bytes == sum(len(cell) for column in cells.columns for cell in column.to_pylist())
    assert ("500 frames" in dict(predicted.lines())["features on disk"]) == (change["sample_frames"] == 500)


@pytest.mark.parametrize(("frames_per_cluster", "passes"), [(10, 2), (10**5, 1)])
def test_a_run_that_keeps_every_frame_is_estimated_to_encode_the_corpus_once(
    made, tmp_path, frames_per_cluster, passes
):
    root, encoder = made
    shutil.copytree(root / "manifest", tmp_path / "manifest")
    settings = {"corpus": str(root / "corpus"), "layout": "folder", "encoder": encoder, "layers": (1,)}
    config = RunPipelineConfig.of(
        output=str(tmp_path), num_clusters=8, frames_per_cluster=frames_per_cluster, **settings
    )
    assert estimate(config).passes == passes
    assert (tmp_path / ("features" if passes == 1 else "tokens") / "_estimate.json").exists()


def test_corpora_of_other_sizes_are_sized_up_from_the_sample(made, tmp_path):
    root, _ = made
    wishes = SizingWishes(hours=(1000.0, 1e6), days=30.0, price=2.0)
    found = estimate(features_config(made, output=str(tmp_path / "out")), wishes)
    small, large = found.sizes
    stored = sum(file.stat().st_size for file in (root / "corpus").rglob("*.wav"))
    assert small.stored_bytes == pytest.approx(1000 * stored / found.corpus.audio_hours, rel=0.05)
    assert small.output_bytes == pytest.approx(1000 * found.corpus.features_bytes / found.corpus.audio_hours)
    assert large.worker_hours == pytest.approx(1e6 / found.speeds[8.0])
    assert large.price == pytest.approx(2 * large.worker_hours)
    assert (small.shards, large.shards) == (2000, 2_000_000)
    lines = dict(found.lines())
    assert "first bottleneck: " in lines["for 1,000 h"]
    assert "first bottleneck: " in lines["for 1,000,000 h"]
    (other,) = estimate(
        features_config(made, output=str(tmp_path / "out")), SizingWishes(hours=(10.0,), speed=50.0)
    ).sizes
    assert other.worker_hours == pytest.approx(0.2)
    assert "decoding on these nodes" in small.shares.keys() - other.shares.keys()
    assert json.loads(json.dumps(found.to_json()))["sizes"][1]["bottleneck"] == large.bottleneck


def test_an_estimate_without_a_manifest_says_which_command_makes_it(made, tmp_path):
    with pytest.raises(DatasetError, match="build_manifest --output"):
        estimate(features_config(made, manifest=str(tmp_path / "none")))


def test_an_estimate_of_what_has_none_is_refused(tmp_path):
    common = {"corpus": str(tmp_path), "layout": "folder", "output": str(tmp_path), "layers": (1,), "num_clusters": 8}
    with pytest.raises(DatasetError, match="is none yet"):
        estimate(RunPipelineConfig.of(**common))
    with pytest.raises(SettingsError, match="cost no encoding"):
        estimate(TokenizeCorpusConfig.of(features=str(tmp_path), codebooks=str(tmp_path), output=str(tmp_path / "out")))
