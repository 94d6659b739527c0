import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import (
    CorruptDatasetError,
    DatasetError,
    PlanMismatchError,
    SchemaMismatchError,
    TooManyRejectsError,
)
from pipeline.store.completion import Account, check_rejects, finish, status, success
from pipeline.store.dataset import Dataset, Output, Plan, parquet_bytes
from pipeline.store.reading import read_unit
from pipeline.store.redoing import reopen
from pipeline.store.verification import inspect
from pipeline.work.units import Reject, reasons, rejects_table

COLUMNS = pa.schema([("utterance_id", pa.string()), ("num_frames", pa.int32()), ("layer_02", pa.list_(pa.uint16()))])


def plan(units=2, **content):
    return Plan(
        kind="tokens",
        content={"data_version": 1, "layers": [2], "input_sha256": "i", "dtype": "float32", **content},
        lineage={"layers": [2], "dim": 4, "num_clusters": {"layer_02": 10}},
        units=[f"shard-{n:05d}" for n in range(units)],
        totals={"rows": 2 * units, "seconds": 2.0 * units},
    )


def output(dataset, unit, *, reject=False):
    ids = [f"{unit}-a"] + ([] if reject else [f"{unit}-b"])
    table = pa.table({"utterance_id": ids, "num_frames": [2] * len(ids), "layer_02": [[1, 2]] * len(ids)}, COLUMNS)
    rejects = [Reject(utterance_id=f"{unit}-b", uri="x", stage="tokens", reason="empty", detail="0 bytes")] * reject
    return Output(
        data=parquet_bytes(table, dataset.plan.lineage),
        rows=len(ids),
        rejects=rejects_table(rejects),
        seconds=1.0 * len(ids),
        num_frames=2 * len(ids),
        notes={"reasons": reasons(rejects)},
    )


def complete(uri, **kwargs):
    dataset = Dataset.create(uri, plan())
    for unit in dataset.pending():
        dataset.commit(unit, dataset.announce(unit), output(dataset, unit, **kwargs), {"device": "cpu"})
    finish(dataset)
    return dataset


def test_the_end_of_a_stage_reads_each_commit_once_and_holds_none(tmp_path, monkeypatch):
    dataset = Dataset.create(str(tmp_path / "d"), plan(units=7))
    for unit in dataset.pending():
        dataset.commit(unit, dataset.announce(unit), output(dataset, unit), {"device": "cpu"})
    # As after a kill between commit and publication.
    (tmp_path / "d" / "shard-00003.parquet").unlink()
    monkeypatch.setattr("pipeline.store.dataset.AT_ONCE", 3)
    monkeypatch.setattr("pipeline.store.completion.AT_ONCE", 2)
    read, read_many = [], dataset.store.read_many
    monkeypatch.setattr(dataset.store, "read_many", lambda names: read.extend(names) or read_many(names))
    account = Account.of(dataset)
    now = account.status()
    digest = finish(dataset, account=account)
    assert read == [f"_commits/shard-{n:05d}.json" for n in range(7)]
    assert (now.done, now.rows, now.seconds, now.num_frames) == (7, 14, 14.0, 28)
    assert [commit.unit for commit in account._hidden] == ["shard-00003"]
    assert inspect(dataset).faults == []
    assert finish(dataset) == digest


def test_an_account_that_is_not_of_every_unit_is_made_anew(tmp_path):
    dataset = Dataset.create(str(tmp_path / "d"), plan())
    first, second = dataset.pending()
    dataset.commit(first, dataset.announce(first), output(dataset, first), {"device": "cpu"})
    account = Account.of(dataset)
    dataset.commit(second, dataset.announce(second), output(dataset, second), {"device": "cpu"})
    finish(dataset, account=account)
    assert inspect(dataset).faults == []


def test_an_account_of_before_a_redo_is_made_anew(tmp_path):
    dataset = Dataset.create(str(tmp_path / "d"), plan())
    for unit in dataset.pending():
        dataset.commit(unit, dataset.announce(unit), output(dataset, unit, reject=True), {"device": "cpu"})
    account = Account.of(dataset)
    for unit in reopen(dataset, ["empty"]):
        dataset.commit(unit, dataset.announce(unit), output(dataset, unit), {"device": "cpu"})
    finish(dataset, account=account)
    found = inspect(dataset)
    assert (found.faults, found.rows, found.rejects) == ([], 4, 0)


def test_a_plain_read_of_the_folder_sees_exactly_the_data(tmp_path):
    complete(str(tmp_path / "d"), reject=True)
    table = pq.read_table(tmp_path / "d")
    assert table["utterance_id"].to_pylist() == ["shard-00000-a", "shard-00001-a"]


def test_rows_and_rejects_add_up_and_the_folder_verifies(tmp_path):
    dataset = complete(str(tmp_path / "d"), reject=True)
    found = inspect(dataset)
    assert (found.rows, found.rejects, found.faults) == (2, 2, [])
    assert found.reject_reasons == {"empty": 2}


