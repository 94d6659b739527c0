import pytest

from bench.corpus_listing import FORMS, compare, line, make, read
from pipeline.audio.candidate import Candidate

pytest.importorskip("lhotse")


@pytest.mark.parametrize("form", FORMS)
def test_both_readers_give_every_row_with_the_same_text_and_span(tmp_path, form):
    path = make(form, 20, tmp_path)
    ours, theirs = list(read(form, "strata", path)), list(read(form, "lhotse", path))
    assert all(isinstance(one, Candidate) and one.problem is None for one in ours)
    assert len({one.utterance_id for one in ours}) == 20
    spans = [(one.text, one.offset_seconds, one.duration_seconds) for one in ours]
    if form == "listing":
        assert spans == [(row["text"], row["offset"], row["duration"]) for row in theirs]
    else:
        assert spans == [(cut.supervisions[0].text, cut.start, cut.duration) for cut in theirs]


def test_a_comparison_counts_rows_time_and_memory_of_both(tmp_path):
    found = compare("cuts", 200, 1, tmp_path)
    assert [len(found[reader]) for reader in ("strata", "lhotse")] == [1, 1]
    assert found["strata"][0]["rows"] == found["lhotse"][0]["rows"] == 200
    assert found["file_bytes"] > 200 * 500
    assert line(found)[:2] == ["cuts", "200"]
    assert list(tmp_path.iterdir()) == []
