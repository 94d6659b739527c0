"""Lists of trials: how they are read, and which are left."""

import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.evaluation.trials import find_trials, read_trials
from pipeline.tasks.sid.metrics import verify


def test_lines_and_csv_of_the_same_trials_are_the_same(tmp_path):
    (tmp_path / "a.txt").write_text("1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n")
    (tmp_path / "a.csv").write_text("same,first,second\n1,a/1.wav,a/2.wav\n0,a/1.wav,b/1.wav\n")
    lines, table = read_trials(str(tmp_path / "a.txt")), read_trials(str(tmp_path / "a.csv"))
    assert (lines.first, lines.second, lines.same) == (table.first, table.second, table.same)
    assert lines.same == (True, False)


def test_the_rate_is_that_of_a_count_by_hand(tmp_path):
    # Cosines: a-b 1.0 and c-d 0.6 of one speaker; a-c 0.0 and a-d 0.8 of two. At 0.7 one of two is missed, and one of
    # two is let in.
    (tmp_path / "t").write_text("1 a b\n1 c d\n0 a c\n0 a d\n")
    ids, vectors = ["a", "b", "c", "d"], [[1, 0], [2, 0], [0, 1], [0.8, 0.6]]
    found = find_trials(read_trials(str(tmp_path / "t")), ids)
    judged = verify(np.array(vectors), found.first, found.second, found.same)
    assert judged.eer == pytest.approx(0.5)
    assert judged.trials == 4


def test_trials_of_utterances_that_were_not_evaluated_are_counted_and_named(tmp_path):
    (tmp_path / "t").write_text("1 a b\n0 a c\n0 a x\n1 y b\n")
    found = find_trials(read_trials(str(tmp_path / "t")), ["a", "b", "c"])
    assert (found.left_out, found.absent) == (2, ("x", "y"))
    assert found.same.tolist() == [True, False]
    with pytest.raises(SettingsError, match="got 1 and 0 among .*not evaluated were c, x, y"):
        find_trials(read_trials(str(tmp_path / "t")), ["a", "b"])


def test_a_name_is_an_id_as_it_is_before_it_is_a_path(tmp_path):
    (tmp_path / "t").write_text("1 a/1.wav a/1\n0 a._1 a..wav\n0 b.wav b\n")
    ids = ["a._1", "a..wav", "b", "b.wav"]
    found = find_trials(read_trials(str(tmp_path / "t")), ids)
    pairs = [(ids[one], ids[other]) for one, other in zip(found.first, found.second, strict=True)]
    assert pairs == [("a._1", "a._1"), ("a._1", "a..wav"), ("b.wav", "b")]


@pytest.mark.parametrize(("text", "said"), [("1 a\n", "line 1: a trial is"), ("2 a b\n", "line 1"), ("", "no trials")])
def test_a_file_that_is_no_list_of_trials_is_refused(tmp_path, text, said):
    (tmp_path / "t").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_trials(str(tmp_path / "t"))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_trials(str(tmp_path / "nowhere"))