@pytest.mark.parametrize("key", ["data_version", "layers", "input_sha256", "dtype"])
def test_another_content_key_is_refused_naming_just_that_key(tmp_path, key):
    complete(str(tmp_path / "d"))
    changed = plan(**{key: "other"})
    with pytest.raises(PlanMismatchError) as caught:
        Dataset.create(str(tmp_path / "d"), changed)
    assert f"{key}: folder has" in str(caught.value)
    assert str(caught.value).count("folder has") == 1


def test_a_folder_with_foreign_files_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(DatasetError, match=r"thesis\.doc"):
        Dataset.create(str(tmp_path), plan())
    assert (tmp_path / "thesis.doc").read_text() == "precious"


def test_another_schema_version_is_refused(tmp_path):
    dataset = complete(str(tmp_path / "d"))
    fields = json.loads(dataset.store.read("_plan.json"))
    dataset.store.write("_plan.json", json.dumps(fields | {"schema_version": 99}).encode())
    with pytest.raises(SchemaMismatchError, match="99"):
        Dataset.open(dataset.uri)


def test_an_unfinished_dataset_is_not_read(tmp_path):
    dataset = Dataset.create(str(tmp_path / "d"), plan())
    with pytest.raises(DatasetError, match="not finished"):
        Dataset.open(dataset.uri)
    with pytest.raises(DatasetError, match="lacks 2 of 2"):
        finish(dataset)


def test_another_kind_is_refused(tmp_path):
    dataset = complete(str(tmp_path / "d"))
    with pytest.raises(DatasetError, match="features dataset is needed"):
        Dataset.open(dataset.uri, kind="features")


@pytest.mark.parametrize("name", ["shard-00001.parquet", "_rejects/shard-00000.parquet", "_commits/shard-00000.json"])
def test_one_flipped_byte_is_found_and_named(tmp_path, name):
    dataset = complete(str(tmp_path / "d"), reject=True)
    data = bytearray(dataset.store.read(name))
    data[len(data) // 2] ^= 1
    (tmp_path / "d" / name).unlink()
    (tmp_path / "d" / name).write_bytes(data)
    try:
        faults = inspect(dataset).faults
    except CorruptDatasetError as error:
        faults = [str(error)]
    assert any(name.split("/")[-1] in fault or "differs from the commits" in fault for fault in faults)
    assert faults


def test_flipped_data_is_refused_by_readers(tmp_path):
    dataset = complete(str(tmp_path / "d"))
    path = tmp_path / "d" / "shard-00000.parquet"
    whole = path.read_bytes()
    refused = 0
    for position in range(4, len(whole) - 8, 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.unlink()
        path.write_bytes(damaged)
        try:
            same = read_unit(dataset, "shard-00000").to_pylist()
        except (CorruptDatasetError, SchemaMismatchError):
            refused += 1
        else:
            assert [row["layer_02"] for row in same] == [[1, 2], [1, 2]]
    assert refused > 0


def test_missing_foreign_and_swapped_files_are_found(tmp_path):
    dataset = complete(str(tmp_path / "d"))
    folder = tmp_path / "d"
    (folder / "shard-00000.parquet").unlink()
    (folder / "stray.parquet").write_bytes((folder / "shard-00001.parquet").read_bytes())
    faults = "\n".join(inspect(dataset).faults)
    assert "shard-00000.parquet is gone" in faults
    assert "stray.parquet is in no commit" in faults


def test_status_tells_done_pending_and_rejects(tmp_path):
    dataset = Dataset.create(str(tmp_path / "d"), plan(units=3))
    unit = dataset.pending()[0]
    dataset.commit(unit, dataset.announce(unit), output(dataset, unit, reject=True), {})
    now = status(dataset)
    assert (now.done, now.pending, now.rows, now.rejects, now.finished) == (1, 2, 1, 1, False)
    assert now.reasons == {"empty": 1}


def test_too_many_rejects_stop_with_the_counts(tmp_path):
    dataset = complete(str(tmp_path / "d"), reject=True)
    check_rejects(status(dataset), 0.5)
    with pytest.raises(TooManyRejectsError, match=r"2 of 4 utterances were rejected \(empty 2\)"):
        check_rejects(status(dataset), 0.49)


def test_mixing_machines_is_refused_unless_asked_for(tmp_path):
    dataset = Dataset.create(str(tmp_path / "d"), plan())
    dataset.claim_numerics({"device": "cpu x86"}, "same")
    dataset.claim_numerics({"device": "cpu x86"}, "same")
    with pytest.raises(PlanMismatchError, match="device"):
        dataset.claim_numerics({"device": "H100"}, "same")
    dataset.claim_numerics({"device": "H100"}, "any")


def test_the_dataset_hash_follows_content_not_attempts(tmp_path):
    first, second = (success(complete(str(tmp_path / name)))["dataset_sha256"] for name in ("a", "b"))
    other = success(complete(str(tmp_path / "c"), reject=True))["dataset_sha256"]
    assert first == second != other
