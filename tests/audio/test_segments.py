"""Recordings and a segment list: which segment belongs to which recording, and that nothing is lost."""

import pytest

from pipeline.audio.candidate import Candidate
from pipeline.audio.manifest import encode_id
from pipeline.audio.segment_lists import ListedSegment
from pipeline.audio.segments import cut_recordings, segment_id
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

CORPUS = "/corpus"


def recording(path, **fields):
    name = path.rpartition(".")[0]
    return Candidate(utterance_id=fields.pop("id", encode_id(name)), uri=f"{CORPUS}/{path}", **fields)


def listed(name, start=0.0, end=1.0, row=1, **fields):
    return ListedSegment(row=row, recording=name, start_seconds=start, end_seconds=end, **fields)


def cut(recordings, *segments):
    return list(cut_recordings(recordings, segments, CORPUS, passed_over=PassedOver()))


@pytest.mark.parametrize(
    "name", ["day._one", "day/one", "day/one.wav", "/corpus/day/one.wav", "one.wav", "one"], ids=lambda name: name
)
def test_a_recording_is_known_by_id_path_or_file_name(name):
    (found,) = cut([recording("day/one.wav")], listed(name, 0.5, 2.0))
    assert (found.utterance_id, found.uri) == ("day._one.-500-2000", "/corpus/day/one.wav")
    assert (found.offset_seconds, found.duration_seconds, found.problem) == (0.5, 1.5, None)


def test_a_more_exact_name_wins():
    found = cut([recording("one.wav"), recording("day/one.wav")], listed("one"))
    assert [(c.uri, c.problem is None) for c in found] == [("/corpus/one.wav", True), ("/corpus/day/one.wav", False)]


def test_a_name_that_fits_two_recordings_is_refused_naming_both():
    *alone, bad = cut([recording("a/one.wav"), recording("b/one.wav")], listed("one"))
    assert [c.problem[0] for c in alone] == ["no_segment", "no_segment"]
    assert bad.problem[0] == "bad_segment"
    assert "/corpus/a/one.wav" in bad.problem[1]
    assert "/corpus/b/one.wav" in bad.problem[1]


def test_everything_is_a_segment_or_has_a_reason():
    recordings = [recording("a.wav"), recording("b.wav"), recording("c.wav", problem=("bad_row", "unreadable name"))]
    segments = [
        listed("a", 5.0, 6.0, row=1),
        listed("nobody", row=2),
        listed("a", 1.0, 7.0, row=3),
        ListedSegment(row=4, recording="a", problem=("bad_segment", "row 4 ...")),
        ListedSegment(row=5, problem=("bad_row", "row 5 ...")),
        listed("c", row=6),
    ]
    found = cut(recordings, *segments)
    assert [(c.utterance_id, c.problem and c.problem[0]) for c in found] == [
        ("a.-1000-7000", None),
        ("a.-5000-6000", None),
        (".-segment4", "bad_segment"),
        ("b", "no_segment"),
        ("c.-0-1000", "bad_row"),
        ("nobody.-0-1000", "bad_segment"),
        (".-segment5", "bad_row"),
    ]


def test_the_order_of_the_list_does_not_matter_but_for_equal_starts():
    recordings = [recording("a.wav"), recording("b.wav")]
    segments = [listed("b", 1.0, 2.0), listed("a", 3.0, 4.0), listed("a", 1.0, 2.0)]
    assert cut(recordings, *segments) == cut(recordings, *reversed(segments))


def test_two_names_of_one_recording_are_one_recording():
    found = cut([recording("day/a.wav")], listed("a", 2.0, 3.0), listed("day/a.wav", 1.0, 2.0))
    assert [c.offset_seconds for c in found] == [1.0, 2.0]


def test_overlapping_speakers_keep_their_own_segments_and_ids():
    found = cut([recording("a.wav")], listed("a", 1, 2, speaker="x"), listed("a", 1, 2, speaker="y"))
    assert [(c.utterance_id, c.speaker) for c in found] == [("a.-1000-2000.-x", "x"), ("a.-1000-2000.-y", "y")]


def test_labels_are_the_recordings_but_for_its_text():
    whole = recording("a.wav", text="all of it", speaker="s", language="de", split="train", clean_uri="/c/a.wav")
    first, second = cut([whole], listed("a", 0, 1), listed("a", 1, 2, utterance_id="my id", speaker="t", text="part"))
    assert (first.text, first.speaker, first.language, first.split, first.clean_uri) == (None, "s", "de", "train", None)
    assert (second.utterance_id, second.text, second.speaker) == (encode_id("my id"), "part", "t")


def test_a_segment_to_the_end_leaves_the_length_to_the_header():
    (found,) = cut([recording("a.wav")], listed("a", 2.0, None))
    assert (found.utterance_id, found.offset_seconds, found.duration_seconds) == ("a.-2000-", 2.0, None)


def test_a_listing_that_says_how_long_a_recording_is_limits_its_segments():
    inside, outside = cut([recording("a.wav", duration_seconds=10.0)], listed("a", 9.0, 10.05), listed("a", 9.5, 12.0))
    assert inside.problem is None
    assert outside.problem[0] == "bad_segment"


def test_a_corpus_of_segments_cannot_be_cut_again():
    with pytest.raises(ManifestError, match="segment already"):
        cut([recording("a.wav", offset_seconds=3.0)], listed("a"))


def test_a_list_of_another_corpus_is_an_error_that_shows_both_names():
    with pytest.raises(ManifestError, match=r"'meeting'.*'a'"):
        cut([recording("a.wav")], listed("meeting"))


def test_an_id_is_short_enough_and_differs_wherever_its_place_does():
    assert segment_id("a", 1.0004, 2.5) == "a.-1000-2500"
    long = encode_id("x" * 185)
    ids = {segment_id(long, start, start + 1) for start in range(50)}
    assert len(ids) == 50
    assert all(len(one) <= 190 for one in ids)
    assert segment_id("x" * 179, 0, 1) == encode_id("x" * 179 + "@0-1000")
