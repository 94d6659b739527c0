"""Each form of word and phone times is read by its own rules, and what is broken is refused by file and line."""

import gzip
import json

import pytest
from praatio.utilities.textgrid_io import getTextgridAsStr

from pipeline.audio.alignments.ctm import MOST_LINES, read_ctm
from pipeline.audio.alignments.lhotse import read_lhotse
from pipeline.audio.alignments.textgrid import read_textgrid
from pipeline.audio.alignments.timed import Called
from pipeline.audio.alignments.timit import read_timit
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver

WORDS = [(0.0, 0.25, ""), (0.25, 0.5, "caf\u00e9"), (0.5, 1.0, 'say "item [2]:" ! "IntervalTier"')]
TIERS = {"words": WORDS, "phones": [(0.0, 1e-5, "sil"), (1e-5, 1.0, "AH0")]}


def textgrid(tiers=TIERS, form="long_textgrid", kind="IntervalTier"):
    held = [
        {"class": kind, "name": name, "xmin": 0, "xmax": 1, "entries": list(entries)} for name, entries in tiers.items()
    ]
    made = {"xmin": 0, "xmax": 1, "tiers": held}
    return getTextgridAsStr(made, format=form, includeBlankSpaces=False)


def tier(text, name="words", passed_over=None, encoding="utf-8"):
    data = text if isinstance(text, bytes) else text.encode(encoding)
    found = read_textgrid(data, "a.TextGrid", name, PassedOver() if passed_over is None else passed_over)
    return None if found is None else [tuple(each) for each in found]


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_both_forms_of_textgrid_hold_the_same_in_every_encoding(form, encoding, end):
    text = textgrid(form=form).replace("\n", end)
    assert tier(text, encoding=encoding) == WORDS
    assert tier(text, "phones", encoding=encoding) == TIERS["phones"]


def test_comments_and_what_does_not_stand_free_mean_nothing():
    text = textgrid(form="short_textgrid").replace("<exists>", '<exists> ! 7 "tiers"\nsize = ')
    assert tier("! made by hand\n" + text) == WORDS


def test_a_file_without_a_last_line_end_keeps_its_last_interval():
    for form in ("long_textgrid", "short_textgrid"):
        assert tier(textgrid(form=form).rstrip(), "phones") == TIERS["phones"]


def test_a_label_of_several_lines_becomes_one_line():
    assert tier(textgrid({"words": [(0, 1, "one\n two ")]})) == [(0, 1, "one two")]


def test_tiers_of_speakers_are_read_together_where_none_has_the_name_alone():
    spoken = {"ann - words": [(0, 1, "yes")], "bob - words": [(0.5, 1, "no")], "bob - phones": [(0, 1, "N")]}
    assert tier(textgrid(spoken)) == [(0, 1, "yes"), (0.5, 1, "no")]
    assert tier(textgrid(spoken), "bob - words") == [(0.5, 1, "no")]
    assert tier(textgrid(spoken | {"words": [(0, 1, "both")]})) == [(0, 1, "both")]


def test_a_file_without_the_tier_is_counted_with_the_tiers_it_has():
    passed_over = PassedOver()
    assert tier(textgrid(), "syllables", passed_over) is None
    assert "a.TextGrid has the tiers: words, phones" in passed_over.to_json()[Kind.WITHOUT_LABEL]["example"]


def test_what_stands_behind_the_last_tier_is_counted():
    passed_over = PassedOver()
    tier(textgrid() + '"more"\n', passed_over=passed_over)
    assert passed_over[Kind.UNREAD_END] == 1


def test_points_of_another_tier_do_no_harm():
    text = textgrid({"words": WORDS})
    points = textgrid({"tones": [(0.5, "H*")]}, kind="TextTier").split("item []: \n")[1]
    assert tier(text.replace("size = 1 ", "size = 2 ", 1) + points) == WORDS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (textgrid({"words": [(0.5, "H*")]}, kind="TextTier"), "'words' holds points"),
        (textgrid(form="short_textgrid").rsplit("\n", 3)[0], "was cut short"),
        (textgrid().rsplit("intervals [2]", 1)[0], "was cut short"),
        (textgrid({"words": [(0.5, 0.25, "back")]}), "line 18 of a.TextGrid: the interval of 'back' from 0.5 to 0.25"),
        (textgrid().replace("xmin = 0 ", "xmin = 2.5 ", 1), "begins at 2.5 s"),
        (textgrid().replace("0.25 ", '"0.25" ', 1), "a number must stand here"),
        (textgrid().replace("0.25 ", "1.2.3 ", 1), "must be a number"),
        (textgrid().replace("size = 3", "size = 2.5"), "a count must stand here"),
        ('File type = "ooTextFile"\nObject class = "PitchTier"\n', "a TextGrid must begin here"),
        ('File type = "ooTextFile', "does not end"),
        (b"ooBinaryFile\x08TextGrid\xff", "neither UTF-8 nor UTF-16"),
        ("{}", "it is no TextGrid"),
        ("", "it is no TextGrid"),
        (b"\xff\xfe\x00", "neither UTF-8 nor UTF-16"),
    ],
)
def test_a_broken_textgrid_is_refused_by_name(text, said):
    with pytest.raises(ManifestError) as caught:
        tier(text)
    assert said in str(caught.value)
    assert "a.TextGrid" in str(caught.value)


def test_a_negative_time_stays_negative():
    assert tier(textgrid({"words": [(-0.5, 0.5, "early")]})) == [(-0.5, 0.5, "early")]


