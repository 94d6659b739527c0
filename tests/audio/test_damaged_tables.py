"""A Parquet file that is cut or damaged, or lacks the column, costs itself and none of those beside it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise, wav
from made_containers import encoded, write_table

from pipeline.audio.corpora import read_corpus
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

FLACS = [encoded(noise(RATE // 2, seed=seed)) for seed in range(6)]


def manifest_of(corpus, output, layout="parquet", **settings):
    report = build_manifest(
        BuildManifestConfig.of(
            corpus=str(corpus),
            layout=layout,
            output=str(output),
            num_workers=1,
            runner="here",
            max_reject_fraction=1.0,
            **settings,
        )
    )
    rejects = pq.read_table(f"{output}/_rejects").to_pylist()
    return report, [row["utterance_id"] for row in pq.read_table(output).to_pylist()], rejects


def tables(folder, middle):
    """Write three tables; ``middle`` spoils the one between the others."""
    for name in "abc":
        write_table(folder / f"{name}.parquet", [(flac, None) for flac in FLACS], text=[*"uvwxyz"], row_group_size=2)
    middle(folder / "b.parquet")
    return folder


def page_of(path, column, group):
    """Say where the first page of a column lies in a row group."""
    place = pq.ParquetFile(path).metadata.row_group(group)
    chunks = (place.column(index) for index in range(place.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    return chunk.dictionary_page_offset or chunk.data_page_offset


def spoil(path, column="text", group=1):
    """Overwrite the header of a page."""
    data = bytearray(path.read_bytes())
    place = page_of(path, column, group)
    data[place : place + 12] = b"\xff" * 12
    path.write_bytes(data)


def cut(share):
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


WHOLE = {
    "cut": cut(0.5),
    "cut near its end": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": cut(0),
    "no Parquet": lambda path: path.write_bytes(b"no table at all" * 100),
    "zeros at the end": lambda path: path.write_bytes(path.read_bytes()[:-20] + bytes(20)),
    "no column of audio": lambda path: pq.write_table(pa.table({"text": ["x"]}), path),
    "a column of paths": lambda path: pq.write_table(pa.table({"audio": ["a.wav"], "text": ["x"]}), path),
}


@pytest.mark.parametrize("fault", WHOLE)
@pytest.mark.parametrize("column", [None, "audio"], ids=["found", "named"])
def test_a_file_that_cannot_be_read_is_one_reject_among_good_ones(tmp_path, fault, column):
    settings = {} if column is None else {"audio_column": column}
    folder = tables(tmp_path / "c", WHOLE[fault])
    report, rows, rejects = manifest_of(folder, tmp_path / "m", **settings)
    assert rows == [f"{name}._{number}" for name in "ac" for number in range(6)]
    assert [(row["utterance_id"], row["uri"]) for row in rejects] == [("b._.-lost", str(folder / "b.parquet"))]
    assert str(folder / "b.parquet") in rejects[0]["detail"]
    assert report.rejects == 1


@pytest.mark.parametrize("first", ["a.parquet", "b.parquet", "c.parquet"])
def test_which_file_is_damaged_does_not_matter(tmp_path, first):
    folder = tables(tmp_path / "c", lambda path: cut(0.5)(path.with_name(first)))
    _, rows, rejects = manifest_of(folder, tmp_path / "m")
    assert (len(rows), len(rejects)) == (12, 1)


def test_a_damaged_row_group_is_one_reject_and_the_other_rows_keep_their_names(tmp_path):
    folder = tables(tmp_path / "c", spoil)
    _, rows, rejects = manifest_of(folder, tmp_path / "m")
    assert rows == [f"{name}._{number}" for name in "abc" for number in range(6) if (name, number // 2) != ("b", 1)]
    assert [row["utterance_id"] for row in rejects] == ["b._.-lost1"]
    assert "rows 2 to 3" in rejects[0]["detail"]


def test_a_corpus_of_nothing_but_damage_is_an_error_that_names_it(tmp_path):
    folder = tables(tmp_path / "c", cut(0.5))
    for name in "ac":
        cut(0.5)(folder / f"{name}.parquet")
    with pytest.raises(ManifestError, match=r"a\.parquet cannot be read as Parquet"):
        list(read_corpus(str(folder), "parquet", passed_over=PassedOver()))


def test_a_store_that_does_not_give_a_file_is_no_reject(tmp_path):
    folder = tables(tmp_path / "c", lambda path: None)
    (folder / "list.txt").write_text("\ufeffa.parquet\nnone.parquet\r\n")
    with pytest.raises(ManifestError, match=r"none\.parquet"):
        list(read_corpus(str(folder / "list.txt"), "parquet", passed_over=PassedOver()))


def test_a_damaged_row_group_of_a_listing_is_one_reject(tmp_path):
    wav(tmp_path / "a.wav", noise(RATE))
    table = pa.table({"uri": ["a.wav"] * 6, "id": [*"123456"], "text": [*"uvwxyz"]})
    pq.write_table(table, tmp_path / "l.parquet", row_group_size=2)
    spoil(tmp_path / "l.parquet")
    _, rows, rejects = manifest_of(tmp_path / "l.parquet", tmp_path / "m", layout="listing")
    assert rows == [*"1256"]
    assert [row["reason"] for row in rejects] == ["bad_row"]
    assert "row 3 of the listing: and those up to 4 are lost" in rejects[0]["detail"]


@pytest.mark.parametrize("name", ["l.jsonl", "l.csv", "l.tsv"])
def test_a_listing_that_is_cut_in_a_row_costs_that_row(tmp_path, name):
    wav(tmp_path / "a.wav", noise(RATE))
    rows = {
        "l.jsonl": '{"uri": "a.wav", "id": "%s", "text": "hello"}\n',
        "l.csv": '"a.wav",%s,"hello"\n',
        "l.tsv": "a.wav\t%s\thello\n",
    }
    head = {"l.jsonl": "", "l.csv": "uri,id,text\n", "l.tsv": "uri\tid\ttext\n"}[name]
    text = head + "".join(rows[name] % number for number in range(3))
    # In TSV a cut inside the last cell cannot be told; here it is one in the middle of the row.
    (tmp_path / name).write_text(text[: -9 if name == "l.tsv" else -4])
    _, rows, rejects = manifest_of(tmp_path / name, tmp_path / "m", layout="listing")
    assert rows == ["0", "1"]
    assert [row["reason"] for row in rejects] == ["bad_row"]
