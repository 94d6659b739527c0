from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kmeans.fit import fixed_point


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_limbs_hold_sums_past_int64_in_one_form(numbers):
    parts = [fixed_point.split_limbs(np.array([number])) for number in numbers]
    high, low = fixed_point.carry(sum(part[0] for part in parts), sum(part[1] for part in parts))
    assert (int(high[0]) << 32) + int(low[0]) == sum(numbers)
    assert 0 <= low[0] < 2**32
    assert fixed_point.limbs_to_float(high, low)[0] == sum(numbers) / 2**24


@given(st.lists(st.floats(0, 2.0**52), max_size=30))
def test_totals_are_sums_of_values_rounded_to_the_unit(values):
    found = fixed_point.total(np.array(values, np.float64))
    assert found == sum(round(Fraction(value) * 2**24) for value in values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**53])
def test_values_without_a_fixed_point_are_refused(bad):
    with pytest.raises(ValueError, match="finite and below"):
        fixed_point.total(np.array([1.0, bad]))


@pytest.mark.parametrize("width", [1, 2, 3, 64, 767])
def test_folding_sums_every_column_once(width):
    values = np.random.default_rng(width).integers(-9, 9, (5, width)).astype(np.float64)
    np.testing.assert_array_equal(fixed_point.fold_columns(values.copy()), values.sum(axis=1))
