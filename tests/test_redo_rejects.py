"""--redo-rejects through real stages: chosen rejects are made anew, everything else keeps its bytes."""

import contextlib
import shutil

import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import noise
from made_corpus import data_bytes, write_corpus
from made_kills import KILLED, in_child

from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import PlanMismatchError, SettingsError, TooManyRejectsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

AWAY = ("002.wav", "009.wav", "010.wav")


@pytest.fixture(scope="module")
def base(tmp_path_factory, small_encoder):
    """A finished run whose datasets are the truth."""
    folder = tmp_path_factory.mktemp("base")
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(write_corpus(folder / "audio", num_files=16)),
            layout="folder",
            output=str(folder / "run"),
            encoder=str(encoder),
            layers=(1, 3),
            num_clusters=8,
            max_iterations=4,
            shard_minutes=0.05,
            all_features=True,
            runner="here",
        )
    )
    return folder, encoder


@contextlib.contextmanager
def without(folder, *names):
    """Take some recordings away for a while; others stay."""
    hidden = folder.parent / "hidden"
    hidden.mkdir(exist_ok=True)
    for name in names:
        (folder / name).rename(hidden / name)
    try:
        yield
    finally:
        for name in names:
            (hidden / name).rename(folder / name)


def tokens_of(base, output, **more):
    folder, encoder = base
    return TokenizeCorpusConfig.of(
        manifest=str(folder / "run" / "manifest"),
        codebooks=str(folder / "run" / "codebooks"),
        encoder=encoder,
        output=str(output),
        runner="here",
        **more,
    )


def features_of(base, output, **more):
    folder, encoder = base
    manifest = str(folder / "run" / "manifest")
    return ExtractFeaturesConfig.of(
        manifest=manifest, encoder=encoder, layers=(1, 3), output=str(output), runner="here", **more
    )


def rows_of(output):
    found = verify_dataset(VerifyDatasetConfig(dataset=str(output)))
    return found.rows, found.rejects


@pytest.mark.parametrize(
    ("stage", "settings", "name"),
    [
        (tokenize_corpus, tokens_of, "tokens"),
        (extract_features, features_of, "features"),
    ],
)
def test_redone_rejects_give_the_dataset_of_a_run_that_nothing_disturbed(base, tmp_path, stage, settings, name):
    output, truth = tmp_path / name, data_bytes(base[0] / "run" / name)
    with without(base[0] / "audio", *AWAY):
        first = stage(settings(base, output))
        assert (first.rows, first.reject_reasons) == (13, {"missing": 3})
    before = data_bytes(output)
    same = {file for file in before if before[file] == truth[file]}
    assert 0 < len(same) < len(truth)
    again = stage(settings(base, output, redo_rejects=("missing", "unreadable")))
    assert (again.rows, again.rejects) == (16, 0)
    assert again.dataset_sha256 != first.dataset_sha256
    assert data_bytes(output) == truth
    assert rows_of(output) == (16, 0)
    # Only the units that held such rejects were made.
    assert again.units_done_now == len(truth) - len(same)
    assert not [path for path in output.rglob("*") if path.name.startswith("_attempts")]


def test_killed_while_it_redoes_the_same_command_ends_with_the_same_bytes(base, tmp_path):
    output = tmp_path / "tokens"
    with without(base[0] / "audio", *AWAY):
        tokenize_corpus(tokens_of(base, output))
    config = tokens_of(base, output, redo_rejects=("missing",))
    points = ["before_redo", "after_redo", "after_data_before_commit", "after_commit_before_publish"]
    for point in [*points, "before_shard_table", "after_shard_table_before_success"]:
        fault = {"point": point, "action": "kill", "once": str(tmp_path / point)}
        assert in_child(tokenize_corpus, config, [fault]).code == KILLED, point
    ended = in_child(tokenize_corpus, config)
    assert (ended.code, ended.message) == (0, None)
    assert data_bytes(output) == data_bytes(base[0] / "run" / "tokens")
    assert rows_of(output) == (16, 0)


def test_what_was_made_from_features_before_they_were_redone_is_refused(base, tmp_path):
    with without(base[0] / "audio", *AWAY):
        extract_features(features_of(base, tmp_path / "features"))
    codebooks = str(base[0] / "run" / "codebooks")
    config = TokenizeCorpusConfig.of(
        features=str(tmp_path / "features"), codebooks=codebooks, output=str(tmp_path / "tokens"), runner="here"
    )
    tokenize_corpus(config)
    extract_features(features_of(base, tmp_path / "features", redo_rejects=("missing",)))
    with pytest.raises(PlanMismatchError, match="input_sha256"):
        tokenize_corpus(config)
    tokenize_corpus(config.but(output=str(tmp_path / "new")))
    assert data_bytes(tmp_path / "new").keys() == data_bytes(base[0] / "run" / "tokens").keys()


