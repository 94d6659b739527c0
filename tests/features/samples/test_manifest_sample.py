"""A sample chosen from a manifest alone, against hashing and sorting every frame of it. No Ray, no audio."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.audio import manifest_files
from pipeline.audio.loading import INDEX, Manifest
from pipeline.errors import CorruptDatasetError
from pipeline.features.encoders.info import describe
from pipeline.features.samples.hashing import EVERY_HASH, frame_hash, sampled_frames
from pipeline.features.samples.manifest_sample import ManifestSample, choose_frames
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Plan, sha256

ENCODER = describe("mfcc")
LONGEST = 5.0


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """Forty utterances in ten shards and four files: three rates, two speakers or none, too short and too long ones."""
    monkeypatch.setattr(manifest_files, "CANDIDATES_PER_FILE", 3)
    rng = np.random.default_rng(0)
    rows = [
        {
            "utterance_id": f"u{number:02d}",
            "uri": f"/audio/{number}.wav",
            "offset_samples": 0,
            "num_samples": int(rng.choice([300, 90_000, rng.integers(1_000, 60_000)])),
            "sample_rate": (16_000, 22_050, 8_000)[number % 3],
            "shard": number // 4,
            "speaker": (None, "b", "a", "")[number % 4],
        }
        for number in range(40)
    ]
    table = pa.Table.from_pylist(rows, schema=schema.MANIFEST)
    plan = Plan(
        kind="manifest", content={}, lineage={"roots": []}, units=[f"manifest-{number:05d}" for number in range(4)]
    )
    dataset = Dataset.create(str(tmp_path / "manifest"), plan)
    seconds = table["num_samples"].to_numpy() / table["sample_rate"].to_numpy()
    manifest_files._commit_files(dataset, table, seconds, schema.REJECTS.empty_table(), {})
    finish(dataset, extra={"index_sha256": sha256(dataset.store.read(INDEX))})
    return Manifest(dataset.uri)


def all_frames(manifest, column, seed):
    """Give (hash, utterance, frame) of every frame, sorted, by the value of a column."""
    found = {}
    for unit in manifest.units:
        for row in manifest.rows(unit).to_pylist():
            value = None if column is None or row[column] is None else str(row[column])
            ranked = found.setdefault(value, [])
            if row["num_samples"] <= LONGEST * row["sample_rate"]:
                length = int(row["num_samples"] * 16_000 / row["sample_rate"] + 0.5)
                hashes = frame_hash(seed, row["utterance_id"], np.arange(ENCODER.clock.num_frames(length)))
                ranked += [(int(value), row["utterance_id"], frame) for frame, value in enumerate(hashes)]
    return {value: sorted(ranked) for value, ranked in found.items()}


def choose(manifest, size, column=None, seed=2):
    return choose_frames(manifest, ENCODER, size=size, stratify_by=column, seed=seed, max_seconds=LONGEST)


def test_a_scan_gives_the_rows_of_every_shard_in_order(manifest):
    columns = ["num_samples", "utterance_id"]
    scanned = list(manifest.scan(columns))
    assert [unit for unit, _ in scanned] == manifest.units
    assert len({place["file"] for place in manifest._index.to_pylist()}) == 4
    for unit, rows in scanned:
        assert sorted(rows.column_names) == columns
        assert rows.select(columns).equals(manifest.rows(unit).select(columns))


def test_a_scan_notices_another_file(manifest):
    store = manifest.dataset.store
    store.write("manifest-00001.parquet", store.read("manifest-00002.parquet"))
    with pytest.raises(CorruptDatasetError, match="another footer"):
        list(manifest.scan(["utterance_id"]))


@pytest.mark.parametrize("size", [1, 100, 1_000])
def test_the_frames_of_smallest_hash_are_chosen_from_lengths_at_the_encoders_rate(manifest, size):
    (ranked,) = all_frames(manifest, None, seed=2).values()
    sample = choose(manifest, size)
    assert (sample.num_frames, sample.sample_frames) == (len(ranked), size)
    assert sample.last_hash == {None: ranked[size - 1][0]}
    kept = [
        (name, frame)
        for name in sorted({name for _, name, _ in ranked})
        for frame in sampled_frames(2, name, max(f for _, n, f in ranked if n == name) + 1, sample.last_hash[None])
    ]
    assert sorted(kept) == sorted((name, frame) for _, name, frame in ranked[:size])


@pytest.mark.parametrize("column", ["speaker", "sample_rate", "utterance_id", "emotion"])
def test_every_value_of_a_column_is_a_stratum_in_order_and_null_the_last(manifest, column):
    ranked = all_frames(manifest, column, seed=2)
    sample = choose(manifest, 900, column)
    values = sample.strata["value"].to_pylist()
    assert values == sorted(ranked, key=lambda value: (value is None, value or ""))
    assert sample.sample_frames == 900
    for row in sample.strata.to_pylist():
        frames, quota = ranked[row["value"]], row["sample_frames"]
        assert row["num_frames"] == len(frames)
        last = EVERY_HASH if quota == len(frames) else frames[quota - 1][0]
        assert row["last_hash"] == (last if quota else None)


def test_more_than_there_is_is_the_whole(manifest):
    sample = choose(manifest, 10**9, "speaker")
    assert sample.whole
    assert set(sample.last_hash.values()) == {EVERY_HASH}
    assert not choose(manifest, sample.num_frames - 1, "speaker").whole


def test_the_hash_of_a_sample_is_that_of_what_is_read_back(manifest):
    sample = choose(manifest, 70, "speaker")
    sample.write(manifest.dataset.store)
    assert ManifestSample.read(manifest.dataset.store, sample.sha256).strata.equals(sample.strata)
    assert sample.sha256 != choose(manifest, 71, "speaker").sha256 != choose(manifest, 71, "speaker", seed=3).sha256
