"""The main job end to end in this process: a folder of speech-like audio to tokens, and what must stay equal."""

import dataclasses
import json
import shutil
import threading

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import data_bytes, write_corpus

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import CodebookMismatchError, ManifestError, PlanMismatchError, SettingsError, TooManyRejectsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.status import run_status
from pipeline.store.dataset import Dataset, check_folder
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

NUM_FILES = 14


def settings(corpus, output, encoder, **changes):
    return RunPipelineConfig.of(
        **{
            "corpus": str(corpus),
            "layout": "folder",
            "output": str(output),
            "encoder": str(encoder),
            "layers": (1, 3),
            "num_clusters": 8,
            "max_iterations": 8,
            "shard_minutes": 0.1,
            "all_features": True,
            "num_workers": 2,
            "max_reject_fraction": 0.0,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def encoder(small_encoder):
    # Group norm: the stem whose features depend on batch neighbours if anything is wrong.
    return small_encoder(kind="hubert", stem="group", stable=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "audio")


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus, encoder):
    output = tmp_path_factory.mktemp("run")
    return output, run_pipeline(settings(corpus, output, encoder))


def tokens_of(folder, layers=(1, 3)):
    columns = ["utterance_id", "num_frames", *(f"layer_{layer:02d}" for layer in layers)]
    return {row["utterance_id"]: row for row in pq.read_table(folder, columns=columns).to_pylist()}


def test_every_utterance_becomes_one_row_and_all_datasets_verify(run):
    output, report = run
    assert [stage.rows for stage in report.stages] == [NUM_FILES, NUM_FILES, 16, NUM_FILES]
    assert len(tokens_of(output / "tokens")) == NUM_FILES
    for name in ("manifest", "features", "codebooks", "tokens"):
        assert verify_dataset(VerifyDatasetConfig(dataset=str(output / name))).faults == []
    assert report.cards.cards == 2
    for unit in ("layer_01_k8", "layer_03_k8"):
        assert json.loads((output / "codebooks" / "_cards" / f"{unit}.json").read_bytes())["unit"] == unit


def test_residual_stages_are_columns_of_a_run_too(corpus, tmp_path, encoder):
    report = run_pipeline(settings(corpus, tmp_path, encoder, layers=(3,), num_quantizers=2, all_features=False))
    assert report.cards.cards == 2
    tokens = pq.read_table(tmp_path / "tokens").to_pylist()
    assert all(len(row["layer_03"]) == len(row["layer_03_q1"]) == row["num_frames"] for row in tokens)
    assert len({token for row in tokens for token in row["layer_03_q1"]}) > 1


def test_frames_follow_the_formula_and_tokens_stay_below_k(run):
    output, _ = run
    manifest = Manifest(str(output / "manifest"))
    lengths = {
        row["utterance_id"]: row["num_samples"] * 16000 / row["sample_rate"]
        for unit in manifest.units
        for row in manifest.rows(unit).to_pylist()
    }
    for name, row in tokens_of(output / "tokens").items():
        assert abs(row["num_frames"] - ((lengths[name] - 400) // 320 + 1)) <= 1
        for column in ("layer_01", "layer_03"):
            assert len(row[column]) == row["num_frames"]
            assert max(row[column]) < 8


def test_run_again_it_does_nothing_and_changes_nothing(run, corpus, encoder):
    output, _ = run
    before = {name: data_bytes(output / name) for name in ("manifest", "features", "codebooks", "tokens")}
    again = run_pipeline(settings(corpus, output, encoder))
    assert [stage.units_done_now for stage in again.stages] == [0, 0, 0, 0]
    assert {name: data_bytes(output / name) for name in before} == before


def test_one_worker_gives_the_same_bytes_as_two(run, corpus, encoder, tmp_path):
    output, _ = run
    run_pipeline(settings(corpus, tmp_path / "one", encoder, num_workers=1))
    for name in ("manifest", "features", "codebooks", "tokens"):
        assert data_bytes(tmp_path / "one" / name) == data_bytes(output / name), name


def test_tokens_from_features_equal_tokens_from_audio(run, tmp_path):
    output, _ = run
    config = TokenizeCorpusConfig.of(
        features=str(output / "features"), codebooks=str(output / "codebooks"), output=str(tmp_path / "tokens")
    )
    tokenize_corpus(config)
    assert tokens_of(tmp_path / "tokens") == tokens_of(output / "tokens")


def test_the_tokenizer_folder_gives_the_tokens_of_the_job(run, corpus):
    output, _ = run
    tokenizer = Tokenizer.from_pretrained(str(output / "tokenizer"))
    assert (tokenizer.layers, tokenizer.hop_length, tokenizer.frame_rate) == ((1, 3), 320, 50.0)
    expected = tokens_of(output / "tokens")
    for number in (0, 3):
        waveform, rate = soundfile.read(corpus / f"{number:03d}.wav", dtype="float32")
        kept = waveform.copy()
        found = tokenizer.encode(waveform, rate)
        np.testing.assert_array_equal(waveform, kept)
        row = next(row for name, row in expected.items() if name.startswith(f"{number:03d}"))
        assert found[1].tolist() == row["layer_01"]
        assert found[3].tolist() == row["layer_03"]
        assert found[1].dtype == np.uint16


def test_a_sampled_run_keeps_exactly_the_frames_asked_for_with_their_numbers(run, corpus, encoder, tmp_path):
    output, _ = run
    changes = {"all_features": False, "frames_per_cluster": 40, "num_workers": 1}
    report = run_pipeline(settings(corpus, tmp_path, encoder, **changes)).stages[1]
    assert dict(report.lines())["frames"] == "320 kept of 320 asked for"
    sample = pq.read_table(tmp_path / "features").to_pylist()
    whole = {row["utterance_id"]: row for row in pq.read_table(output / "features").to_pylist()}
    assert sum(row["num_frames"] for row in sample) == 320
    for row in sample:
        full = np.frombuffer(whole[row["utterance_id"]]["layer_03"], "<f2").reshape(-1, 48)
        kept = np.frombuffer(row["layer_03"], "<f2").reshape(-1, 48)
        np.testing.assert_array_equal(kept, full[row["frame_index"]])
    with pytest.raises(SettingsError, match="every frame"):
        tokenize_corpus(
            TokenizeCorpusConfig.of(
                features=str(tmp_path / "features"), codebooks=str(tmp_path / "codebooks"), output=str(tmp_path / "t")
            )
        )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layers": (1, 2)}, "layers"),
        ({"batch_seconds": 5.0}, "batch_seconds"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"max_utterance_seconds": 9.0}, "max_utterance_seconds"),
        ({"threads_per_worker": 2}, "threads_per_worker"),
    ],
)
def test_changed_settings_are_refused_naming_them(run, encoder, change, named):
    output, _ = run
    same = ExtractFeaturesConfig.of(
        manifest=str(output / "manifest"), output=str(output / "features"), encoder=str(encoder), layers=(1, 3)
    )
    with pytest.raises(PlanMismatchError, match=named) as caught:
        extract_features(same.but(**change))
    assert str(caught.value).count("folder has") == 1


