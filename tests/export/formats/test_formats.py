"""Each format gives back what was written; what it cannot hold is refused."""

import csv
import gzip
import io
import json
import struct
import tarfile
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given as holds_for
from hypothesis import settings
from hypothesis import strategies as st
from made_documents import NASTY, ONE_LAYER, made_shard, renamed, same, spelling, write_files

from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.formats import fairseq, parquet, units
from pipeline.export.formats.megatron import IndexedIds
from pipeline.export.formats.registry import FORMATS, READERS
from pipeline.export.ids.vocabulary import SPEECH

LENGTHS = st.lists(st.lists(st.integers(0, 40), max_size=3), max_size=6)
SHARD = [[5, 0, 9], [], [30], [1, 1]]
EVERY = pytest.mark.parametrize("form", FORMATS)


def held(form, made):
    return made.units if form in ONE_LAYER else made.ids


@EVERY
@settings(max_examples=25, deadline=None)
@holds_for(
    lengths=LENGTHS,
    text_size=st.sampled_from([0, 300, 70_000]),
    deduplicate=st.booleans(),
    masked=st.booleans(),
    framed=st.booleans(),
)
def test_a_format_gives_back_what_was_written(tmp_path_factory, form, lengths, text_size, deduplicate, masked, framed):
    given = spelling(text_size=text_size, deduplicate=deduplicate)
    made = made_shard(lengths, given=given, masked=masked, framed=framed)
    folder = tmp_path_factory.mktemp("formats")
    write_files(folder, "shard", form, made)
    assert same(READERS[form](str(folder), "shard"), held(form, made))


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ONE_LAYER])
@pytest.mark.parametrize(("text_size", "kind"), [(0, np.uint16), (70_000, np.int32)])
def test_ids_keep_their_type_and_several_layers_their_order(tmp_path, form, text_size, kind):
    made = made_shard(SHARD, given=spelling(columns=("layer_09", "layer_03"), text_size=text_size))
    write_files(tmp_path, "shard", form, made)
    found = list(READERS[form](str(tmp_path), "shard"))
    assert same(found, made.ids)
    assert {ids.dtype for ids in found} == {np.dtype(kind)}


@EVERY
def test_bytes_depend_on_nothing_but_the_documents(tmp_path, monkeypatch, form):
    made = made_shard(SHARD, given=spelling(deduplicate=True))
    first = write_files(tmp_path, "shard", form, made)
    monkeypatch.setattr(time, "time", lambda: 7.0)
    assert write_files(tmp_path, "shard", form, made_shard(SHARD, given=spelling(deduplicate=True))) == first
    assert write_files(tmp_path, "shard", form, made_shard(SHARD, seed=1)) != first


def test_an_index_of_megatron_has_these_bytes(tmp_path):
    made = made_shard([[3], [], [1, 2]], framed=False)
    files = write_files(tmp_path, "shard", "megatron", made)
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 3, 4)
    assert files[".idx"] == header + struct.pack("<3i3q4q", 3, 0, 3, 0, 6, 6, 0, 1, 2, 3)
    assert files[".bin"] == made.documents.ids.tobytes()
    assert pq.read_table(tmp_path / "shard.meta.parquet").equals(made.documents.meta)


def test_a_document_of_megatron_is_found_by_its_number(tmp_path):
    made = made_shard(SHARD, given=spelling(text_size=70_000))
    write_files(tmp_path, "shard", "megatron", made)
    found = IndexedIds(str(tmp_path), "shard")
    assert len(found) == 4
    assert same([found[number] for number in (3, 0, 2, 1)], [made.ids[number] for number in (3, 0, 2, 1)])
    for number in (-1, 4):
        with pytest.raises(IndexError):
            found[number]


@pytest.mark.parametrize("form", ["megatron", "nanotron", "olmo"])
def test_ids_that_were_cut_are_refused(tmp_path, form):
    write_files(tmp_path, "shard", form, made_shard(SHARD))
    path = tmp_path / f"shard{FORMATS[form].EXTENSION}"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CorruptDatasetError, match="shard"):
        list(READERS[form](str(tmp_path), "shard"))


@pytest.mark.parametrize(("place", "value"), [(0, b"X"), (9, b"\x02"), (17, b"\x05"), (18, b"\x07")])
def test_another_index_is_no_index(tmp_path, place, value):
    index = bytearray(write_files(tmp_path, "shard", "megatron", made_shard(SHARD))[".idx"])
    index[place : place + 1] = value
    (tmp_path / "shard.idx").write_bytes(index)
    with pytest.raises(CorruptDatasetError, match=r"shard\.idx"):
        IndexedIds(str(tmp_path), "shard")


