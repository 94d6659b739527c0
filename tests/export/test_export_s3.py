"""Exports whose tokens, manifest and output lie on a real S3 server (SeaweedFS)."""

import numpy as np
import pytest
import s3fs
from made_export import config_of, tree
from made_export_kills import KILLED, export_in_child, names
from made_tokens import NUM_CLUSTERS, write_corpus_of_tones

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.read_export import read_export
from pipeline.export.settings import FORMAT_NAMES, ExportTokensConfig
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

COLUMNS = ("layer_03", "layer_07")
FORMATS = tuple(name for name in FORMAT_NAMES if name not in ("slamkit", "fairseq"))
SETTINGS = {
    "formats": FORMATS,
    "bpe_merges": 10,
    "order": "shuffled",
    "shard_ids": 500,
    "valid_fraction": 0.2,
    "corpus": "tones",
}


@pytest.fixture(scope="module")
def corpus(bucket, tmp_path_factory):
    """A corpus on disk, and its tokens and manifest on S3."""
    folder = tmp_path_factory.mktemp("corpus")
    spoken = write_corpus_of_tones(folder, [0.5 + number % 4 / 5 for number in range(40)], columns=COLUMNS)
    for name in ("tokens", "manifest"):
        s3fs.S3FileSystem().put(str(folder / name), f"corpus/{name}", recursive=True)
    return folder, spoken


@pytest.fixture(scope="module")
def export(bucket, corpus):
    """An export on S3 that was killed twice on its way, and its settings."""
    where = {name: f"{bucket}/{name}" for name in ("tokens", "manifest", "export")}
    where["output"] = where.pop("export")
    settings = ExportTokensConfig.of(**where, **SETTINGS)
    for point, match in (("after_data_before_commit", "shard-00001"), ("after_commit_before_publish", "train-00000")):
        fault = {"point": point, "match": match, "action": "kill"}
        assert export_in_child(settings, [fault])[0] == KILLED
    assert export_in_child(settings)[:2] == (0, None)
    return settings


def test_killed_twice_an_export_on_s3_has_the_bytes_of_one_on_disk(corpus, export, tmp_path):
    assert export_in_child(config_of(corpus[0], tmp_path / "export", **SETTINGS))[:2] == (0, None)
    s3fs.S3FileSystem().get("corpus/export", str(tmp_path / "fetched"), recursive=True)
    local = tree(tmp_path / "export")
    assert {name.split("/")[0] for name in local} >= {*FORMATS, "sequences", "bpe", "tokenizer", "vocabulary.json"}
    assert tree(tmp_path / "fetched") == local
    assert names(tmp_path / "fetched") == names(tmp_path / "export")


def test_run_again_an_export_on_s3_makes_nothing(export):
    assert export_in_child(export) == (0, None, [])


def test_the_tokens_come_back_from_s3(corpus, export):
    back = {stretch.utterance_id: stretch.tokens for stretch in read_export(export.output)}
    assert set(back) == {one.utterance_id for one in corpus[1]}
    for one in corpus[1]:
        for shift, column in enumerate(COLUMNS):
            np.testing.assert_array_equal(back[one.utterance_id][column], (one.tokens + shift) % NUM_CLUSTERS)


def test_memory_maps_of_s3_are_refused_with_what_to_do(export):
    with pytest.raises(SettingsError, match="source megatron needs a local folder.*sequences"):
        read_export(export.output, source="megatron")


@pytest.mark.parametrize("name", ["vocabulary.json", "_parts/part-000.json", "megatron/part-000/train-00000.idx"])
def test_an_export_on_s3_is_verified_and_a_changed_object_named(export, name):
    config = VerifyDatasetConfig(dataset=export.output)
    found = verify_dataset(config)
    assert (found.rows, found.faults) == (40, [])
    fs, key = s3fs.S3FileSystem(), f"{export.output}/{name}"
    good = fs.cat_file(key)
    fs.pipe_file(key, good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    with pytest.raises(CorruptDatasetError, match=f"{name} is not what was committed"):
        verify_dataset(config)
    fs.pipe_file(key, good)
