import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.batching import pad_waste, plan_batches

LENGTHS = st.lists(st.integers(1, 40), max_size=40)
BUDGETS = st.integers(1, 120)


@given(LENGTHS, BUDGETS, st.booleans())
def test_every_row_is_in_exactly_one_batch(lengths, budget, equal):
    batches = plan_batches(lengths, max_batch_samples=budget, equal_lengths=equal)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS, st.booleans())
def test_padded_samples_stay_within_the_budget_unless_one_utterance_exceeds_it(lengths, budget, equal):
    for batch in plan_batches(lengths, max_batch_samples=budget, equal_lengths=equal):
        assert batch.num_samples == max(lengths[row] for row in batch.rows)
        assert len(batch.rows) * batch.num_samples <= budget or len(batch.rows) == 1


@given(LENGTHS, BUDGETS)
def test_equal_lengths_are_kept_apart_from_others_and_waste_nothing(lengths, budget):
    batches = plan_batches(lengths, max_batch_samples=budget, equal_lengths=True)
    assert all(len({lengths[row] for row in batch.rows}) == 1 for batch in batches)
    assert pad_waste(lengths, batches) == 0


@given(LENGTHS, BUDGETS)
def test_no_two_neighbouring_batches_would_fit_into_one(lengths, budget):
    batches = plan_batches(lengths, max_batch_samples=budget, equal_lengths=False)
    for first, second in zip(batches, batches[1:], strict=False):
        assert (len(first.rows) + 1) * min(lengths[row] for row in second.rows) > budget


def test_rows_of_one_length_keep_their_order():
    batches = plan_batches([5, 3, 5, 5, 3], max_batch_samples=10, equal_lengths=False)
    assert [batch.rows for batch in batches] == [(1, 4), (0, 2), (3,)]


def test_pad_waste_is_the_share_of_zeros_that_are_encoded():
    lengths = [2, 4]
    assert pad_waste(lengths, plan_batches(lengths, max_batch_samples=8, equal_lengths=False)) == 0.25
    assert pad_waste([], []) == 0


@pytest.mark.parametrize(("lengths", "budget"), [([4, 0], 8), ([4], 0)])
def test_lengths_and_budgets_below_one_are_refused(lengths, budget):
    with pytest.raises(ValueError, match="at least 1"):
        plan_batches(lengths, max_batch_samples=budget, equal_lengths=False)
