import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.features.feature_file import FeatureFile

COLUMNS = schema.features([1, 4], sampled=False)


def row(name, first, frames):
    cell = np.full((frames, 8), first + 0.5, "<f2").tobytes()
    return {"utterance_id": name, "first_frame": first, "num_frames": frames, "layer_01": cell, "layer_04": cell}


def filled(spill_bytes):
    file = FeatureFile(COLUMNS, {"kind": "features"}, spill_bytes=spill_bytes)
    file.add(2, [row("c", 0, 5)])
    file.add(0, [row("a", 0, 7)])
    for first in range(0, 100, 10):
        file.add(1, [row("b", first, 10)])
    return file


def read(data):
    return pq.read_table(pa.BufferReader(pa.py_buffer(data)))


def test_a_small_file_is_one_row_group_in_the_order_of_the_shard():
    data, frames = filled(1 << 20).finish(set())
    assert frames == 112
    assert pq.ParquetFile(pa.BufferReader(pa.py_buffer(data))).num_row_groups == 1
    table = read(data)
    assert table["utterance_id"].to_pylist() == ["a", *["b"] * 10, "c"]
    assert table.schema.metadata[schema.LINEAGE_KEY] == b'{"kind":"features"}'


@pytest.mark.parametrize("rejected", [set(), {1}, {0, 2}, {0, 1, 2}])
def test_a_large_file_holds_the_same_rows_in_several_groups(rejected):
    small, frames = filled(1 << 20).finish(rejected)
    large, same = filled(500).finish(rejected)
    assert frames == same
    assert pq.ParquetFile(pa.BufferReader(pa.py_buffer(large))).num_row_groups > 3
    key = [("utterance_id", "ascending"), ("first_frame", "ascending")]
    assert read(large).sort_by(key).equals(read(small).sort_by(key))
    assert read(large).schema.metadata == read(small).schema.metadata


def test_the_same_rows_give_the_same_bytes():
    assert bytes(filled(500).finish({2})[0]) == bytes(filled(500).finish({2})[0])


def test_a_file_without_rows_is_a_file():
    data, frames = FeatureFile(COLUMNS, {}).finish(set())
    assert (frames, read(data).num_rows) == (0, 0)
