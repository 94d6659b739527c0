"""A sample of exact size out of real extraction: which frames, how many, the same for any workers and after a kill."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import data_bytes, write_corpus
from made_kills import KILLED, in_child

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import CorruptDatasetError, PlanMismatchError, SettingsError
from pipeline.features.samples.hashing import frame_hash
from pipeline.features.samples.manifest_sample import STRATA, ManifestSample
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.store.dataset import Dataset
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

SPEAKERS = ["ann", "bob", None, "cy"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_encoder):
    """A manifest with speakers, and the features of every frame."""
    root = tmp_path_factory.mktemp("sampled")
    recordings = sorted(write_corpus(root / "audio", num_files=16).glob("*.wav"))
    # Of ann there is one short recording: fewer frames than her share.
    speakers = ["ann", *(SPEAKERS[1 + number % 3] for number in range(15))]
    rows = [{"path": str(path), "speaker": speaker} for path, speaker in zip(recordings, speakers, strict=True)]
    (root / "listing.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest(root, root / "listing.jsonl", root / "manifest")
    encoder = small_encoder(kind="hubert", stem="group", stable=False)
    extract_features(settings((root, encoder), root / "every"))
    return root, encoder


def manifest(root, listing, output):
    config = BuildManifestConfig.of(
        corpus=str(listing), layout="listing", output=str(output), roots=(str(root / "audio"),), shard_minutes=0.1
    )
    build_manifest(config)


def settings(made, output, **changes):
    root, encoder = made
    fixed = {"manifest": str(root / "manifest"), "encoder": encoder, "layers": (1, 3), "num_workers": 1}
    return ExtractFeaturesConfig.of(**{**fixed, "output": str(output), **changes})


def frames(folder):
    """Give the frames that a sample holds, by utterance."""
    return {row["utterance_id"]: row["frame_index"] for row in pq.read_table(folder).to_pylist()}


def every_frame(made, seed=0):
    """Give (hash, utterance, frame) of every frame, in the order of the hashes."""
    found = [
        (int(value), row["utterance_id"], frame)
        for row in pq.read_table(made[0] / "every", columns=["utterance_id", "num_frames"]).to_pylist()
        for frame, value in enumerate(frame_hash(seed, row["utterance_id"], np.arange(row["num_frames"])))
    ]
    return sorted(found)


def test_exactly_the_frames_of_smallest_hash_are_kept_in_all_layers_and_can_be_clustered(made, tmp_path):
    report = extract_features(settings(made, tmp_path / "sample", sample_frames=400, seed=5))
    assert dict(report.lines())["frames"] == "400 kept of 400 asked for"
    expected = Counter((name, frame) for _, name, frame in every_frame(made, seed=5)[:400])
    kept = frames(tmp_path / "sample")
    assert Counter((name, frame) for name, chosen in kept.items() for frame in chosen) == expected
    whole = {row["utterance_id"]: row for row in pq.read_table(made[0] / "every").to_pylist()}
    for row in pq.read_table(tmp_path / "sample").to_pylist():
        for layer in ("layer_01", "layer_03"):
            full, found = (np.frombuffer(r[layer], "<f2").reshape(-1, 48) for r in (whole[row["utterance_id"]], row))
            np.testing.assert_array_equal(found, full[row["frame_index"]])
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "sample"))).num_frames == 400
    books = str(tmp_path / "books")
    fit_kmeans(FitKmeansConfig.of(features=(str(tmp_path / "sample"),), output=books, num_clusters=(4,)))
    with pytest.raises(SettingsError, match="every frame"):
        tokenize_corpus(
            TokenizeCorpusConfig.of(features=str(tmp_path / "sample"), codebooks=books, output=str(tmp_path / "tokens"))
        )


def test_strata_have_equal_shares_and_small_ones_all_they_have(made, tmp_path):
    extract_features(settings(made, tmp_path / "sample", sample_frames=601, stratify_by="speaker"))
    rows = [row for unit in Manifest(str(made[0] / "manifest")).units for row in manifest_rows(made, unit)]
    speaker = {row["utterance_id"]: row["speaker"] for row in rows}
    ranked = {who: [f for f in every_frame(made) if speaker[f[1]] == who] for who in SPEAKERS}
    anns = len(ranked["ann"])
    share, more = divmod(601 - anns, 3)
    assert anns < share
    quotas = {"ann": anns, "bob": share + (more > 0), "cy": share + (more > 1), None: share}
    expected = {(name, frame) for who, found in ranked.items() for _, name, frame in found[: quotas[who]]}
    kept = frames(tmp_path / "sample")
    assert {(name, frame) for name, chosen in kept.items() for frame in chosen} == expected
    table = pq.read_table(tmp_path / "sample" / STRATA).to_pylist()
    assert [(row["value"], row["sample_frames"]) for row in table] == [
        (who, quotas[who]) for who in ("ann", "bob", "cy", None)
    ]


def manifest_rows(made, unit):
    return Manifest(str(made[0] / "manifest")).rows(unit).to_pylist()


def test_two_workers_write_the_bytes_of_one_and_run_again_do_nothing(made, tmp_path):
    changes = {"sample_frames": 300, "stratify_by": "speaker"}
    one = extract_features(settings(made, tmp_path / "one", **changes))
    two = extract_features(settings(made, tmp_path / "two", **changes, num_workers=2))
    assert one.dataset_sha256 == two.dataset_sha256
    assert data_bytes(tmp_path / "one") == data_bytes(tmp_path / "two")
    again = extract_features(settings(made, tmp_path / "one", **changes))
    assert (again.units_done_now, again.dataset_sha256) == (0, one.dataset_sha256)
    for other in ({"sample_frames": 301}, {"stratify_by": "language"}, {"stratify_by": None}, {"seed": 1}):
        with pytest.raises(PlanMismatchError, match=next(iter(other))):
            extract_features(settings(made, tmp_path / "one", **{**changes, **other}))


def test_a_driver_killed_after_its_plan_or_a_shard_is_run_again_to_the_same_bytes(made, tmp_path):
    changes = {"sample_frames": 300, "stratify_by": "speaker"}
    extract_features(settings(made, tmp_path / "whole", **changes))
    for point in ("after_plan", "driver_after_commit"):
        fault = {"point": point, "action": "kill"}
        config = settings(made, tmp_path / "killed", **changes)
        assert in_child(extract_features, config, [fault]).code == KILLED
    assert in_child(extract_features, settings(made, tmp_path / "killed", **changes)).code == 0
    assert data_bytes(tmp_path / "killed") == data_bytes(tmp_path / "whole")


def test_more_frames_than_there_are_give_the_features_of_every_frame(made, tmp_path):
    report = extract_features(settings(made, tmp_path / "all", sample_frames=10**6, stratify_by="speaker"))
    total = len(every_frame(made))
    assert dict(report.lines())["frames"] == f"{total:,} kept of 1,000,000 asked for"
    assert data_bytes(tmp_path / "all") == data_bytes(made[0] / "every")
    assert not (tmp_path / "all" / STRATA).exists()


def test_frames_of_a_rejected_utterance_are_missing_and_the_report_says_so(made, tmp_path):
    root, _ = made
    source = sorted((root / "audio").glob("*.wav"))
    rows = [{"path": str(path)} for path in source[:6]]
    rows.append({"path": str(root / "audio" / "gone.wav")})
    soundfile.write(root / "audio" / "gone.wav", np.zeros(48_000), 16_000)
    (root / "with_gone.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest(root, root / "with_gone.jsonl", tmp_path / "manifest")
    (root / "audio" / "gone.wav").unlink()
    config = settings(made, tmp_path / "sample", manifest=str(tmp_path / "manifest"), sample_frames=200)
    report = extract_features(config)
    lost = 200 - report.num_frames
    assert (report.rejects, report.frames_asked) == (1, 200)
    assert 0 < lost < 150
    assert dict(report.lines())["frames"] == f"{200 - lost} kept of 200 asked for"
    kept = {(name, frame) for name, chosen in frames(tmp_path / "sample").items() for frame in chosen}
    ranked = [(name, frame) for _, name, frame in every_frame(made) if (name, frame) in kept]
    assert len(ranked) == len(kept)


def test_damaged_strata_are_refused_by_a_worker_and_mended_by_the_driver(made, tmp_path):
    extract_features(settings(made, tmp_path / "sample", sample_frames=50))
    store = open_store(str(tmp_path / "sample"))
    plan = Dataset.open(str(tmp_path / "sample")).plan
    good = store.read(STRATA)
    for damage in (good[:100], b"", None):
        store.delete([STRATA]) if damage is None else store.write(STRATA, damage)
        with pytest.raises(CorruptDatasetError, match="run extract_features again"):
            ManifestSample.read(store, plan.lineage["strata_sha256"])
    extract_features(settings(made, tmp_path / "sample", sample_frames=50))
    assert store.read(STRATA) == good
    with pytest.raises(CorruptDatasetError, match="not the one"):
        ManifestSample.read(store, "0" * 64)
