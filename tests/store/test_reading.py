import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.errors import CorruptDatasetError
from pipeline.features.feature_file import FeatureFile
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan
from pipeline.store.reading import read_committed, read_pieces, read_unit
from pipeline.store.verification import inspect

LAYERS, DIM, FRAMES, UTTERANCES, PIECES = [1, 4], 64, 500, 3, 8


@pytest.fixture
def features(tmp_path):
    """One unit of three utterances, eight rows each, whose file has many row groups."""
    plan = Plan(
        kind="features",
        content={"data_version": 1},
        lineage={"layers": LAYERS, "dim": DIM},
        units=["shard-00000"],
        totals={"rows": UTTERANCES, "seconds": 1.0},
    )
    dataset = Dataset.create(str(tmp_path / "features"), plan)
    file = FeatureFile(schema.features(LAYERS, sampled=False), plan.lineage, spill_bytes=200_000)
    rng = np.random.default_rng(0)
    for place in range(UTTERANCES):
        for piece in range(PIECES):
            cells = {
                schema.layer_column(layer): rng.normal(size=(FRAMES, DIM)).astype("<f2").tobytes() for layer in LAYERS
            }
            row = {"utterance_id": f"u{place}", "first_frame": piece * FRAMES, "num_frames": FRAMES, **cells}
            file.add(place, [row])
    data, num_frames = file.finish(set())
    output = Output(data=data, rows=UTTERANCES, rejects=None, seconds=1.0, num_frames=num_frames, notes={})
    dataset.commit("shard-00000", dataset.announce("shard-00000"), output, {})
    finish(dataset)
    return dataset


def test_pieces_are_the_unit_row_group_by_row_group(features):
    pieces = list(read_pieces(features, "shard-00000"))
    assert len(pieces) > 5
    assert pa.concat_tables(pieces).equals(read_unit(features, "shard-00000"))


def test_no_more_than_a_row_group_is_in_memory(features):
    before = pa.total_allocated_bytes()
    whole = read_unit(features, "shard-00000")
    size = pa.total_allocated_bytes() - before
    assert size >= whole.nbytes
    del whole
    held = []
    for piece in read_pieces(features, "shard-00000"):
        held.append(pa.total_allocated_bytes() - before)
        del piece
    assert max(held) < size / 3


def test_a_damaged_unit_is_refused_before_any_row_is_given(features):
    path = f"{features.uri}/shard-00000.parquet"
    with open(path, "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    features.store.write("shard-00000.parquet", data)
    with pytest.raises(CorruptDatasetError, match=r"shard-00000\.parquet is not what was committed"):
        next(read_pieces(features, "shard-00000"))
    with pytest.raises(CorruptDatasetError, match=r"is not what was committed"):
        read_committed(features, "shard-00000")
    features.store.delete(["shard-00000.parquet"])
    with pytest.raises(CorruptDatasetError, match=r"shard-00000\.parquet is gone"):
        next(read_pieces(features, "shard-00000"))


def test_a_unit_that_is_committed_and_not_shown_yet_is_read_from_the_attempt_that_won(features):
    """As of a driver that was killed, or is just about to show it."""
    store = features.store
    rows = read_unit(features, "shard-00000")
    commit = features.read_commit("shard-00000")
    store.write(commit.data.attempt_file, store.read("shard-00000.parquet"))
    store.delete(["shard-00000.parquet"])
    assert read_unit(features, "shard-00000").equals(rows)


def test_verification_counts_utterances_that_lie_in_several_row_groups_once(features):
    found = inspect(features)
    assert found.faults == []
    assert (found.rows, found.num_frames) == (UTTERANCES, UTTERANCES * PIECES * FRAMES)
    groups = pq.ParquetFile(f"{features.uri}/shard-00000.parquet").num_row_groups
    assert groups > 5