@pytest.mark.parametrize("name", ["manifest", "features", "codebooks", "tokens"])
def test_every_field_of_a_content_key_is_refused_when_it_changes_and_named(run, name):
    dataset = Dataset.open(str(run[0] / name))
    assert len(dataset.plan.content) >= 7
    for key in dataset.plan.content:
        changed = dataclasses.replace(dataset.plan, content={**dataset.plan.content, key: "something else"})
        with pytest.raises(PlanMismatchError, match=f"{key}: folder has") as caught:
            check_folder(dataset.store, changed)
        assert str(caught.value).count("folder has") == 1


@pytest.mark.parametrize(("kind", "stem"), [("wavlm", "layer"), ("hubert", "group")])
def test_padded_batches_give_the_tokens_of_each_utterance_alone(corpus, small_encoder, tmp_path, kind, stem):
    encoder = small_encoder(kind=kind, stem=stem, stable=stem == "layer")
    run_pipeline(settings(corpus, tmp_path, encoder, num_clusters=64, batch_seconds=20.0, num_workers=1))
    tokenizer = Tokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    assert tokenizer.pads
    different = total = 0
    for unit in Manifest(str(tmp_path / "manifest")).units:
        for row in Manifest(str(tmp_path / "manifest")).rows(unit).to_pylist():
            waveform, rate = soundfile.read(row["uri"], dtype="float32", always_2d=True)
            alone = tokenizer.encode(waveform.mean(axis=1), rate)
            together = tokens_of(tmp_path / "tokens")[row["utterance_id"]]
            for layer in (1, 3):
                pair = np.array(together[f"layer_{layer:02d}"]), alone[layer]
                different, total = different + int((pair[0] != pair[1]).sum()), total + len(pair[1])
    print(f"{different} of {total} tokens differ between padded batches and each utterance alone")
    assert total > 2000
    # Near-ties alone may differ; a wrong mask changed a quarter of the tokens of group-norm encoders.
    assert different <= total / 1000


