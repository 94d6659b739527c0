"""Each format is opened by the reader that it is written for, and gives the same ids, document by document."""

import json
import os

import numpy as np
import pytest
import webdataset
from datasets import load_dataset
from datatrove.pipeline.tokens.megatron_tokenizer import MegatronTokenizedFile
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset
from humanize import metric
from hypothesis import example, settings
from hypothesis import given as holds_for
from hypothesis import strategies as st
from made_documents import made_shard, same, spelling, write_files
from megatron.core.datasets.indexed_dataset import IndexedDataset
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

from pipeline.export.formats.fairseq import dictionary
from pipeline.export.formats.nanotron import TOKENIZER, for_people

SHARD = [[5, 0, 9], [], [30], [1, 1], [120]]
WIDTHS = pytest.mark.parametrize(("text_size", "kind"), [(0, np.uint16), (70_000, np.int32)])


@WIDTHS
@pytest.mark.parametrize("mmap", [True, False])
def test_megatron_core_reads_our_documents(tmp_path, text_size, kind, mmap):
    made = made_shard(SHARD, given=spelling(text_size=text_size))
    write_files(tmp_path, "shard", "megatron", made)
    found = IndexedDataset(str(tmp_path / "shard"), mmap=mmap)
    assert len(found) == len(SHARD)
    assert same([found[number] for number in (3, 0, 4, 1, 2)], [made.ids[number] for number in (3, 0, 4, 1, 2)])
    assert found[0].dtype == kind
    assert found.document_indices.tolist() == list(range(len(SHARD) + 1))
    assert found.sequence_lengths.tolist() == [len(ids) for ids in made.ids]
    assert np.array_equal(found.get(4, offset=20, length=50), made.ids[4][20:70])


@WIDTHS
@pytest.mark.parametrize("lengths", [SHARD, [[7]], []])
def test_megatron_files_are_those_of_datatrove(tmp_path, text_size, kind, lengths):
    made = made_shard(lengths, given=spelling(text_size=text_size), framed=False)
    ours = write_files(tmp_path, "ours", "megatron", made)
    theirs = MegatronTokenizedFile(str(tmp_path), "theirs", token_size=kind().itemsize)
    for ids in made.ids:
        theirs.write(ids.tolist())
    theirs.close()
    for ending in (".bin", ".idx"):
        assert (tmp_path / f"theirs{ending}").read_bytes() == ours[ending]


@WIDTHS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", [SHARD, [[7]], []])
def test_nanotron_files_are_those_of_datatrove(tmp_path, text_size, kind, masked, lengths):
    made = made_shard(lengths, given=spelling(text_size=text_size), masked=masked)
    ours = write_files(tmp_path, "ours", "nanotron", made)
    theirs = TokenizedFile(
        str(tmp_path),
        "theirs.ds",
        save_loss_metadata=masked,
        tokenizer_name_or_path=TOKENIZER,
        save_final_metadata=True,
        token_size=kind().itemsize,
    )
    for start, end in zip(made.documents.starts, made.documents.ends, strict=True):
        mask = made.documents.loss_mask
        theirs.write(made.documents.ids[start:end].tolist(), mask[start:end] if masked else None)
    theirs.close()
    written = {path.name.removeprefix("theirs"): path.read_bytes() for path in tmp_path.glob("theirs*")}
    assert written == ours


@settings(max_examples=200, deadline=None)
@holds_for(count=st.integers(0, 10**18))
@example(count=0)
@example(count=999)
@example(count=1000)
@example(count=9_995)
@example(count=9_999)
@example(count=99_949)
@example(count=99_950)
@example(count=999_499)
@example(count=999_500)
@example(count=999_999_999)
def test_the_number_for_people_is_datatroves(count):
    assert for_people(count) == metric(count, unit="T")


@WIDTHS
def test_datatroves_dataset_reads_our_ids_and_where_documents_begin(tmp_path, text_size, kind):
    made = made_shard(SHARD, given=spelling(text_size=text_size))
    write_files(tmp_path, "shard", "nanotron", made)
    num_ids = len(made.documents.ids)
    whole = DatatroveFileDataset(
        str(tmp_path / "shard.ds"), seq_len=num_ids - 1, token_size=kind().itemsize, return_positions=True
    )
    assert len(whole) == 1
    ids, positions = whole[0]["input_ids"].numpy(), whole[0]["positions"].numpy()
    assert same(np.split(ids, np.flatnonzero(positions == 0)[1:]), made.ids)