@pytest.mark.parametrize(
    ("form", "ending"), [("megatron", ".mask.bin"), ("nanotron", ".ds.loss"), ("olmo", ".mask.bin")]
)
def test_a_loss_mask_is_a_byte_an_id(tmp_path, form, ending):
    made = made_shard(SHARD, masked=True)
    found = np.frombuffer(write_files(tmp_path, "shard", form, made)[ending], dtype=np.uint8)
    assert np.array_equal(found, made.documents.loss_mask)
    assert 0 < found.sum() < len(found)
    assert ending not in FORMATS[form].write(made_shard(SHARD).documents, made.spelling)


def test_spans_of_olmo_are_start_end_id_src_and_loc():
    made = made_shard(SHARD)
    files = FORMATS["olmo"].write(made.documents, made.spelling)
    rows = list(csv.reader(io.StringIO(gzip.decompress(files[".csv.gz"]).decode(), newline="")))
    assert rows == [
        ["0", "16", f"d0 {NASTY[0]}", "corpus/r 0-0.flac", "0"],
        ["16", "18", "", "", "1"],
        ["18", "50", f"d2 {NASTY[2]}", "corpus/r 2-0.flac", "2"],
        ["50", "54", f"d3 {NASTY[3]}", "corpus/r 3-0.flac", "3"],
    ]


@pytest.mark.parametrize(
    ("form", "column", "value"), [("olmo", "document_id", "a\nb"), ("olmo", "uri", "a\rb"), ("fairseq", "uri", "a\tb")]
)
def test_a_name_that_would_break_a_line_is_refused(form, column, value):
    made = renamed(made_shard(SHARD), column, value)
    with pytest.raises(SettingsError, match=f"{form}.*{column}.*rename"):
        FORMATS[form].write(made.documents, made.spelling)


def test_parquet_has_row_groups_of_about_the_size_asked_for(tmp_path, monkeypatch):
    made = made_shard([[count] for count in range(40)], given=spelling(deduplicate=True), masked=True)
    whole = write_files(tmp_path, "whole", "parquet", made)[".parquet"]
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    write_files(tmp_path, "parts", "parquet", made)
    parts = pq.ParquetFile(tmp_path / "parts.parquet")
    assert pq.ParquetFile(io.BytesIO(whole)).num_row_groups == 1
    assert 5 < parts.num_row_groups < 40
    assert parts.read().equals(pq.read_table(io.BytesIO(whole)))
    assert same(READERS["parquet"](str(tmp_path), "parts"), made.ids)


def test_a_row_of_parquet_says_where_its_ids_come_from(tmp_path):
    made = made_shard(SHARD, given=spelling(deduplicate=True), masked=True)
    write_files(tmp_path, "shard", "parquet", made)
    rows = pq.read_table(tmp_path / "shard.parquet").to_pylist()
    meta = made.documents.meta.to_pylist()
    assert [row["document_id"] for row in rows] == [f"d0 {NASTY[0]}", None, f"d2 {NASTY[2]}", f"d3 {NASTY[3]}"]
    found = [utterance for row in rows for utterance in row["utterances"]]
    assert found == [{key: row[key] for key in row if key not in ("document", "document_id")} for row in meta]
    assert [flag for row in rows for flag in row["loss_mask"]] == made.documents.loss_mask.tolist()


