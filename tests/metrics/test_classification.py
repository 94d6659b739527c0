"""Recall and confusion against hand counts."""

import numpy as np
import pytest

from pipeline.metrics.classification import accuracy, confusion_matrix, recalls, unweighted_average_recall


def test_figures_are_those_counted_by_hand():
    confusion = confusion_matrix(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0]), 3)
    assert confusion.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert accuracy(confusion) == 4 / 6
    np.testing.assert_array_equal(recalls(confusion), [0.75, 0.5, np.nan])
    assert unweighted_average_recall(confusion) == (0.75 + 0.5) / 2


def test_a_class_taken_always_has_the_recall_of_chance_however_common_it_is():
    confusion = confusion_matrix(np.array([0] * 90 + [1] * 10), np.zeros(100, np.int64), 2)
    assert (accuracy(confusion), unweighted_average_recall(confusion)) == (0.9, 0.5)


def test_no_utterances_give_no_figure():
    confusion = confusion_matrix(np.array([], np.int64), np.array([], np.int64), 2)
    assert np.isnan(accuracy(confusion))
    assert np.isnan(unweighted_average_recall(confusion))


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 2\)"):
        confusion_matrix(np.array([2]), np.array([0]), 2)