def test_where_all_were_missing_the_same_command_with_the_flag_mends_it(base, tmp_path):
    output = tmp_path / "tokens"
    every = [path.name for path in (base[0] / "audio").iterdir()]
    # Something else of the root is there, so that each is believed.
    (base[0] / "audio" / "README").touch()
    with without(base[0] / "audio", *every), pytest.raises(TooManyRejectsError, match="all 16"):
        tokenize_corpus(tokens_of(base, output))
    with pytest.raises(TooManyRejectsError):
        tokenize_corpus(tokens_of(base, output))
    assert tokenize_corpus(tokens_of(base, output, redo_rejects=("missing",))).rows == 16
    assert data_bytes(output) == data_bytes(base[0] / "run" / "tokens")


def test_a_reason_that_there_is_not_is_refused_before_anything_starts(base, tmp_path):
    with pytest.raises(SettingsError, match="redo_rejects"):
        tokens_of(base, tmp_path, redo_rejects=("lost",))


@pytest.fixture
def listed(tmp_path):
    """A corpus of a listing: stereo and mono, several segments a recording, an id twice, one that is no audio."""
    folder = tmp_path / "audio"
    folder.mkdir()
    lines = ["uri,id,offset,duration,text"]
    for number in range(12):
        soundfile.write(folder / f"{number:02d}.wav", noise(20_000, channels=1 + number % 2, seed=number), 16_000)
        for start in (0.0, 0.5):
            lines.append(f"{number:02d}.wav,u{number:02d}-{int(2 * start)},{start},0.5,words {number}")
    lines.append("03.wav,u05-0,0,0.5,twice")
    (folder / "text.wav").write_text("no audio")
    lines.append("text.wav,text,,,")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder


def manifest_of(listed, output, **more):
    return BuildManifestConfig.of(
        corpus=str(listed / "list.csv"),
        layout="listing",
        output=str(output),
        channels="split",
        shard_minutes=0.02,
        runner="here",
        **more,
    )


def test_a_manifest_whose_rejects_are_redone_is_the_one_that_nothing_disturbed(listed, tmp_path):
    truth, output = tmp_path / "truth", tmp_path / "manifest"
    build_manifest(manifest_of(listed, truth))
    with without(listed, "03.wav", "04.wav", "11.wav"):
        assert build_manifest(manifest_of(listed, output)).reject_reasons["missing"] == 7
        # Asked again while they are away, nothing changes.
        before = data_bytes(output)
        again = build_manifest(manifest_of(listed, output, redo_rejects=("missing",)))
        assert again.reject_reasons["missing"] == 7
        assert data_bytes(output) == before
    report = build_manifest(manifest_of(listed, output, redo_rejects=("missing",)))
    assert "missing" not in report.reject_reasons
    assert rows_of(output) == rows_of(truth)
    assert pq.read_table(output).equals(pq.read_table(truth))
    assert pq.read_table(output / "_rejects").to_pylist() == pq.read_table(truth / "_rejects").to_pylist()
    assert pq.read_table(output / "_index.parquet").num_rows == pq.read_table(truth / "_index.parquet").num_rows
    left = [path.name for path in output.iterdir()]
    assert not [name for name in left if name.startswith(("_probed", "_before", "_attempts"))]


def test_a_manifest_keeps_rows_whose_recordings_are_gone_by_now(listed, tmp_path):
    output = tmp_path / "manifest"
    with without(listed, "04.wav"):
        build_manifest(manifest_of(listed, output))
    held = {row["utterance_id"]: row for row in pq.read_table(output).to_pylist()}
    with without(listed, "07.wav"):
        build_manifest(manifest_of(listed, output, redo_rejects=("missing",)))
    rows = {row["utterance_id"]: row for row in pq.read_table(output).to_pylist()}
    assert {name: {**row, "shard": 0} for name, row in rows.items() if name in held} == {
        name: {**row, "shard": 0} for name, row in held.items()
    }
    assert sorted(set(rows) - set(held)) == ["u04-0", "u04-1"]


def test_a_manifest_killed_while_it_redoes_ends_with_the_same_bytes(listed, tmp_path):
    truth, output = tmp_path / "truth", tmp_path / "manifest"
    with without(listed, "03.wav", "04.wav", "11.wav"):
        build_manifest(manifest_of(listed, output))
    shutil.copytree(output, truth)
    build_manifest(manifest_of(listed, truth, redo_rejects=("missing",)))
    config = manifest_of(listed, output, redo_rejects=("missing",))
    points = ["before_redo", "after_redo", "after_data_before_commit", "after_commit_before_publish"]
    for point in [*points, "before_shard_table", "after_shard_table_before_success", "after_success_before_cleanup"]:
        for match in ("shard", "manifest", ""):
            fault = {"point": point, "match": match, "action": "kill", "once": str(tmp_path / f"{point}{match}")}
            in_child(build_manifest, config, [fault])
    assert in_child(build_manifest, config.but(redo_rejects=())).code == 0
    assert data_bytes(output) == data_bytes(truth)
    assert rows_of(output) == rows_of(truth)
