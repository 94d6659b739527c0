"""Error rates against hand counts, and what no reference or no hypothesis gives."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics.error_rates import count_errors, total

TEXTS = st.lists(st.text("ab ", max_size=12), min_size=1, max_size=5)


def rate(references, hypotheses, unit="words"):
    return total(count_errors(references, hypotheses, unit=unit)).rate


def test_errors_are_those_counted_by_hand():
    (row,) = count_errors(["one two three four"], ["one too four five"], unit="words")
    assert (row.substitutions + row.deletions + row.insertions, row.errors, row.length) == (3, 3, 4)
    (row,) = count_errors(["abcd"], ["abd"], unit="characters")
    assert (row.substitutions, row.deletions, row.insertions, row.length, row.rate) == (0, 1, 0, 4, 0.25)


def test_the_rate_of_a_set_is_of_all_words_and_no_mean_of_rates():
    assert rate(["a", "a b c"], ["b", "a b c"]) == 1 / 4


def test_an_empty_reference_makes_every_word_an_insertion():
    assert rate(["", "a b"], ["x y", "a b"]) == 2 / 2
    assert rate([""], ["x y z"]) == 3
    assert rate(["  "], [""]) == 0


def test_an_empty_hypothesis_deletes_every_word():
    (row,) = count_errors(["a b c"], [" "], unit="words")
    assert (row.deletions, row.errors, row.rate) == (3, 3, 1.0)


def edits(reference, hypothesis):
    before = list(range(len(hypothesis) + 1))
    for number, symbol in enumerate(reference, 1):
        now = [number]
        for place, other in enumerate(hypothesis, 1):
            now.append(min(before[place] + 1, now[-1] + 1, before[place - 1] + (symbol != other)))
        before = now
    return before[-1]


@given(TEXTS, TEXTS)
def test_errors_are_the_fewest_edits(references, hypotheses):
    for reference, hypothesis in zip(references, hypotheses, strict=False):
        (row,) = count_errors([reference], [hypothesis], unit="words")
        assert row.errors == edits(reference.split(), hypothesis.split())
        assert row.length == len(reference.split())
