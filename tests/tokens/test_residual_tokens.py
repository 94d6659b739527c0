"""Tokens of residual stages: from audio, from features and by the tokenizer, against plain numpy."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import write_corpus
from made_features import make_codebook, write_codebooks

from pipeline import cli
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import PipelineError, SettingsError, TooManyRejectsError
from pipeline.estimation.stage import estimate
from pipeline.features.encoders.info import describe, encoder_files
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.residual import reduce_by
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.store.verification import VerifyDatasetConfig, inspect, verify_dataset
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.tokens.waveform_tokenizer import save_bundle

K, LAYERS = 6, (1, 3)
COLUMNS = ["layer_01", "layer_01_q1", "layer_01_q2", "layer_03"]


def features_of(folder):
    """Give the features of each utterance by layer, float16 (T, D)."""
    rows = pq.read_table(folder).to_pylist()
    return {
        row["utterance_id"]: {
            layer: np.frombuffer(row[f"layer_{layer:02d}"], "<f2").reshape(row["num_frames"], -1) for layer in LAYERS
        }
        for row in rows
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_encoder):
    """A corpus, its features, and codebooks: three stages of layer 1 and one of layer 3, and two K of layer 3."""
    root = tmp_path_factory.mktemp("residual")
    write_corpus(root / "corpus", num_files=8)
    encoder = small_encoder(stem="group", stable=False)
    build_manifest(
        BuildManifestConfig.of(
            corpus=str(root / "corpus"), layout="folder", output=str(root / "manifest"), shard_minutes=0.2
        )
    )
    extract_features(
        ExtractFeaturesConfig.of(
            manifest=str(root / "manifest"), output=str(root / "features"), encoder=encoder, layers=LAYERS
        )
    )
    found = features_of(root / "features").values()
    frames = {layer: np.concatenate([one[layer] for one in found]) for layer in LAYERS}
    sha256, chain = describe(encoder, layers=LAYERS).weights_sha256, []
    for _ in range(3):
        chain.append(make_codebook(1, reduce_by(chain, frames[1])[: 50 * K : 50], encoder=sha256, prior=chain))
    upper = [make_codebook(3, frames[3][: 40 * size : 40], encoder=sha256) for size in (K, 4)]
    write_codebooks(root / "codebooks", [*upper, *chain])
    tokenize_corpus(config(root, encoder, root / "tokens"))
    return root, encoder


def config(root, encoder, output, **changes):
    settings = {"manifest": str(root / "manifest"), "encoder": encoder, "num_clusters": K, **changes}
    return TokenizeCorpusConfig.of(codebooks=str(root / "codebooks"), output=str(output), **settings)


def tokens_of(folder):
    return {row["utterance_id"]: row for row in pq.read_table(folder).to_pylist()}


def test_each_stage_has_a_column_and_its_tokens_are_those_of_plain_numpy(made):
    root, _ = made
    tokens, books = tokens_of(root / "tokens"), read_codebooks(str(root / "codebooks"), num_clusters=K)
    assert list(next(iter(tokens.values()))) == ["utterance_id", "num_frames", *COLUMNS]
    for name, features in features_of(root / "features").items():
        left = dict(features)
        for book in books:
            cell = left[book.layer].astype(np.float64)
            nearest = ((cell[:, None] - book.centroids[None]) ** 2).sum(axis=2).argmin(axis=1)
            assert tokens[name][book.column] == nearest.tolist()
            left[book.layer] = (cell - book.centroids[nearest]).astype(np.float16)


def test_tokens_from_features_equal_tokens_from_audio(made, tmp_path):
    root, encoder = made
    from_features = config(root, "", tmp_path / "tokens", manifest=None, features=str(root / "features"))
    tokenize_corpus(from_features)
    assert tokens_of(tmp_path / "tokens") == tokens_of(root / "tokens")


def test_the_tokenizer_folder_gives_the_tokens_of_the_job(made, tmp_path):
    root, encoder = made
    settings = {"dtype": "float32", "normalize_waveform": False, "batch_seconds": 8.0}
    settings |= {"window_seconds": 30.0, "window_margin_seconds": 2.0}
    books = read_codebooks(str(root / "codebooks"), num_clusters=K)
    save_bundle(str(tmp_path), encoder_files=lambda: encoder_files(encoder), codebooks=books[::-1], settings=settings)
    tokenizer = Tokenizer.from_pretrained(str(tmp_path))
    assert tokenizer.layers == LAYERS
    assert (tokenizer.num_clusters, tokenizer.num_quantizers) == ({1: K, 3: K}, {1: 3, 3: 1})
    expected = tokens_of(root / "tokens")
    waveform, rate = soundfile.read(root / "corpus" / "003.wav", dtype="float32")
    found = tokenizer.encode(waveform, rate)
    assert (found[1].shape[1], found[3].ndim) == (3, 1)
    row = next(row for name, row in expected.items() if name.startswith("003"))
    assert [row[name] for name in COLUMNS] == [*found[1].T.tolist(), found[3].tolist()]


def test_a_tokenizer_takes_floats_of_any_width_and_either_byte_order(made, tmp_path):
    """At 5237d84 what ``soundfile.read`` gives, float64, was a TypeError."""
    root, encoder = made
    settings = {"dtype": "float32", "normalize_waveform": False, "batch_seconds": 8.0}
    settings |= {"window_seconds": 30.0, "window_margin_seconds": 2.0}
    books = read_codebooks(str(root / "codebooks"), num_clusters=K)
    save_bundle(str(tmp_path), encoder_files=lambda: encoder_files(encoder), codebooks=books, settings=settings)
    tokenizer = Tokenizer.from_pretrained(str(tmp_path))
    waveform, rate = soundfile.read(root / "corpus" / "003.wav")
    assert waveform.dtype == np.float64
    expected = tokenizer.encode(waveform.astype(np.float32), rate)
    integers = (waveform * 32768).astype(np.int16)
    given = (waveform, waveform.astype(">f8"), waveform.astype(np.longdouble), integers, integers.astype(">i2"))
    for samples in given:
        kept = samples.copy()
        found = tokenizer.encode(samples, rate)
        assert all(np.array_equal(found[layer], expected[layer]) for layer in LAYERS)
        assert np.array_equal(samples, kept)
    half = tokenizer.encode(waveform.astype(np.float16), rate)
    assert half[1].shape == expected[1].shape
    for wrong in (integers.astype(np.int32), waveform.astype(complex), waveform > 0):
        with pytest.raises(TypeError, match="int16 or float"):
            tokenizer.encode(wrong, rate)
    for wrong in (np.full(16_000, 1e300), np.full(16_000, np.nan)):
        with pytest.raises(ValueError, match="not finite"):
            tokenizer.encode(wrong, rate)


def test_several_k_need_a_choice(made, tmp_path):
    root, encoder = made
    with pytest.raises(SettingsError, match="K = 4, 6 for layer 3; choose one with --num-clusters"):
        tokenize_corpus(config(root, encoder, tmp_path / "tokens", num_clusters=None))
    flags = ["--manifest", str(root / "manifest"), "--encoder", encoder, "--codebooks", str(root / "codebooks")]
    flags += ["--num-clusters", "4", "--output", str(tmp_path / "small")]
    cli.run(tokenize_corpus, description="tokens", args=flags)
    assert pq.read_table(tmp_path / "small").column_names == ["utterance_id", "num_frames", "layer_03"]
    assert Dataset.open(str(tmp_path / "small")).plan.lineage["num_clusters"] == {"layer_03": 4}


def test_lineage_agreement_and_estimate_count_every_stage(made, tmp_path):
    root, encoder = made
    lineage = Dataset.open(str(root / "tokens")).plan.lineage
    assert lineage["layers"] == list(LAYERS)
    assert lineage["num_clusters"] == dict.fromkeys(COLUMNS, K)
    books = read_codebooks(str(root / "codebooks"), num_clusters=K)
    assert lineage["codebooks"] == {book.column: book.sha256 for book in books}
    predicted = estimate(config(root, encoder, tmp_path / "tokens"))
    done = tokenize_corpus(config(root, encoder, tmp_path / "tokens", agreement_frames=50, agreement_share=1))
    assert sorted(done.agreement) == COLUMNS
    assert all(found["equal"] > 0.99 for found in done.agreement.values())
    assert predicted.corpus.num_tokens == len(COLUMNS) * done.num_frames
    assert predicted.corpus.tokens_bytes == pytest.approx(done.num_bytes, rel=0.3)


def test_an_utterance_whose_residual_does_not_fit_is_rejected_from_audio_and_named_from_features(made, tmp_path):
    root, encoder = made
    book = read_codebooks(str(root / "codebooks"), (3,), K)[0]
    far = make_codebook(3, np.full((2, book.dim), 7e4), encoder=book.encoder)
    books = [far, make_codebook(3, np.zeros((2, book.dim)), encoder=book.encoder, prior=[far])]
    write_codebooks(tmp_path / "books", books)
    changes = {"codebooks": str(tmp_path / "books"), "max_reject_fraction": 1.0, "num_clusters": None}
    with pytest.raises(TooManyRejectsError, match="feature_overflow 8"):
        tokenize_corpus(config(root, encoder, tmp_path / "audio").but(**changes))
    rejects = pq.read_table(tmp_path / "audio" / "_rejects").to_pylist()
    assert {reject["reason"] for reject in rejects} == {"feature_overflow"}
    assert all(reject["detail"].startswith("layer 3, stage 0: row 0") for reject in rejects)
    from_features = config(root, "", tmp_path / "features", manifest=None, features=str(root / "features"))
    with pytest.raises(PipelineError, match=r"\w+: layer 3, stage 0: row 0 .* tokenise from --manifest"):
        tokenize_corpus(from_features.but(**changes))


def test_verification_looks_at_the_tokens_of_every_stage(made, tmp_path):
    root, _ = made
    for name in ("codebooks", "tokens"):
        assert verify_dataset(VerifyDatasetConfig(dataset=str(root / name))).faults == []
    plan = Dataset.open(str(root / "tokens")).plan
    table = pq.read_table(root / "tokens").slice(0, 2)
    top = max(max(ids) for ids in table["layer_01_q2"].to_pylist())
    lineage = {**plan.lineage, "num_clusters": {**plan.lineage["num_clusters"], "layer_01_q2": top}}
    small = Plan(kind="tokens", content=plan.content, lineage=lineage, units=plan.units[:1])
    dataset = Dataset.create(str(tmp_path / "small"), small)
    frames = sum(table["num_frames"].to_pylist())
    output = Output(data=parquet_bytes(table.replace_schema_metadata(None), lineage), rows=2, num_frames=frames)
    dataset.commit(small.units[0], dataset.announce(small.units[0]), output, {})
    finish(dataset)
    faults = inspect(dataset).faults
    assert len(faults) == 1
    assert f"layer_01_q2 holds token {top}, its codebook is smaller" in faults[0]
