"""Values of labels become numbers: places in the sorted list of all values."""

import numpy as np

from pipeline.audio.labels import Values


def test_drawn_labels_are_as_frequent_as_the_true_ones():
    values = Values.of("speaker", {"x": 30, "y": 10})
    drawn = [values.drawn(f"u{number}") for number in range(4000)]
    assert drawn == [values.drawn(f"u{number}") for number in range(4000)]
    assert 0.22 < np.mean(drawn) < 0.28
    assert values.number(None) == values.number("z") == -1
