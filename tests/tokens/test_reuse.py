"""Tokens of a manifest whose features are there already: the dataset that encoding gives, and no recording is heard."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import write_corpus
from made_features import make_codebook, write_codebooks

from pipeline import faults
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import CorruptDatasetError, SettingsError, TooManyRejectsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

LAYERS = (1, 3)
KEPT = ("_plan.json", "_numerics.json", "_shards.parquet", "_SUCCESS")


def extract(root, encoder, output, **changes):
    settings = {"manifest": str(root / "manifest"), "layers": LAYERS, "max_reject_fraction": 0.5, **changes}
    extract_features(ExtractFeaturesConfig.of(output=str(output), encoder=encoder, **settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_encoder):
    """A corpus of which two utterances are rejected, its features, codebooks, and tokens from audio."""
    root = tmp_path_factory.mktemp("reuse")
    corpus = write_corpus(root / "corpus", num_files=12)
    soundfile.write(corpus / "short.wav", np.zeros(300), 16_000)
    bad = np.zeros(9_000, np.float32)
    bad[4_000] = np.nan
    soundfile.write(corpus / "nan.wav", bad, 16_000, subtype="FLOAT")
    encoder = small_encoder(stem="group", stable=False)
    build_manifest(
        BuildManifestConfig.of(corpus=str(corpus), layout="folder", output=str(root / "manifest"), shard_minutes=0.1)
    )
    extract(root, encoder, root / "features")
    sha256 = Dataset.open(str(root / "features")).plan.lineage["encoder_sha256"]
    rng = np.random.default_rng(0)
    books = [make_codebook(layer, rng.standard_normal((6, 48)), encoder=sha256) for layer in LAYERS]
    write_codebooks(root / "codebooks", books)
    tokenize_corpus(config(root, encoder, root / "tokens"))
    return root, encoder


def config(root, encoder, output, **changes):
    settings = {"manifest": str(root / "manifest"), "encoder": encoder, "max_reject_fraction": 0.5, **changes}
    return TokenizeCorpusConfig.of(codebooks=str(root / "codebooks"), output=str(output), **settings)


def files_of(folder):
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    shown = {name for name in found if not name.startswith("_") or name in KEPT or name.startswith("_rejects/")}
    return {name: found[name].read_bytes() for name in shown}


def test_every_byte_is_that_of_tokens_from_audio_rejects_included(made, tmp_path):
    root, encoder = made
    report = tokenize_corpus(config(root, encoder, tmp_path / "tokens", features=str(root / "features")))
    expected = files_of(root / "tokens")
    assert files_of(tmp_path / "tokens") == expected
    assert sum(name.startswith("_rejects/") for name in expected) >= 1
    reasons = {reject["reason"] for reject in pq.read_table(root / "tokens" / "_rejects").to_pylist()}
    assert reasons == {"too_short", "not_finite"}
    assert (report.rows, report.rejects) == (12, 2)
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "tokens"))).faults == []


def test_agreement_is_measured_on_the_same_utterances_and_no_other_is_decoded(made, tmp_path, monkeypatch):
    root, encoder = made
    found, decoded = [], []
    for name, features in (("audio", None), ("features", str(root / "features"))):
        fault = {"point": "decode", "action": "log", "path": str(tmp_path / name)}
        monkeypatch.setenv(faults.VARIABLE, json.dumps([fault]))
        output = tmp_path / f"{name} tokens"
        report = tokenize_corpus(config(root, encoder, output, features=features, agreement_share=0.4))
        found.append(report.agreement)
        decoded.append(len((tmp_path / name).read_text().splitlines()))
    assert found[0] == found[1]
    assert set(found[1]) == {"layer_01", "layer_03"}
    assert all(each["equal"] == 1 for each in found[1].values())
    assert 0 < decoded[1] == found[1]["layer_01"]["utterances"] < decoded[0]


def test_an_utterance_whose_residual_does_not_fit_is_rejected_as_from_audio(made, tmp_path):
    """Two of the codebooks' first tokens are so far away that float16 does not hold what they leave."""
    root, encoder = made
    sha256 = Dataset.open(str(root / "features")).plan.lineage["encoder_sha256"]
    far = make_codebook(3, np.full((2, 48), 7e4), encoder=sha256)
    books = [far, make_codebook(3, np.zeros((2, 48)), encoder=sha256, prior=[far])]
    write_codebooks(tmp_path / "books", books)
    rejects = []
    for name, features in (("audio", None), ("features", str(root / "features"))):
        given = config(root, encoder, tmp_path / name, features=features).but(
            codebooks=str(tmp_path / "books"), max_reject_fraction=1.0
        )
        with pytest.raises(TooManyRejectsError, match="feature_overflow 12"):
            tokenize_corpus(given)
        rejects.append(pq.read_table(tmp_path / name / "_rejects").to_pylist())
    assert rejects[0] == rejects[1]
    assert len(rejects[1]) == 14