def test_mfcc_goes_the_whole_way_without_any_files(corpus, tmp_path, monkeypatch):
    # A folder of that name is no encoder.
    (tmp_path / "mfcc").mkdir()
    monkeypatch.chdir(tmp_path)
    run_pipeline(settings(corpus, tmp_path / "out", "mfcc", layers=(0,)))
    tokenizer = Tokenizer.from_pretrained(str(tmp_path / "out" / "tokenizer"))
    rows = tokens_of(tmp_path / "out" / "tokens", layers=(0,))
    unit = Manifest(str(tmp_path / "out" / "manifest")).units[0]
    for row in Manifest(str(tmp_path / "out" / "manifest")).rows(unit).to_pylist():
        waveform, rate = soundfile.read(row["uri"], dtype="float32", always_2d=True)
        np.testing.assert_array_equal(
            rows[row["utterance_id"]]["layer_00"], tokenizer.encode(waveform.mean(axis=1), rate)[0]
        )


def test_no_process_is_left_when_the_work_is_done(run, tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    seen = set()

    def watch():
        while not ended.wait(0.005):
            seen.update(child.pid for child in psutil.Process().children(recursive=True))

    ended = threading.Event()
    watching = threading.Thread(target=watch)
    watching.start()
    config = ExtractFeaturesConfig.of(
        manifest=str(run[0] / "manifest"), output=str(tmp_path / "mfcc"), encoder="mfcc", layers=(0,)
    )
    extract_features(config)
    ended.set()
    watching.join()
    # Recordings are decoded in processes, which a damaged one may kill.
    assert seen - before
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_manifest_that_is_built_anew_in_the_same_folder_is_read_anew(tmp_path):
    write_corpus(tmp_path / "audio", num_files=4)
    rows = []
    for _ in range(2):
        build_manifest(
            BuildManifestConfig.of(corpus=str(tmp_path / "audio"), layout="folder", output=str(tmp_path / "manifest"))
        )
        features = ExtractFeaturesConfig.of(
            manifest=str(tmp_path / "manifest"), output=str(tmp_path / "mfcc"), encoder="mfcc", layers=(0,)
        )
        rows.append(extract_features(features).rows)
        for name in ("manifest", "mfcc"):
            shutil.rmtree(tmp_path / name)
        (tmp_path / "audio" / "000.wav").unlink(missing_ok=True)
    assert rows == [4, 3]


def test_a_tokenizer_folder_is_left_alone_while_whole_and_mended_when_half(run, corpus, encoder, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    folder = tmp_path / "run" / "tokenizer"
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in whole}
    again = settings(corpus, tmp_path / "run", encoder)
    run_pipeline(again)
    assert {path: path.stat().st_mtime_ns for path in whole} == times
    # As a run leaves it that was killed on its way: the config comes last.
    (folder / "config.json").unlink()
    (folder / "encoder" / "config.json").write_bytes(b"{}")
    run_pipeline(again)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole


def test_codebooks_of_another_encoder_are_refused(run, small_encoder, tmp_path):
    output, _ = run
    other = small_encoder(kind="hubert", stem="group", stable=False, seed=1)
    with pytest.raises(CodebookMismatchError):
        tokenize_corpus(
            TokenizeCorpusConfig.of(
                manifest=str(output / "manifest"),
                codebooks=str(output / "codebooks"),
                encoder=str(other),
                output=str(tmp_path / "tokens"),
            )
        )


def test_more_clusters_than_frames_are_refused_before_any_work(run, tmp_path):
    output, _ = run
    with pytest.raises(SettingsError, match="fewer than num_clusters"):
        fit_kmeans(
            FitKmeansConfig.of(features=(str(output / "features"),), output=str(tmp_path / "c"), num_clusters=(60000,))
        )


def test_status_comes_from_commits(run):
    states = run_status(str(run[0]))
    assert [(state.kind, state.pending, state.finished) for state in states] == [
        ("manifest", 0, True),
        ("features", 0, True),
        ("codebooks", 0, True),
        ("tokens", 0, True),
    ]


def test_a_duplicate_stem_is_rejected_naming_both_files_and_the_limit_holds(encoder, tmp_path, monkeypatch):
    """All paths are relative here: they mean the driver's folder, whatever that of the workers is."""
    folder = write_corpus(tmp_path / "audio", num_files=4)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(encoder, "encoder")
    waveform, rate = soundfile.read(folder / "001.wav")
    soundfile.write(folder / "001.flac", waveform, rate)
    report = run_pipeline(settings("audio", "a", "encoder", max_reject_fraction=0.2, num_workers=1))
    assert (report.stages[0].rows, report.stages[0].reject_reasons) == (4, {"duplicate_id": 1})
    (reject,) = pq.read_table(tmp_path / "a" / "manifest" / "_rejects").to_pylist()
    assert "001.flac" in reject["detail"]
    assert "001.wav" in reject["detail"]
    with pytest.raises(ManifestError, match=r"001\.wav.*001\.flac"):
        run_pipeline(settings("audio", "c", "encoder", strict=True))
    with pytest.raises(TooManyRejectsError, match="1 of 5 utterances"):
        run_pipeline(settings("audio", "b", "encoder", max_reject_fraction=0.1))