@WIDTHS
def test_nanotrons_reader_finds_a_document_by_its_number(tmp_path, text_size, kind):
    # Windows of documents of one length are documents; nanotron's Nanoset reads folders by this class.
    made = made_shard([[12]] * 7, given=spelling(text_size=text_size))
    write_files(tmp_path, "shard", "nanotron", made)
    found = DatatroveFolderDataset(str(tmp_path), seq_len=13, filename_pattern="*.ds", token_size=kind().itemsize)
    assert len(found) == 7
    assert same([found[number]["input_ids"] for number in (5, 0, 6, 2)], [made.ids[number] for number in (5, 0, 6, 2)])


@WIDTHS
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_our_parquet(tmp_path, text_size, kind, streaming):
    made = made_shard(SHARD, given=spelling(text_size=text_size, deduplicate=True), masked=True)
    write_files(tmp_path, "shard-00000", "parquet", made)
    rows = load_dataset(
        "parquet",
        data_files=str(tmp_path / "*.parquet"),
        split="train",
        streaming=streaming,
        cache_dir=str(tmp_path / "cache"),
    )
    assert str(rows.features["input_ids"].feature.dtype) == np.dtype(kind).name
    found = list(rows)
    assert same([row["input_ids"] for row in found], made.ids)
    assert [flag for row in found for flag in row["loss_mask"]] == made.documents.loss_mask.tolist()
    durations = [utterance["durations"] for row in found for utterance in row["utterances"]]
    assert durations == made.documents.meta["durations"].to_pylist()
    if not streaming:
        assert same([rows[number]["input_ids"] for number in (3, 0)], [made.ids[3], made.ids[0]])


@WIDTHS
def test_webdataset_reads_our_tars(tmp_path, text_size, kind):
    made = made_shard(SHARD, given=spelling(text_size=text_size), masked=True)
    for name in ("shard-00000", "shard-00001"):
        write_files(tmp_path, name, "webdataset", made)
    shards = str(tmp_path / "shard-{00000..00001}.tar")
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())
    assert same([sample["npy"] for sample in samples], made.ids * 2)
    assert samples[0]["npy"].dtype == kind
    assert [sample["__key__"] for sample in samples[: len(SHARD)]] == [f"{key:08d}" for key in range(len(SHARD))]
    assert [sample["json"]["num_ids"] for sample in samples] == [len(ids) for ids in made.ids] * 2
    masks = np.concatenate([sample["mask.npy"] for sample in samples[: len(SHARD)]])
    assert np.array_equal(masks, made.documents.loss_mask)


def slamkit_tokenizer(num_units):
    """Split what lies between brackets into words, as SlamKit's WordLevel tokenizer does; unit k is id k."""
    tokenizer = Tokenizer(WordLevel({f"<Un{unit}>": unit for unit in range(num_units)}, unk_token="<UNK>"))
    tokenizer.pre_tokenizer = Split(pattern=Regex(">"), behavior="merged_with_previous")
    return tokenizer


def test_slamkits_two_readers_read_our_lines(tmp_path):
    made = made_shard(SHARD, given=spelling(deduplicate=True))
    content = write_files(tmp_path, "shard", "slamkit", made)[".jsonl"]
    # prepare_tokens reads lines by json and asks for units; training reads the file by datasets, and audio_repr.
    assert same([json.loads(line)["units"] for line in content.decode().splitlines()], made.units)
    rows = load_dataset(
        "json", data_files={"train": [str(tmp_path / "shard.jsonl")]}, split="train", cache_dir=str(tmp_path / "cache")
    )
    tokenizer = slamkit_tokenizer(50)
    assert same([tokenizer.encode(row["audio_repr"]).ids for row in rows], made.units)


def test_lines_and_dictionary_are_what_fairseq_expects(tmp_path):
    # fairseq installs on no Python that Strata runs on; this is what its hubert_dataset and Dictionary do with them.
    made = made_shard(SHARD)
    files = write_files(tmp_path, "train", "fairseq", made)
    symbols = [line.rsplit(" ", 1) for line in dictionary(50).decode().splitlines()]
    index = {symbol: place for place, (symbol, count) in enumerate(symbols) if int(count)}
    labels = [line.rstrip() for line in files[".km"].decode().splitlines()]
    assert same([[index[word] for word in label.split()] for label in labels], made.units)
    root, *lines = files[".tsv"].decode().splitlines()
    names = [line.strip("\n").split("\t") for line in lines]
    assert (root, len(names)) == ("", len(labels))
    assert all(len(items) == 2 and int(items[1]) >= 0 for items in names)
    assert os.path.join(root, names[0][0]) == "corpus/r 0-0.flac"