def test_a_run_that_keeps_every_frame_encodes_the_corpus_once(made, tmp_path, monkeypatch):
    """As of a small corpus, which has fewer frames than its codebooks could use."""
    root, encoder = made
    fault = {"point": "encode", "action": "log", "path": str(tmp_path / "encoded")}
    monkeypatch.setenv(faults.VARIABLE, json.dumps([fault]))
    settings = {"corpus": str(root / "corpus"), "layout": "folder", "encoder": encoder, "layers": LAYERS}
    settings |= {"num_clusters": 4, "shard_minutes": 0.1, "max_reject_fraction": 0.5, "agreement_frames": 0}
    run_pipeline(RunPipelineConfig.of(output=str(tmp_path / "run"), **settings))
    assert len((tmp_path / "encoded").read_text().splitlines()) == 13
    run_pipeline(RunPipelineConfig.of(output=str(tmp_path / "few"), **settings, frames_per_cluster=20))
    assert len((tmp_path / "encoded").read_text().splitlines()) == 13 + 26


def test_features_that_encoding_would_not_give_are_refused_before_anything_is_done(made, tmp_path):
    root, encoder = made
    extract(root, encoder, tmp_path / "sample", sample_fraction=0.5)
    extract(root, encoder, tmp_path / "one", layers=(3,))
    for name, changes, said in (
        ("sample", {}, "a sample of the frames"),
        ("one", {}, r"lacks the layers \[1\]"),
        ("features", {"batch_seconds": 3.0}, "batch_seconds: 8.0 there, 3.0 here"),
    ):
        folder = root / name if name == "features" else tmp_path / name
        with pytest.raises(SettingsError, match=said):
            tokenize_corpus(config(root, encoder, tmp_path / "tokens", features=str(folder), **changes))
    assert not (tmp_path / "tokens").exists()


def test_rejects_that_have_changed_are_refused_by_name(made, tmp_path):
    root, encoder = made
    shutil.copytree(root / "features", tmp_path / "features")
    damage = (
        ("is not what was committed", lambda path: path.write_bytes(path.read_bytes() + b"x")),
        ("is gone", lambda path: path.unlink()),
    )
    for said, change in damage:
        for path in (tmp_path / "features" / "_rejects").iterdir():
            change(path)
        with pytest.raises(CorruptDatasetError, match=rf"_rejects/shard-\d+.parquet {said}"):
            tokenize_corpus(config(root, encoder, tmp_path / said, features=str(tmp_path / "features")))


def test_features_of_more_layers_than_are_tokenised_serve_too(made, tmp_path):
    root, encoder = made
    for name, features in (("audio", None), ("features", str(root / "features"))):
        tokenize_corpus(config(root, encoder, tmp_path / name, features=features, layers=(1,)))
    assert files_of(tmp_path / "features") == files_of(tmp_path / "audio")