@pytest.mark.parametrize("masked", [False, True])
def test_a_tar_is_what_tarfile_and_numpy_would_write(masked):
    made = made_shard(SHARD, given=spelling(text_size=70_000, deduplicate=True), masked=masked)
    found = bytes(FORMATS["webdataset"].write(made.documents, made.spelling)[".tar"])
    with tarfile.open(fileobj=io.BytesIO(found)) as tar:
        texts = {name: tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".json")}
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (start, end) in enumerate(zip(made.documents.starts, made.documents.ends, strict=True)):
            arrays = {"npy": made.documents.ids[start:end]}
            if masked:
                arrays["mask.npy"] = made.documents.loss_mask[start:end]
            for ending, array in arrays.items():
                content = io.BytesIO()
                np.save(content, array, allow_pickle=False)
                add(tar, f"{number:08d}.{ending}", content.getvalue())
            add(tar, f"{number:08d}.json", texts[f"{number:08d}.json"])
    assert found == expected.getvalue()


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("deduplicate", [False, True])
def test_the_json_of_a_tar_says_where_its_ids_come_from(deduplicate):
    made = made_shard(SHARD, given=spelling(deduplicate=deduplicate))
    found = bytes(FORMATS["webdataset"].write(made.documents, made.spelling)[".tar"])
    with tarfile.open(fileobj=io.BytesIO(found)) as tar:
        texts = [json.loads(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith(".json")]
    meta = made.documents.meta.to_pylist()
    for number, (text, ids) in enumerate(zip(texts, made.ids, strict=True)):
        rows = [row for row in meta if row["document"] == number]
        assert text["num_ids"] == len(ids)
        assert text["document_id"] == (rows[0]["document_id"] if rows else None)
        assert text["utterances"] == [
            {key: row[key] for key in row if key not in ("document", "document_id")} for row in rows
        ]


@settings(max_examples=30, deadline=None)
@holds_for(numbers=st.lists(st.lists(st.integers(0, 12_345), max_size=9), max_size=9), batch=st.integers(1, 20))
def test_numbers_are_spelled_the_same_in_any_batches(numbers, batch):
    flat = np.array([number for each in numbers for number in each], dtype=np.int32)
    ends = np.cumsum([len(each) for each in numbers], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "BATCH", batch)
        found = list(units.spelled(flat, ends, "<%d>", ", "))
    assert found == [", ".join(f"<{number}>" for number in each).encode() for each in numbers]


@pytest.mark.parametrize("form", ONE_LAYER)
@pytest.mark.parametrize(
    ("wrong", "masked", "change"),
    [
        ({"columns": ("layer_03", "layer_07")}, False, "layer_03, layer_07; export one layer"),
        ({"num_merges": 9}, False, "export without BPE"),
        ({}, True, "export without interleaved text"),
    ],
)
def test_what_units_of_one_layer_cannot_say_is_refused(form, wrong, masked, change):
    with pytest.raises(SettingsError, match=f"{form}.*{change}"):
        FORMATS[form].check(spelling(**wrong), masked=masked)
    FORMATS[form].check(spelling(), masked=False)


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ONE_LAYER])
def test_the_other_formats_hold_layers_bpe_and_masks(form):
    FORMATS[form].check(spelling(columns=("layer_03", "layer_07"), num_merges=9), masked=True)


@pytest.mark.parametrize("form", ONE_LAYER)
def test_special_tokens_are_left_out_and_text_is_refused(tmp_path, form):
    made = made_shard(SHARD, given=spelling(text_size=300))
    made.documents.ids[5] = made.spelling.vocabulary.special(SPEECH)
    write_files(tmp_path, "shard", form, made)
    assert same(READERS[form](str(tmp_path), "shard"), [np.delete(made.units[0], 4), *made.units[1:]])
    made.documents.ids[6] = 17
    with pytest.raises(CorruptDatasetError, match="id 17 is neither a unit of layer_07"):
        FORMATS[form].write(made.documents, made.spelling)


def test_durations_of_slamkit_give_the_frames_back():
    made = made_shard(SHARD, given=spelling(deduplicate=True))
    content = bytes(FORMATS["slamkit"].write(made.documents, made.spelling)[".jsonl"])
    lines = [json.loads(line) for line in content.splitlines()]
    frames = [sum(each) for each in SHARD]
    assert [sum(line["duration"]) for line in lines] == frames
    assert [len(line["units"]) for line in lines] == [len(line["duration"]) for line in lines]
    assert sum(len(line["units"]) for line in lines) < sum(frames)
    assert [line["file_name"] for line in lines] == [
        "corpus/r 0-0.flac",
        None,
        "corpus/r 2-0.flac",
        "corpus/r 3-0.flac",
    ]


def test_without_deduplication_every_unit_of_slamkit_lasts_one_frame():
    made = made_shard(SHARD)
    content = bytes(FORMATS["slamkit"].write(made.documents, made.spelling)[".jsonl"])
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["duration"] for line in lines] == [[1] * sum(each) for each in SHARD]


def test_a_unit_without_a_duration_is_refused():
    made = renamed(made_shard(SHARD, given=spelling(deduplicate=True)), "durations", [1])
    with pytest.raises(CorruptDatasetError, match="needs a duration"):
        FORMATS["slamkit"].write(made.documents, made.spelling)


def test_the_list_of_fairseq_has_a_line_for_each_line_of_units():
    made = made_shard(SHARD)
    files = FORMATS["fairseq"].write(made.documents, made.spelling)
    lines = files[".tsv"].decode().split("\n")
    assert lines[0] == ""
    assert lines[1:] == [
        f"corpus/r 0-0.flac\t{round((14 / 50 + 3 * 0.013) * 16_000)}",
        "\t0",
        f"corpus/r 2-0.flac\t{round((30 / 50 + 0.013) * 16_000)}",
        f"corpus/r 3-0.flac\t{round((2 / 50 + 2 * 0.013) * 16_000)}",
        "",
    ]
    assert bytes(files[".km"]).count(b"\n") == len(SHARD)


def test_the_dictionary_of_fairseq_has_every_unit_in_order():
    assert fairseq.dictionary(3) == b"0 1\n1 1\n2 1\n"
