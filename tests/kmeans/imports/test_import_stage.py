"""The job import_codebooks: settings, refusals before anything is written, lineage, and tokens through it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from sklearn.cluster import KMeans, MiniBatchKMeans

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import (
    CodebookMismatchError,
    EncoderError,
    ForeignCodebookError,
    PipelineError,
    PlanMismatchError,
    SettingsError,
)
from pipeline.faults import VARIABLE
from pipeline.features.encoders.info import describe
from pipeline.features.passes.extractor import FeatureExtractor
from pipeline.features.passes.settings import encoding_lineage
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.kmeans.imports.stage import ImportCodebooksConfig, import_codebooks
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.store.completion import finish, status
from pipeline.store.dataset import Dataset, Plan, sha256
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import prepare, tokenize_corpus

ROOT = Path(__file__).parents[3]
LAYERS, NUM_CLUSTERS = (1, 3), 6


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder()


@pytest.fixture(scope="module")
def waveforms():
    random = np.random.default_rng(3)
    return [random.normal(scale=0.1, size=16_000 * seconds).astype(np.float32) for seconds in (2, 3, 4)]


@pytest.fixture(scope="module")
def models(encoder, waveforms):
    """Fit scikit-learn on our features, layer by layer, and give the models and the features of each waveform."""
    features = FeatureExtractor(encoder=encoder, layers=list(LAYERS)).extract(waveforms)
    kinds = dict(zip(LAYERS, (KMeans, MiniBatchKMeans), strict=True))
    fitted = {}
    for layer, kind in kinds.items():
        rows = np.concatenate([found[layer] for found in features]).astype(np.float32)
        fitted[layer] = kind(NUM_CLUSTERS, n_init=1, random_state=0).fit(rows)
    return fitted, features


@pytest.fixture
def config(encoder, models, tmp_path):
    files = tuple(str(tmp_path / f"km_l{layer}.bin") for layer in LAYERS)
    for layer, file in zip(LAYERS, files, strict=True):
        joblib.dump(models[0][layer], file)
    return {"files": files, "layers": LAYERS, "encoder": encoder, "output": str(tmp_path / "codebooks")}


def run(config, **changes):
    return import_codebooks(ImportCodebooksConfig(**{**config, **changes}))


def test_a_waveform_gets_the_tokens_that_predict_gives_for_its_features(config, encoder, models, waveforms):
    run(config)
    extractor = FeatureExtractor(encoder=encoder, layers=list(LAYERS))
    tokenizer = Tokenizer(extractor, read_codebooks(config["output"]))
    fitted, features = models
    for waveform, found in zip(waveforms, features, strict=True):
        tokens = tokenizer.encode(waveform, sample_rate=16_000)
        for layer in LAYERS:
            theirs = fitted[layer].predict(found[layer].astype(np.float32))
            np.testing.assert_array_equal(tokens[layer], theirs)


def test_a_corpus_gets_the_tokens_that_predict_gives_for_its_features(config, encoder, models, waveforms, tmp_path):
    run(config)
    (tmp_path / "audio").mkdir()
    for number, waveform in enumerate(waveforms):
        soundfile.write(tmp_path / "audio" / f"{number}.wav", waveform, 16_000, subtype="FLOAT")
    manifest, output = str(tmp_path / "manifest"), str(tmp_path / "tokens")
    build_manifest(BuildManifestConfig.of(corpus=str(tmp_path / "audio"), layout="folder", output=manifest))
    settings = {"encoder": encoder, "codebooks": config["output"], "num_workers": 1}
    tokenize_corpus(TokenizeCorpusConfig.of(manifest=manifest, output=output, **settings))
    rows = sorted(pq.read_table(output).to_pylist(), key=lambda row: row["utterance_id"])
    fitted, features = models
    for row, found in zip(rows, features, strict=True):
        for layer in LAYERS:
            theirs = fitted[layer].predict(found[layer].astype(np.float32))
            np.testing.assert_array_equal(row[f"layer_{layer:02d}"], theirs)


def test_the_dataset_is_whole_and_says_where_its_codebooks_come_from(config, models):
    report = run(config)
    assert (report.stage, report.rows, report.units, report.units_done_now) == ("codebooks", 2 * NUM_CLUSTERS, 2, 2)
    assert verify_dataset(VerifyDatasetConfig(dataset=config["output"])).faults == []
    assert status(Dataset.open(config["output"], kind="codebooks")).finished
    first, second = read_codebooks(config["output"])
    assert (first.layer, second.layer) == LAYERS
    data = Path(config["files"][1]).read_bytes()
    assert second.lineage["source"] == {
        "file": "km_l3.bin",
        "sha256": sha256(data),
        "format": "joblib",
        "class": "MiniBatchKMeans",
        "dtype": "float32",
    }
    np.testing.assert_array_equal(second.counts, models[0][3]._counts)
    assert second.inertia.tolist() == [models[0][3].inertia_]


def test_the_encoder_is_named_as_fit_kmeans_names_it(config, encoder):
    run(config)
    asked = ExtractFeaturesConfig.of(encoder=encoder, layers=LAYERS, manifest="m", output="o").encoding
    features = encoding_lineage(asked, describe(encoder), "")
    lineage = read_codebooks(config["output"])[0].lineage
    for key in ("encoder", "encoder_sha256", "dim", "sample_rate", "hop_length", "frame_rate"):
        assert lineage[key] == features[key]


def features_dataset(folder, encoder):
    """Make a finished features dataset without shards: enough for tokenize_corpus to compare lineage with."""
    asked = ExtractFeaturesConfig.of(encoder=encoder, layers=LAYERS, manifest="m", output="o").encoding
    lineage = {**encoding_lineage(asked, describe(encoder), ""), "sample_fraction": 1}
    finish(Dataset.create(str(folder), Plan(kind="features", content={}, lineage=lineage, units=[])))
    return str(folder)


def test_tokenize_corpus_takes_the_result_for_this_encoder_and_no_other(config, encoder, small_encoder, tmp_path):
    run(config)
    settings = {"codebooks": config["output"], "output": str(tmp_path / "tokens")}
    features = features_dataset(tmp_path / "features", encoder)
    plan = prepare(TokenizeCorpusConfig.of(features=features, **settings)).plan
    assert plan.lineage["num_clusters"] == {"layer_01": NUM_CLUSTERS, "layer_03": NUM_CLUSTERS}
    others = features_dataset(tmp_path / "others", small_encoder(seed=1))
    with pytest.raises(CodebookMismatchError, match="fitted on encoder"):
        prepare(TokenizeCorpusConfig.of(features=others, **settings))


def test_codebooks_that_say_how_waveforms_were_normalised_refuse_other_features(config, encoder, tmp_path):
    assert "normalize_waveform" not in read_codebooks(run(config).output)[0].lineage
    features = features_dataset(tmp_path / "features", encoder)
    said = describe(encoder).normalize_waveform
    for number, normalize in enumerate((said, not said)):
        books = run(config, output=str(tmp_path / f"books-{number}"), normalize_waveform=normalize).output
        asked = TokenizeCorpusConfig.of(codebooks=books, features=features, output=str(tmp_path / f"tokens-{number}"))
        if normalize == said:
            prepare(asked)
        else:
            with pytest.raises(CodebookMismatchError, match="normalize-waveform, which was not so here"):
                prepare(asked)
    with pytest.raises(PlanMismatchError, match="normalize_waveform"):
        run(config, normalize_waveform=said)


def test_layers_go_with_their_files_in_any_order(config, tmp_path):
    first = run(config)
    turned = run(config, files=config["files"][::-1], layers=LAYERS[::-1], output=str(tmp_path / "turned"))
    assert turned.dataset_sha256 == first.dataset_sha256


def test_run_again_it_writes_nothing_and_other_files_are_refused(config, models):
    first = run(config)
    again = run(config)
    assert (again.units_done_now, again.dataset_sha256) == (0, first.dataset_sha256)
    joblib.dump(models[0][1], config["files"][1])
    with pytest.raises(PlanMismatchError, match="files: folder has"):
        run(config)


@pytest.mark.parametrize("layer", ["layer_01", "layer_03"])
@pytest.mark.parametrize(
    "instant",
    ["after_announce_before_data", "after_data_before_commit", "after_commit_before_publish", "after_publish"],
)
def test_stopped_at_any_instant_and_run_again_it_gives_the_same_bytes(config, tmp_path, monkeypatch, instant, layer):
    whole = run(config, output=str(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, json.dumps([{"point": instant, "match": layer, "action": "error"}]))
        with pytest.raises(OSError, match="fault injected"):
            run(config)
    assert run(config).dataset_sha256 == whole.dataset_sha256
    assert verify_dataset(VerifyDatasetConfig(dataset=config["output"])).faults == []


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"layers": (1, 1)}, SettingsError, "distinct"),
        ({"layers": (1, -3)}, SettingsError, "distinct numbers from 0"),
        ({"layers": (1,)}, SettingsError, "2 file.s. and 1 layer"),
        ({"files": (), "layers": ()}, SettingsError, "each file needs its layer"),
        ({"layers": (1, 9)}, EncoderError, "layers 0 to 4"),
        ({"encoder": "mfcc", "layers": (0, 1)}, EncoderError, "layers 0 to 0"),
        ({"encoder": "nowhere/at-all/here"}, PipelineError, "nowhere"),
        ({"files": ("km.bin", "gone/km.bin")}, ForeignCodebookError, "cannot be read"),
        ({"files": (".", ".")}, ForeignCodebookError, "cannot be read"),
        ({"files": ("http://x/km.bin", "km.bin")}, SettingsError, "local path or s3://"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(config, changes, error, said):
    with pytest.raises(error, match=said):
        run(config, **changes)
    assert not Path(config["output"]).exists()


@pytest.mark.parametrize(
    ("centroids", "error", "said"),
    [
        (np.zeros((6, 47), np.float32), CodebookMismatchError, "width 47, features of .* have 48"),
        (np.zeros((48, 6), np.float32), CodebookMismatchError, "width 6"),
        (np.zeros((1, 48), np.float32), ForeignCodebookError, "1 centroids"),
        (np.full((6, 48), np.nan), ForeignCodebookError, "not finite"),
    ],
)
def test_centroids_that_do_not_fit_are_refused_before_anything_is_written(config, tmp_path, centroids, error, said):
    np.save(tmp_path / "bad.npy", centroids)
    with pytest.raises(error, match=said):
        run(config, files=(config["files"][0], str(tmp_path / "bad.npy")))
    assert not Path(config["output"]).exists()


def test_a_folder_that_holds_the_codebooks_of_fit_kmeans_is_refused(config):
    Dataset.create(config["output"], Plan(kind="codebooks", content={"seed": 0}, lineage={}, units=["layer_01_k6"]))
    with pytest.raises(PlanMismatchError, match="import_version"):
        run(config)


def test_too_large_a_file_is_refused(config, monkeypatch):
    monkeypatch.setattr("pipeline.kmeans.imports.stage.MAX_FILE_BYTES", 100)
    with pytest.raises(ForeignCodebookError, match="more than 100 bytes"):
        run(config)


def test_files_and_codebooks_may_lie_on_s3(config, bucket):
    local = run(config)
    store = open_store(f"{bucket}/theirs")
    for name in ("km_l1.bin", "km_l3.bin"):
        store.write(name, (Path(config["files"][0]).parent / name).read_bytes())
    files = tuple(f"{bucket}/theirs/km_l{layer}.bin" for layer in LAYERS)
    remote = run(config, files=files, output=f"{bucket}/codebooks")
    assert remote.dataset_sha256 == local.dataset_sha256
    with pytest.raises(PipelineError, match=r"theirs/gone\.bin"):
        run(config, files=(files[0], f"{bucket}/theirs/gone.bin"), output=f"{bucket}/more")


def test_the_job_needs_no_ray_refuses_a_hostile_file_in_one_sentence_and_survives_sigkill(config, tmp_path):
    def job(*files, **fault):
        command = [sys.executable, str(ROOT / "jobs" / "import_codebooks.py"), "--files", *files]
        command += ["--layers", "1", "3", "--encoder", config["encoder"], "--output", config["output"]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:1"}
        environment[VARIABLE] = json.dumps([fault] if fault else [])
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    (tmp_path / "bad.bin").write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    done = job(config["files"][0], str(tmp_path / "bad.bin"))
    assert done.returncode == 1
    assert "it asks for os.system" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(config["output"]).exists()
    killed = job(*config["files"], point="after_commit_before_publish", match="layer_01", action="kill")
    assert killed.returncode == -9
    done = job(*config["files"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 2 * NUM_CLUSTERS
