"""A byte of an export that has changed is found, and its file is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_export import config_of, documents_of
from made_export_kills import export_in_child
from made_tokens import write_corpus_of_tones

from pipeline.errors import CorruptDatasetError, DatasetError
from pipeline.export.read_export import read_export
from pipeline.export.stage import export_tokens
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

SETTINGS = {"bpe_merges": 5, "shard_ids": 150, "order": "shuffled", "valid_fraction": 0.2}
NAMES = (
    "vocabulary.json",
    "card.json",
    "bpe/tokenizer.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "_parts/part-000.json",
    "_vocabularies/part-000.json",
    "sequences/part-000/_plan.json",
    "sequences/part-000/_statistics/shard-00001.json",
    "sequences/part-000/shard-00001.parquet",
    "scattered/part-000/group-00000.parquet",
    "megatron/part-000/_plan.json",
    "megatron/part-000/train-00000.bin",
    "megatron/part-000/train-00000.idx",
    "megatron/part-000/train-00000.meta.parquet",
    "parquet/part-000/valid-00000.parquet",
)


def export(corpus, output, **more):
    return config_of(corpus, output, **(SETTINGS | more))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + number % 3 / 10 for number in range(32)], per_shard=8)
    return folder


@pytest.fixture(scope="module")
def output(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rot") / "export"
    assert export_in_child(export(corpus, folder))[:2] == (0, None)
    return folder


def check(output):
    return verify_dataset(VerifyDatasetConfig(dataset=str(output), num_threads=1))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), place=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_found_by_verify_dataset_which_names_the_file(output, name, place, bit):
    path = output / name
    good = path.read_bytes()
    bad = bytearray(good)
    bad[place % len(bad)] ^= 1 << bit
    path.write_bytes(bad)
    try:
        with pytest.raises(DatasetError, match=name):
            check(output)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_plan.json")])
def test_a_file_that_is_gone_is_named(output, name):
    path = output / name
    good = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(CorruptDatasetError, match=f"{name} is gone"):
            check(output)
    finally:
        path.write_bytes(good)
    assert check(output).faults == []


def test_a_bit_that_flips_in_a_sequence_is_refused_by_its_reader(output):
    path = output / "sequences" / "part-000" / "shard-00002.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:2000] + bytes([good[2000] ^ 1]) + good[2001:])
    try:
        with pytest.raises(CorruptDatasetError, match="shard-00002.parquet is not what was committed"):
            list(read_export(str(output)))
    finally:
        path.write_bytes(good)


def test_what_people_write_into_the_readme_is_no_fault(output):
    with (output / "README.md").open("a") as file:
        file.write("A line of our own.\n")
    assert check(output).rows == 32


def test_a_scattered_row_group_that_has_changed_is_refused(tmp_path):
    write_corpus_of_tones(tmp_path, [0.5] * 12)
    config = config_of(tmp_path, tmp_path / "out", order="shuffled", formats=("megatron",))
    export_tokens(config)
    (file,) = (tmp_path / "out" / "scattered" / "part-000").glob("group-*.parquet")
    data = bytearray(file.read_bytes())
    for place in (len(data) // 2, len(data) - 60):
        changed = bytearray(data)
        changed[place] ^= 4
        file.unlink()
        file.write_bytes(changed)
        with pytest.raises(CorruptDatasetError, match="group-00000.parquet"):
            export_tokens(config.but(formats=("olmo",)))
    file.unlink()
    file.write_bytes(data)
    export_tokens(config.but(formats=("olmo",)))
    assert documents_of(tmp_path / "out", "olmo") == documents_of(tmp_path / "out", "megatron")