def ctm(tmp_path, text):
    path = tmp_path / "words.ctm"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_ctm(str(path), "words", PassedOver()))


def test_lines_of_ctm_are_grouped_by_recording_and_channel(tmp_path):
    text = "\ufeff;; a comment\r\nrec 1 0.5 0.25 hello 0.9 lex spk\r\nrec\t1   0.75\t0.25 you\r\n\r\nrec B 0 1 ;;\r\n"
    first, second = ctm(tmp_path, text)
    assert first.called == (Called("rec"),)
    assert [tuple(each) for each in first.intervals] == [(0.5, 0.75, "hello"), (0.75, 1.0, "you")]
    assert (first.channel, second.channel) == (0, 1)
    assert [each.label for each in second.intervals] == [";;"]


def test_a_long_recording_of_ctm_comes_in_parts(tmp_path):
    parts = ctm(tmp_path, "".join(f"rec 1 {n} 1 w{n}\n" for n in range(MOST_LINES + 1)))
    assert [len(part.intervals) for part in parts] == [MOST_LINES, 1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rec 1 0.5 0.25", "recording, channel, start, duration and word"),
        ("rec 1 zero 0.25 a", "'zero'"),
        ("rec 1 nan 0.25 a", "must be a number"),
        ("rec 1 0.5 -0.25 a", "ends before it begins"),
        ("rec 1 * * <ALT_BEGIN>", "alternatives"),
        (b"rec 1 0 1 \xff", "not UTF-8"),
    ],
)
def test_a_broken_line_of_ctm_is_refused_by_its_number(tmp_path, line, said):
    with pytest.raises(ManifestError, match=r"line 2 of .*words\.ctm") as caught:
        ctm(tmp_path, b"rec 1 0 1 fine\n" + (line if isinstance(line, bytes) else line.encode()) + b"\n")
    assert said in str(caught.value)


def supervision(**changes):
    items = [["hi", 3.5, 0.5, None], ["you", 4.0, 0.5]]
    return {"id": "s", "recording_id": "r", "start": 3.0, "duration": 2.0, "channel": 1} | {
        "alignment": {"word": items, "phone": [{"symbol": "HH", "start": 3.5, "duration": 0.25}]},
        **changes,
    }


def lhotse(tmp_path, *rows, name="words", passed_over=None):
    path = tmp_path / "supervisions.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return list(read_lhotse(str(path), name, PassedOver() if passed_over is None else passed_over))


def test_a_supervision_begins_at_its_start_on_the_clock_of_the_recording(tmp_path):
    (found,) = lhotse(tmp_path, supervision())
    assert found.called == (Called("s", 3.0), Called("r", 0.0, recording=True))
    assert [tuple(each) for each in found.intervals] == [(3.5, 4.0, "hi"), (4.0, 4.5, "you")]
    assert found.channel == 1
    (phones,) = lhotse(tmp_path, supervision(), name="phones")
    assert [tuple(each) for each in phones.intervals] == [(3.5, 3.75, "HH")]


def test_a_supervision_called_as_its_recording_leaves_the_name_to_the_recording(tmp_path):
    (found,) = lhotse(tmp_path, supervision(id="r"))
    assert found.called == (Called("r", 0.0, recording=True),)


def test_cuts_of_other_kinds_and_supervisions_without_times_are_counted(tmp_path):
    passed_over = PassedOver()
    rows = {"type": "MixedCut", "id": "m"}, supervision(alignment=None), supervision(alignment={"phone": []})
    assert lhotse(tmp_path, *rows, passed_over=passed_over) == []
    assert (passed_over[Kind.UNREAD_LINES], passed_over[Kind.WITHOUT_LABEL]) == (1, 2)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (supervision(alignment={"word": [["hi", 3.5, -0.5]]}), "ends before it begins"),
        (supervision(alignment={"word": [["hi", 3.5]]}), "an item of an alignment"),
        (supervision(alignment={"word": {}}), "a list must stand here"),
        (supervision(alignment={"word": [["hi", "soon", 1]]}), "'soon'"),
        (supervision(id=None), "id must be a name"),
        ([], "not a JSON object"),
        ({"type": "MonoCut", "id": "c", "start": None}, "must be a number"),
        ({"type": "MonoCut", "id": "c", "start": 0, "supervisions": ["x"]}, "a supervision must stand here"),
    ],
)
def test_a_broken_line_of_lhotse_is_refused_by_its_number(tmp_path, row, said):
    with pytest.raises(ManifestError, match=r"line 2 of .*supervisions") as caught:
        lhotse(tmp_path, supervision(), row)
    assert said in str(caught.value)


def test_samples_of_timit_become_seconds_and_its_61_phones_stay():
    data = b"0 3050 h#\r\n3050 4559 sh\r\n4559 5723 ix\r\n"
    found = read_timit(data, "SA1.PHN", "phones", PassedOver())
    assert [each.label for each in found] == ["h#", "sh", "ix"]
    assert [each.end for each in found] == [3050 / 16000, 4559 / 16000, 5723 / 16000]


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"0 5 h#\n5 sh\n", "first sample"), (b"0 5 h#\n5 4 sh\n", "ends before"), (b"0 5 h#\n5 x sh\n", "'x'")],
)
def test_a_broken_line_of_timit_is_refused_by_its_number(data, said):
    with pytest.raises(ManifestError, match=r"line 2 of SA1\.PHN") as caught:
        read_timit(data, "SA1.PHN", "phones", PassedOver())
    assert said in str(caught.value)
