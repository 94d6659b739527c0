"""Joined corpora on S3, in tars and in Parquet, through SIGKILL, status, estimates, verification and Ray."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs
import soundfile
from made_audio import RATE, noise
from made_containers import encoded, write_table, write_tar
from made_corpus import data_bytes
from made_kills import KILLED, in_child

from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.decode import DecodeLimits, to_float32
from pipeline.audio.loading import Manifest, ShardLoader
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.cli import run
from pipeline.estimation.stage import estimate
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

SOUNDS = {f"{who}_{number}": noise(6_000 + 111 * number, seed=number) for who in "ab" for number in range(6)}
FLACS = {name: encoded(sound) for name, sound in SOUNDS.items()}


def files(folder):
    folder.mkdir()
    for name, data in FLACS.items():
        (folder / f"{name}.flac").write_bytes(data)
    return "folder"


def tars(folder):
    folder.mkdir()
    for who in "ab":
        write_tar(folder / f"{who}.tar", [(f"{n}.flac", data) for n, data in FLACS.items() if n[0] == who])
    return "webdataset"


def tables(folder):
    folder.mkdir()
    write_table(folder / "0.parquet", [(d, None) for d in FLACS.values()], row_group_size=5, id=list(FLACS))
    return "parquet"


WRITERS = (files, tars, tables)


def build(corpus, layout, output):
    build_manifest(BuildManifestConfig.of(corpus=str(corpus), layout=layout, output=str(output), runner="here"))


def settings(source, output, **changes):
    given = {"per_utterance": (2, 3), "silence_seconds": (0.01, 0.05), "by": (), **changes}
    return ConcatenateCorpusConfig.of(manifest=str(source), output=str(output), **given)


def rows_of(folder):
    manifest = Manifest(str(folder))
    return [row for unit in manifest.units for row in manifest.rows(unit).to_pylist()]


def check_samples(folder):
    """Compare each joined utterance with silences and the separate decodes of its pieces, bit by bit."""
    manifest = Manifest(str(folder))
    loader = ShardLoader(manifest=str(folder), sample_rate=RATE, limits=DecodeLimits(), max_row_seconds=100.0)
    found = [utterance for unit in manifest.units for utterance in loader(unit)]
    rows, used = rows_of(folder), []
    assert [u.utterance_id for u in found] == [row["utterance_id"] for row in rows]
    for row, utterance in zip(rows, found, strict=True):
        parts = []
        for piece in row["pieces"]:
            name = piece["utterance_id"].rpartition("._")[2]
            alone, rate = soundfile.read(io.BytesIO(FLACS[name]), dtype="int16")
            assert rate == piece["sample_rate"] == RATE
            parts += [np.zeros(piece["silence_samples"], np.int16), alone]
            used.append(name)
        np.testing.assert_array_equal(to_float32(utterance.samples), to_float32(np.concatenate(parts)))
    assert sorted(used) == sorted(SOUNDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("joined")
    build(root / "audio", files(root / "audio"), root / "manifest")
    concatenate_corpus(settings(root / "manifest", root / "joined"))
    return root


@pytest.mark.parametrize("write", WRITERS)
def test_pieces_on_s3_are_the_samples_of_the_separate_recordings(bucket, tmp_path, write):
    layout = write(tmp_path / write.__name__)
    s3fs.S3FileSystem().put(str(tmp_path / write.__name__), f"corpus/{write.__name__}", recursive=True)
    build(f"{bucket}/{write.__name__}", layout, f"{bucket}/{write.__name__}_manifest")
    joined = f"{bucket}/{write.__name__}_joined"
    concatenate_corpus(settings(f"{bucket}/{write.__name__}_manifest", joined))
    check_samples(joined)
    assert verify_dataset(VerifyDatasetConfig(dataset=joined)).faults == []


@pytest.mark.parametrize("write", WRITERS)
def test_pieces_on_disk_are_the_samples_of_the_separate_recordings(tmp_path, write):
    layout = write(tmp_path / "audio")
    build(tmp_path / "audio", layout, tmp_path / "manifest")
    concatenate_corpus(settings(tmp_path / "manifest", tmp_path / "joined"))
    check_samples(tmp_path / "joined")
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "joined"))).faults == []


POINTS = (
    *("during_probe", "after_announce_before_data", "after_data_before_commit", "before_shard_table"),
    *("after_shard_table_before_success", "after_success_before_cleanup"),
)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_process_goes_on_to_the_same_bytes(folder, tmp_path, point):
    config = settings(folder / "manifest", tmp_path / "joined")
    assert in_child(concatenate_corpus, config, [{"point": point, "action": "kill"}]).code == KILLED
    concatenate_corpus(config)
    assert data_bytes(tmp_path / "joined") == data_bytes(folder / "joined")
    assert verify_dataset(VerifyDatasetConfig(dataset=config.output)).faults == []


def test_a_process_killed_on_s3_goes_on_to_the_bytes_of_disk(bucket, folder, tmp_path):
    config = settings(folder / "manifest", f"{bucket}/killed")
    assert (
        in_child(concatenate_corpus, config, [{"point": "after_data_before_commit", "action": "kill"}]).code == KILLED
    )
    assert run_status(config.output)[0].finished is False
    concatenate_corpus(config)
    s3fs.S3FileSystem().get(config.output, str(tmp_path / "fetched"), recursive=True)
    assert data_bytes(tmp_path / "fetched") == data_bytes(folder / "joined")


def test_status_shows_the_hours_done_and_those_of_the_whole(folder, tmp_path, capsys):
    hours = sum(row["num_samples"] / row["sample_rate"] for row in rows_of(folder / "joined")) / 3600
    run(concatenate_corpus, description="", args=["--status", "--output", str(folder / "joined")])
    assert f"{hours:.3f} of {hours:.3f} h" in capsys.readouterr().err
    config = settings(folder / "manifest", tmp_path / "joined")
    in_child(concatenate_corpus, config, [{"point": "after_data_before_commit", "action": "kill"}])
    run(concatenate_corpus, description="", args=["--status", "--output", config.output])
    assert f"0.000 of {hours:.3f} h" in capsys.readouterr().err
    run(build_manifest, description="", args=["--status", "--output", str(folder / "manifest")])
    assert " of 0.000 h" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def books(folder):
    encoding = {"manifest": str(folder / "joined"), "encoder": "encoder-small", "layers": (2,), "runner": "here"}
    features = ExtractFeaturesConfig.of(output=str(folder / "features"), **encoding)
    extract_features(features)
    fit_kmeans(
        FitKmeansConfig.of(
            features=(features.output,), output=str(folder / "books"), num_clusters=(4,), layers=(2,), runner="here"
        )
    )
    return folder / "books"


def test_estimates_on_a_joined_corpus_say_what_the_runs_then_give(folder, books, tmp_path):
    rows = rows_of(folder / "joined")
    hours = sum(row["num_samples"] for row in rows) / RATE / 3600
    encoding = {"manifest": str(folder / "joined"), "encoder": "encoder-small", "runner": "here"}
    tokens = TokenizeCorpusConfig.of(output=str(tmp_path / "tokens"), codebooks=str(books), **encoding)
    features = ExtractFeaturesConfig.of(output=str(tmp_path / "features"), layers=(2,), **encoding)
    for config, stage in ((tokens, tokenize_corpus), (features, extract_features)):
        told = estimate(config)
        assert not (tmp_path / config.output / "_SUCCESS").exists()
        assert told.corpus.utterances == len(rows)
        assert told.corpus.audio_hours == pytest.approx(hours)
        assert stage(config).num_frames == told.corpus.num_frames


@pytest.mark.ray
@pytest.mark.nightly
def test_ray_gives_a_joined_corpus_the_tokens_of_one_process(folder, books, tmp_path, local_ray):
    made = {}
    for runner in ("here", "ray"):
        encoding = {"manifest": str(folder / "joined"), "encoder": "encoder-small", "runner": runner}
        config = TokenizeCorpusConfig.of(output=str(tmp_path / runner), codebooks=str(books), **encoding)
        assert tokenize_corpus(config).rejects == 0
        made[runner] = data_bytes(tmp_path / runner)
    assert made["here"] == made["ray"]
    assert pq.read_table(tmp_path / "ray").num_rows == len(rows_of(folder / "joined"))
