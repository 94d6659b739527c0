"""Labels are what was meant, whatever a table made of them on its way: numbers, missing values, big integers."""

import decimal
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise, wav
from made_containers import encoded, write_table, write_tar

from pipeline.audio.alignment import Alignment
from pipeline.audio.fields import parse_json, spelt
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import SettingsError
from pipeline.passed_over import PassedOver

BIG = 2**53 + 1


def labels(corpus, output, **settings):
    report = build_manifest(
        BuildManifestConfig.of(corpus=str(corpus), output=str(output), num_workers=1, runner="here", **settings)
    )
    rows = {row["utterance_id"]: (row["text"], row["speaker"]) for row in pq.read_table(output).to_pylist()}
    return report, rows


def test_json_lines_have_no_speaker_nan_and_one_speaker_1089(tmp_path):
    wav(tmp_path / "a.wav", noise(RATE))
    rows = [
        '"id": "u1", "text": NaN, "speaker": NaN',
        '"id": "u2", "text": "x", "speaker": 1089',
        '"id": "u3", "text": "x", "speaker": 1089.0',
        '"id": "u4", "text": null, "speaker": "1089"',
        f'"id": "u5", "text": 7.0, "speaker": {BIG}',
        f'"id": "u6", "text": 7.25, "speaker": {BIG}.0',
        '"id": 7.0, "text": "NaN", "speaker": "nan"',
        '"id": NaN, "text": "", "speaker": -0.0',
    ]
    (tmp_path / "m.jsonl").write_text("".join(f'{{"audio_filepath": "a.wav", {row}}}\n' for row in rows))
    _, found = labels(tmp_path / "m.jsonl", tmp_path / "m", layout="listing")
    assert found == {
        "u1": (None, None),
        "u2": ("x", "1089"),
        "u3": ("x", "1089"),
        "u4": (None, "1089"),
        "u5": ("7", str(BIG)),
        "u6": ("7.25", str(BIG)),
        "7": ("NaN", "nan"),
        "a": (None, "0"),
    }


def test_a_column_that_one_missing_value_made_float_names_the_speakers_as_before(tmp_path):
    whole = pd.DataFrame({"uri": ["a.wav"] * 3, "id": ["1", "2", "3"], "speaker": [1089, 7, 1089]})
    holed = whole.assign(speaker=[1089, None, 1089])
    wav(tmp_path / "a.wav", noise(RATE))
    for name, table in (("whole", whole), ("holed", holed)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        table.to_csv(tmp_path / f"{name}.tsv", index=False, sep="\t")
        rows = [json.dumps(row) for row in table.to_dict("records")]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        if name == "holed":
            # Not every program tells Arrow what is missing.
            arrow = arrow.set_column(
                2, "speaker", pa.array(table["speaker"].to_numpy(), pa.float64(), from_pandas=False)
            )
        pq.write_table(arrow, tmp_path / f"{name}.parquet")
    assert np.isnan(pq.read_table(tmp_path / "holed.parquet")["speaker"].to_pylist()[1])
    for ending in ("csv", "tsv", "jsonl", "parquet"):
        for name, second in (("whole", "7"), ("holed", None)):
            _, found = labels(tmp_path / f"{name}.{ending}", tmp_path / f"{name}-{ending}", layout="listing")
            assert [speaker for _, speaker in found.values()] == ["1089", second, "1089"], (ending, name)


def test_tars_and_tables_of_audio_read_labels_likewise(tmp_path):
    flac = encoded(noise(RATE))
    members = []
    for name, speaker in (("a", "NaN"), ("b", "1089.0"), ("c", "1089"), ("d", f"{BIG}.0")):
        members += [(f"{name}.flac", flac), (f"{name}.json", f'\ufeff{{"speaker": {speaker}}}'.encode())]
    members += [("e.flac", flac), ("e.txt", "\ufeffyes\r\n".encode())]
    write_tar(tmp_path / "tars" / "t.tar", members)
    _, found = labels(tmp_path / "tars", tmp_path / "m", layout="webdataset")
    assert [speaker for _, speaker in found.values()] == [None, "1089", "1089", str(BIG), None]
    assert found["t._e"][0] == "yes"
    speakers = pa.array([1089.0, float("nan"), 2.5], pa.float64(), from_pandas=False)
    write_table(tmp_path / "tables" / "t.parquet", [(flac, None)] * 3, speaker=speakers)
    _, found = labels(tmp_path / "tables", tmp_path / "n", layout="parquet")
    assert [speaker for _, speaker in found.values()] == ["1089", None, "2.5"]


def test_segment_lists_read_labels_likewise(tmp_path):
    (tmp_path / "c").mkdir()
    wav(tmp_path / "c" / "12.wav", noise(RATE))
    rows = ['"id": 1.0, "speaker": NaN, "text": NaN', '"id": 2, "speaker": 1089.0, "text": 5']
    text = "".join(f'{{"recording": 12.0, "start": 0, "end": 0.5, {row}}}\n' for row in rows)
    (tmp_path / "s.jsonl").write_text(text)
    (tmp_path / "s.csv").write_text("recording,start,end,id,speaker,text\n12,0,0.5,1,,\n12,0,0.5,2,1089.0,5\n")
    for name in ("s.jsonl", "s.csv"):
        settings = {"layout": "folder", "segments": str(tmp_path / name)}
        _, found = labels(tmp_path / "c", tmp_path / f"m-{name}", **settings)
        assert found == {"1": (None, None), "2": ("5", "1089")}, name


def test_names_that_a_table_without_types_spells_as_nothing_are_none_and_counted(tmp_path):
    wav(tmp_path / "a.wav", noise(RATE))
    cells = [("nan", "null"), ("None", "none"), ("<NA>", "nan"), ("Nan", "NaN"), ("ann", "5.0")]
    lines = "".join(f"a.wav,{number},{speaker},{text},nan\n" for number, (speaker, text) in enumerate(cells))
    (tmp_path / "m.csv").write_text("uri,id,speaker,text,language\n" + lines)
    report, found = labels(tmp_path / "m.csv", tmp_path / "m", layout="listing")
    # Words stay: somebody says them; and nan is the code of Min Nan.
    assert found == {str(n): (text, s if n > 2 else None) for n, (s, text) in enumerate(cells)}
    assert set(pq.read_table(tmp_path / "m")["language"].to_pylist()) == {"nan"}
    assert PassedOver.of(report.passed_over)["spelt_missing"] == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1089, "1089"),
        (1089.0, "1089"),
        (0.1, "0.1"),
        (1e20, "1e+20"),
        (float(2**53), "9007199254740992.0"),
        (10**30, "1" + "0" * 30),
        (decimal.Decimal("1089.00"), "1089"),
        (decimal.Decimal("10.50"), "10.50"),
        (float("inf"), "inf"),
        (True, None),
        ([1], None),
        (b"x", None),
    ],
)
def test_a_value_is_spelt_with_the_digits_that_it_has(value, text):
    assert spelt(value) == text


