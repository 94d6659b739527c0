"""Alignments are read from CSV and Parquet, and a wrong one is refused by name."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audio.alignment import Alignment, Intervals, Names
from pipeline.audio.manifest import encode_id
from pipeline.errors import SettingsError


@pytest.fixture
def alignment(tmp_path):
    path = tmp_path / "phones.csv"
    lines = ["a,0.06,0.12,AH", "a,0.0,0.06,S", "b,0.0,0.03,S", "x,0,9,T"]
    path.write_text("utterance_id,start_seconds,end_seconds,label\n" + "\n".join(lines))
    return path


def test_of_intervals_that_overlap_the_later_one_counts_and_gaps_have_no_label():
    found = Intervals(starts=np.array([0.0, 0.05]), ends=np.array([0.1, 0.07]), labels=np.array([4, 5]))
    assert found.at(np.array([0, 2, 3, 9]), 0.02).tolist() == [4, 5, -1, -1]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_alignments_are_read_from_csv_and_parquet(alignment, tmp_path, kind):
    path = alignment
    if kind == "parquet":
        names = ["a", "a", "b", "x"]
        times = pa.array([0.0, 0.06, 0, 0], pa.float32())
        ends = pa.array([0.06, 0.12, 0.03, 9], pa.float32())
        columns = {"label": ["S", "AH", "S", "T"], "more": names, "end_seconds": ends, "start_seconds": times}
        path = tmp_path / "phones.parquet"
        pq.write_table(pa.table({**columns, "utterance_id": names}), path)
    reader = Alignment(str(path))
    found = reader.intervals(["a"], reader.values())
    assert list(found) == ["a"]
    assert found["a"].labels.tolist() == [1, 0]
    np.testing.assert_allclose(found["a"].starts, [0, 0.06])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("utterance_id,start_seconds,end_seconds\na,0,1\n", "label"),
        ("utterance_id,start_seconds,end_seconds,label\na,zero,1,S\n", "cannot be read"),
        ("utterance_id,start_seconds,end_seconds,label\na,2,1,S\n", "ends before it begins"),
        ("utterance_id,start_seconds,end_seconds,label\n", "no intervals"),
        ("", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_alignment_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "wrong.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        Alignment(str(path)).values()
    assert "wrong.csv" in str(caught.value)


def test_utterances_are_found_by_their_ids_and_by_what_these_encode():
    long = "speaker/" + 60 * "\u00e9"
    shortened = encode_id(long)
    assert ".h" in shortened
    names = Names(["plain", "spk1._utt1", "a._b", "a.._b", shortened])
    given = ["plain", "spk1/utt1", "spk1._utt1", "a/b", "a._b", long, "other", "spk1/utt2", "x" * 300]
    # ``a._b`` is an id, so it is not looked for as the text that ``a.._b`` encodes.
    expected = ["plain", "spk1._utt1", "spk1._utt1", "a._b", "a._b", shortened, None, None, None]
    assert names.find(pa.array(given)).to_pylist() == expected


def test_intervals_of_a_path_are_those_of_its_utterance(tmp_path):
    path = tmp_path / "phones.csv"
    path.write_text("utterance_id,start_seconds,end_seconds,label\nspk1/utt1,0,1,S\nspk1/utt2,0,1,T\n")
    reader = Alignment(str(path))
    found = reader.intervals(["spk1._utt1"], reader.values())
    assert {name: intervals.labels.tolist() for name, intervals in found.items()} == {"spk1._utt1": [0]}
