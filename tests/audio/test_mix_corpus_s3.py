"""mix_corpus with everything on S3: killed there, gone on with, and heard from there."""

import pytest
import s3fs
from made_audio import RATE
from made_kills import KILLED, in_child
from made_mixtures import manifest_of, mixing, write_clean, write_noises, write_rooms

from pipeline.audio.clock import Clock
from pipeline.audio.decode import DecodeLimits
from pipeline.audio.loading import Manifest, ShardLoader
from pipeline.audio.mixtures.stage import mix_corpus
from pipeline.batches.clean import check_clean
from pipeline.status import run_status
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

NAMES = ("clean", "noises", "rooms")


@pytest.fixture(scope="module")
def folder(bucket, tmp_path_factory):
    """Clean utterances, noises and rooms on disk, and in the bucket with manifests of its own."""
    root = tmp_path_factory.mktemp("mixed")
    for name, write in zip(NAMES, (write_clean, write_noises, write_rooms), strict=True):
        write(root / name)
        s3fs.S3FileSystem().put(str(root / name), f"corpus/{name}", recursive=True)
        manifest_of(f"{bucket}/{name}/listing.jsonl", f"{bucket}/manifests/{name}")
    return root


def audio(uri):
    """Give the audio of each mixture by id: the uri of its clean partner differs from place to place."""
    loader = ShardLoader(manifest=f"{uri}/_manifest", sample_rate=RATE, limits=DecodeLimits(), max_row_seconds=60)
    heard = [utterance for unit in Manifest(f"{uri}/_manifest").units for utterance in loader(unit)]
    assert [utterance.problem for utterance in heard] == [None] * len(heard)
    return {utterance.utterance_id: utterance.samples.tobytes() for utterance in heard}


def shards(uri):
    store = open_store(uri)
    return {name: store.read(name) for name in store.names() if name.startswith("shard-")}


def test_mixtures_on_s3_that_were_killed_are_those_of_a_run_that_was_not_and_sound_as_those_on_disk(bucket, folder):
    clean, noises, rooms = (f"{bucket}/manifests/{name}" for name in NAMES)
    whole = mixing(clean, noises, f"{bucket}/whole", rooms=rooms, passes=2)
    mix_corpus(whole)
    config = whole.but(output=f"{bucket}/out")
    fault = {"point": "driver_after_commit", "match": "", "action": "kill"}
    assert in_child(mix_corpus, config, [fault]).code == KILLED
    report = mix_corpus(config)
    assert (report.rows, report.rejects) == (12, 0)
    assert report.units_done_now < report.units
    assert shards(config.output) == shards(whole.output)
    assert verify_dataset(VerifyDatasetConfig(dataset=config.output)).faults == []
    (state,) = run_status(config.output)
    assert (state.kind, state.finished) == ("mixtures", True)
    local = mixing(*(str(folder / name / "manifest") for name in NAMES[:2]), folder / "out", passes=2)
    mix_corpus(local.but(rooms=str(folder / "rooms" / "manifest")))
    assert audio(config.output) == audio(str(folder / "out"))
    clock = Clock(sample_rate=RATE, hop_length=320, receptive_field=400)
    assert check_clean(Manifest(f"{config.output}/_manifest"), Manifest(clean), clock) == 0
