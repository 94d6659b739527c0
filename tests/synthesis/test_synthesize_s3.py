"""synthesize with tokens, manifest, vocoder and output on S3: killed there, gone on with, heard from there."""

import pytest
import s3fs
from made_kills import KILLED, in_child
from made_speech import LENGTHS, RATE, config_of, write_small_vocoder, write_spoken_corpus
from made_vocoder import HOP

from pipeline.audio.decode import DecodeLimits
from pipeline.audio.loading import Manifest, ShardLoader
from pipeline.status import run_status
from pipeline.store.dataset import Dataset
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.stage import synthesize


@pytest.fixture(scope="module")
def folder(bucket, tmp_path_factory):
    """Tokens, their manifest and a vocoder on disk, and in the bucket too."""
    root = tmp_path_factory.mktemp("spoken")
    write_spoken_corpus(root)
    write_small_vocoder(root / "vocoder")
    for name in ("manifest", "tokens", "vocoder"):
        s3fs.S3FileSystem().put(str(root / name), f"corpus/{name}", recursive=True)
    return root


def shards(uri):
    store = open_store(uri)
    return {name: store.read(name) for name in store.names() if name.startswith("shard-")}


def test_speech_on_s3_that_was_killed_has_the_bytes_of_that_on_disk_and_is_heard_from_there(bucket, folder, tmp_path):
    synthesize(config_of(folder, tmp_path / "out", layers=(3,), manifest=str(folder / "manifest")))
    there = {name: f"{bucket}/{name}" for name in ("manifest", "tokens", "vocoder")}
    config = config_of(folder, f"{bucket}/out", layers=(3,), **there)
    fault = {"point": "after_data_before_commit", "match": "shard-00002", "action": "kill"}
    assert in_child(synthesize, config, [fault]).code == KILLED
    committed = len(Dataset.open(f"{bucket}/out", finished=False).commits())
    report = synthesize(config)
    assert (report.rows, report.rejects) == (len(LENGTHS), 0)
    assert report.units_done_now == 3 - committed
    found = shards(f"{bucket}/out")
    assert len(found) == 3
    assert found == shards(str(tmp_path / "out"))
    assert verify_dataset(VerifyDatasetConfig(dataset=f"{bucket}/out")).faults == []
    (state,) = run_status(f"{bucket}/out")
    assert (state.kind, state.finished) == ("speech", True)

    manifest = Manifest(f"{bucket}/out/_manifest")
    loader = ShardLoader(
        manifest=f"{bucket}/out/_manifest", sample_rate=RATE, limits=DecodeLimits(), max_row_seconds=60
    )
    heard = [utterance for unit in manifest.units for utterance in loader(unit)]
    assert [utterance.problem for utterance in heard] == [None] * len(LENGTHS)
    assert sorted(len(utterance.samples) for utterance in heard) == sorted(HOP * length for length in LENGTHS)
    assert all(utterance.samples.any() for utterance in heard)