def test_json_keeps_the_digits_of_whole_numbers_past_2_to_the_53():
    row = parse_json(f"[{BIG}, {BIG}.0, 12345678901234567890123.0, 0.5, NaN, -{BIG}.0]")
    assert [spelt(value) for value in row] == [
        str(BIG),
        str(BIG),
        "12345678901234567890123",
        "0.5",
        "nan",
        str(-BIG),
    ]


def test_a_truth_value_is_no_label(tmp_path):
    wav(tmp_path / "a.wav", noise(RATE))
    (tmp_path / "m.jsonl").write_text('{"uri": "a.wav", "speaker": true}\n{"uri": "a.wav", "id": "b"}\n')
    report, _ = labels(tmp_path / "m.jsonl", tmp_path / "m", layout="listing", max_reject_fraction=1.0)
    assert report.reject_reasons == {"bad_row": 1}


def test_alignments_read_labels_likewise(tmp_path):
    columns = {"utterance_id": ["u", "u"], "start_seconds": [0.0, 1.0], "end_seconds": [1.0, 2.0]}
    for label, good in (([1.0, 2.5], True), ([1.0, float("nan")], False)):
        table = pa.table(columns | {"label": pa.array(label, pa.float64(), from_pandas=False)})
        pq.write_table(table, tmp_path / "a.parquet")
        alignment = Alignment(str(tmp_path / "a.parquet"))
        if good:
            assert alignment.values().values == ("1", "2.5")
        else:
            with pytest.raises(SettingsError, match=r"a\.parquet"):
                alignment.values()


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("1089.0", "1089"),
        ("9007199254740993.0", "9007199254740993"),
        ("1e20", "100000000000000000000"),
        ("1E+20", "100000000000000000000"),
        ("0.1234567890123456", "0.1234567890123456"),
        ("-9007199254740993.0", "-9007199254740993"),
    ],
)
def test_numbers_in_json_keep_their_digits_whichever_way_the_line_is_read(written, wanted):
    assert spelt(parse_json(f'{{"speaker": {written}}}')["speaker"]) == wanted
