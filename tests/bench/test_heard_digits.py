"""Digits are read from letters wherever spaces are, and errors stay errors."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.heard_digits import digits_of, error_rates


@pytest.mark.parametrize(
    ("heard", "read"),
    [
        ("ZERO ONE NINE", "ZERO ONE NINE"),
        ("ZEROONENINE", "ZERO ONE NINE"),
        ("ZEROTHREEEIGHTSSIXEIGHTNINENINE", "ZERO THREE EIGHT SIX EIGHT NINE NINE"),
        ("Z ERO ONENI NE", "ZERO ONE NINE"),
        ("FOURNINE", "FOUR NINE"),
        ("", ""),
    ],
)
def test_letters_are_read_as_the_digits_that_they_are_nearest_to(heard, read):
    assert digits_of(heard) == read.split()


def test_a_wrong_digit_counts_in_both_rates_and_a_lost_space_in_one(tmp_path):
    rows = {"reference": ["ONE TWO", "ONE TWO", "SIX SIX"], "hypothesis": ["ONETWO", "ONE TWO", "SIX TEN"]}
    pq.write_table(pa.table(rows), tmp_path / "utterances.parquet")
    words, digits = error_rates(tmp_path)
    assert words.startswith("0.500 (")
    assert digits.startswith("0.167 (")
