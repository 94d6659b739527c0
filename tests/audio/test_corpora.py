"""Every recording of a corpus is announced once, in a stable order, under an id that does not know the root."""

import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audio.corpora import LAYOUTS, corpus_roots, read_corpus
from pipeline.audio.corpus_settings import CorpusSettings
from pipeline.audio.lines import MAX_LINE
from pipeline.audio.manifest import encode_id
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

REAL = Path(os.environ.get("STRATA_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
needs_speech = pytest.mark.skipif(not REAL.is_dir(), reason="no real speech on this machine")


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder)


def read(corpus, layout, passed_over=None):
    return list(read_corpus(str(corpus), layout, passed_over=PassedOver() if passed_over is None else passed_over))


def listing(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ids(candidates):
    return [candidate.utterance_id for candidate in candidates]


def test_a_folder_is_read_whole_and_in_the_order_of_its_components(tmp_path):
    corpus = touch(tmp_path, "b.WAV", "a/z.flac", "a.ogg", "a/b/c.opus", "a b.mp3", "d.oga", "notes.txt", "x.npy")
    found = read(corpus, "folder")
    assert ids(found) == ["a._b._c", "a._z", "a.x20b", "a", "b", "d"]
    assert found[0].uri == f"{corpus}/a/b/c.opus"
    assert all(candidate.problem is None for candidate in found)


def test_ids_and_order_do_not_depend_on_where_the_corpus_lies(tmp_path, monkeypatch):
    names = ["s/1.wav", "t/2.flac", "Gr\u00fc\u00dfe.wav"]
    one, two = touch(tmp_path / "one", *names), touch(tmp_path / "deep" / "er", *reversed(names))
    assert ids(read(one, "folder")) == ids(read(two, "folder"))
    monkeypatch.chdir(tmp_path)
    assert read("one/", "folder") == read(one, "folder")


def test_one_stem_with_two_extensions_is_two_candidates_with_one_id(tmp_path):
    assert ids(read(touch(tmp_path, "a.wav", "a.flac"), "folder")) == ["a", "a"]


def test_odd_names_are_recordings_and_unstorable_ones_are_problems(tmp_path):
    touch(tmp_path, 'it\'s "q".wav', "\u97f3\u58f0.wav", "line\nbreak.wav")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.wav")).touch()
    found = read(tmp_path, "folder")
    assert len(set(ids(found))) == 4
    bad = [candidate for candidate in found if candidate.problem]
    assert sorted(Path(candidate.uri).name for candidate in bad) == ["bad\\udcff.wav", "line\\nbreak.wav"]
    assert {candidate.problem[0] for candidate in bad} == {"bad_row"}
    # Everything must fit a Parquet string column.
    pa.array([candidate.uri for candidate in found] + ids(found)).cast(pa.string()).validate(full=True)


def test_an_undecodable_folder_cannot_hide_in_a_label(tmp_path):
    touch(tmp_path, "dev/1/2/1-2-0.flac", "bad\udcff/1/2/1-2-1.flac")
    bad, good = sorted(read(tmp_path, "librispeech"), key=lambda candidate: candidate.problem is None)
    assert (bad.problem[0], bad.split) == ("bad_row", None)
    assert good.split == "dev"


def test_links_to_files_are_listed_and_links_to_folders_are_not_followed(tmp_path):
    outside = touch(tmp_path / "outside", "secret.wav")
    corpus = tmp_path / "corpus"
    touch(corpus, "real.wav")
    (corpus / "linked.wav").symlink_to(f"{outside}/secret.wav")
    (corpus / "broken.wav").symlink_to("nowhere.wav")
    (corpus / "itself.wav").symlink_to("itself.wav")
    (corpus / "folder").symlink_to(outside)
    (corpus / "round").symlink_to(corpus)
    passed_over = PassedOver()
    assert ids(read(corpus, "folder", passed_over)) == ["broken", "itself", "linked", "real"]
    assert passed_over.to_json() == {"linked_folders": {"count": 2, "example": "folder"}}


def test_an_unreadable_folder_is_named(monkeypatch):
    # A folder under /tmp that another user may enter: the privileges of root are put down for the test.
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        touch(Path(root), "open/a.wav", "shut/b.wav")
        os.chmod(f"{root}/shut", 0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            with pytest.raises(ManifestError, match="shut cannot be read"):
                read(root, "folder")
        finally:
            if is_root:
                os.seteuid(0)
            os.chmod(f"{root}/shut", 0o755)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "listing"])
def test_an_absent_empty_or_wrong_corpus_is_one_clear_error(tmp_path, layout):
    file = tmp_path / "table.csv"
    file.touch()
    (tmp_path / "empty").mkdir()
    for corpus, words in [("absent", "no corpus folder"), ("table.csv", "is a file"), ("empty", "no recordings")]:
        with pytest.raises(ManifestError, match=words):
            read(tmp_path / corpus, layout)


def test_a_corpus_of_another_layout_is_refused(tmp_path):
    corpus = touch(tmp_path, "some/song.wav")
    for layout in ("librispeech", "fsdd", "emodb", "voicebank", "voicebank-clean"):
        with pytest.raises(ManifestError, match=f"layout {layout}; use the layout folder"):
            read(corpus, layout)
    with pytest.raises(ManifestError, match="folder, listing"):
        read(corpus, "no-such-layout")
    with pytest.raises(ManifestError, match="is a folder"):
        read(corpus, "listing")


def test_librispeech_gives_the_same_ids_from_either_root(tmp_path):
    touch(tmp_path, "train-clean-100/103/1240/103-1240-0001.flac", "train-clean-100/103/1240/103-1240-0000.flac")
    touch(tmp_path, "test-clean/61/70968/61-70968-0000.flac", "train-clean-100/extra/noise.flac")
    transcript = tmp_path / "train-clean-100/103/1240/103-1240.trans.txt"
    transcript.write_text("103-1240-0000 CHAPTER ONE\n103-1240-0001 MISSUS RACHEL\n")
    found = read(tmp_path, "librispeech")
    assert ids(found) == ["61-70968-0000", "103-1240-0000", "103-1240-0001", "train-clean-100._extra._noise"]
    first = found[1]
    assert (first.text, first.speaker, first.split, first.language) == ("CHAPTER ONE", "103", "train-clean-100", "en")
    assert (found[0].text, found[0].split) == (None, "test-clean")
    assert (found[3].speaker, found[3].problem) == (None, None)
    below = read(tmp_path / "train-clean-100", "librispeech")
    assert below[:2] == found[1:3]


def test_a_damaged_transcript_is_an_error_and_not_a_wrong_label(tmp_path):
    touch(tmp_path, "dev/1/2/1-2-0.flac")
    (tmp_path / "dev/1/2/1-2.trans.txt").write_bytes(b"1-2-0 CAF\xff\n")
    with pytest.raises(ManifestError, match=r"1-2\.trans\.txt is not UTF-8"):
        read(tmp_path, "librispeech")


def test_fsdd_names_become_labels(tmp_path):
    found = read(touch(tmp_path, "recordings/7_george_4.wav", "recordings/0_jackson_5.wav", "odd.wav"), "fsdd")
    labels = [(one.utterance_id, one.text, one.speaker, one.split, one.language) for one in found]
    assert labels == [
        ("odd", None, None, None, None),
        ("0_jackson_5", "zero", "jackson", "train", "en"),
        ("7_george_4", "seven", "george", "test", "en"),
    ]


def test_emodb_names_become_labels(tmp_path):
    found = read(touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Wb.wav", "wav/08a03Nc.wav"), "emodb")
    labels = [(one.utterance_id, one.speaker, one.emotion, one.language) for one in found]
    assert labels == [
        ("03a01Fa", "03", "happiness", "de"),
        ("08a03Nc", "08", "neutral", "de"),
        ("16b10Wb", "16", "anger", "de"),
    ]
    assert found[0].text == "Der Lappen liegt auf dem Eisschrank."
    assert found[1].text is None


@needs_speech
def test_real_corpora_are_read_with_all_their_labels():
    speech = read(REAL / "LibriSpeech", "librispeech")
    assert (len(speech), len({one.speaker for one in speech})) == (251, 251)
    assert {one.split for one in speech} == {"train-clean-100"}
    digits = read(REAL / "fsdd", "fsdd")
    assert (len(digits), len({one.speaker for one in digits}), len({one.text for one in digits})) == (3000, 6, 10)
    assert sum(one.split == "test" for one in digits) == 300
    emotions = read(REAL / "emodb", "emodb")
    assert (len(emotions), len({one.speaker for one in emotions}), len({one.emotion for one in emotions})) == (
        375,
        7,
        7,
    )
    assert len({one.text for one in emotions} - {None}) == 10
    for found in (speech, digits, emotions):
        assert len(set(ids(found))) == len(found)
        assert all(Path(one.uri).is_file() and one.speaker for one in found)


def test_a_nemo_manifest_opens_as_it_is(tmp_path):
    rows = [
        {"audio_filepath": "a/x.wav", "duration": 2.5, "offset": 0.0, "text": "one"},
        {"audio_filepath": "a/x.wav", "duration": 1.0, "offset": 2.5, "text": "two"},
        {"audio_filepath": f"{tmp_path}/b/y.flac", "duration": 3, "text": "three", "lang": "en"},
    ]
    found = read(listing(tmp_path, "train_manifest.json", "\n".join(map(json.dumps, rows))), "listing")
    assert ids(found) == ["a._x.-0", "a._x.-2..5", "b._y"]
    assert [one.uri for one in found] == [f"{tmp_path}/a/x.wav"] * 2 + [f"{tmp_path}/b/y.flac"]
    assert [(one.offset_seconds, one.duration_seconds) for one in found] == [(0.0, 2.5), (2.5, 1.0), (None, 3.0)]
    assert [one.text for one in found] == ["one", "two", "three"]
    assert found[2].language == "en"


def test_csv_tsv_and_parquet_say_the_same(tmp_path):
    columns = {
        "id": ["u/1", "u/2"],
        "file_name": ["a.wav", "b.wav"],
        "speaker": ["s1", "s2"],
        "sentence": ["one, \u00e9", "two"],
        "channel": [0, 1],
        "clean_uri": ["clean/a.wav", None],
        "other": ["x", "y"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    lines = [["" if value is None else str(value) for value in line] for line in lines]
    quoted = "\r\n".join(",".join(f'"{value}"' for value in line) for line in lines)
    listing(tmp_path, "t.csv", b"\xef\xbb\xbf" + quoted.encode())
    listing(tmp_path, "t.TSV", "\n".join("\t".join(line) for line in lines))
    tables = [read(tmp_path / name, "listing") for name in ("t.parquet", "t.csv", "t.TSV")]
    assert tables[0] == tables[1] == tables[2]
    first, second = tables[0]
    assert (first.utterance_id, first.uri, first.text) == ("u._1", f"{tmp_path}/a.wav", "one, \u00e9")
    assert (first.clean_uri, second.clean_uri) == (f"{tmp_path}/clean/a.wav", None)
    assert (first.channel, second.channel) == (0, 1)


BAD_ROWS = [
    ('{"text": "no path"}', "no path to the audio"),
    ('{"uri": "a.wav", "offset": "soon"}', "offset must be a number"),
    ('{"uri": "a.wav", "offset": NaN}', "finite"),
    ('{"uri": "a.wav", "duration": -1}', "at least 0"),
    ('{"uri": "a.wav", "duration": 0}', "duration is 0"),
    ('{"uri": "a.wav", "channel": 1.5}', "whole number"),
    ('{"uri": "a.wav", "channel": 4294967296}', "whole number"),
    ('{"uri": "a.wav", "text": ["a"]}', "text must be text"),
    ('{"uri": "a.wav", "speaker": "\\ud800"}', "speaker is not UTF-8"),
    ('{"uri": "a.wav", "offset": 1' + "0" * 400 + "}", "offset"),
    ('{"uri": "a.wav"', "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("[1]", "not a JSON object"),
    ('{"uri": {"bytes": "UklG", "path": "a.wav"}}', "audio inside a table"),
    ('{"uri": "a\\u0000.wav"}', "not one line"),
    ('{"uri": "http://host/a.wav"}', "local paths and s3://"),
    ('{"uri": "file://elsewhere/a.wav"}', "names the host"),
    ('{"uri": "s3://bucket/a.wav?X-Amz-Signature=SECRET"}', "signed query"),
    ('{"uri": "s3://KEY:SECRET@bucket/a.wav"}', "credentials"),
    ('{"uri": "s3://KEY:SEC/SECRET@bucket/a.wav"}', "credentials"),
    ('{"uri": "s3://KEY:SECRET/a.wav"}', "credentials"),
    ('{"uri": "https://u:p#SECRET@host/a.wav?t=SECRET"}', "local paths and s3://"),
    ('{"uri": "s3://bucket/../../other/a.wav"}', "names no object"),
    ('{"uri": "a.wav", "clean_uri": "s3://KEY:SECRET@bucket/a.wav"}', "credentials"),
    (b'{"uri": "a\xff.wav"}', "not one line of UTF-8"),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
def test_a_bad_row_is_a_problem_with_its_number_and_the_rest_is_read(tmp_path, row, words):
    row = row if isinstance(row, bytes) else row.encode()
    found = read(listing(tmp_path, "l.jsonl", b'{"uri": "1.wav"}\n\n' + row + b'\n{"uri": "2.wav"}\n'), "listing")
    assert [one.problem is None for one in found] == [True, False, True]
    reason, detail = found[1].problem
    assert (reason, found[1].utterance_id) == ("bad_row", encode_id("@row3"))
    assert words in detail
    assert "row 3" in detail
    assert "SECRET" not in f"{found[1]}"
    pa.array([found[1].uri, detail]).validate(full=True)


@pytest.mark.parametrize("row", ['{"uri": "a.wav", "offset": 1e306}', '{"uri": "a.wav", "duration": 1e306}'])
def test_a_time_past_any_recording_is_a_bad_segment(tmp_path, row):
    bad, good = read(listing(tmp_path, "l.jsonl", f'{row}\n{{"uri": "b.wav", "offset": 86400.5}}\n'), "listing")
    assert (bad.problem[0], good.problem) == ("bad_segment", None)
    assert "row 1 of the listing: 1e+306 s is no time in a recording" in bad.problem[1]


def test_broken_csv_rows_are_problems(tmp_path):
    text = "uri,offset\na.wav\nb.wav,1,2\n\nc.wav,1\n" + "x" * MAX_LINE + ',1\nd.wav,2\n"e.wav,3\n'
    found = read(listing(tmp_path, "l.csv", text), "listing")
    assert [one.problem is None for one in found] == [False, False, True, False, True, False]
    assert "1 fields, but the header has 2" in found[0].problem[1]
    assert "more than 4,194,304 characters" in found[3].problem[1]
    assert "not CSV" in found[5].problem[1]


def test_paths_of_a_listing_are_resolved_without_dots(tmp_path):
    rows = ["../up/a.wav", "./b/../c.wav", f"file://{tmp_path}/d%20e.wav", "s3://bucket//x/./y.wav", "f:g.wav"]
    text = "path\n" + "\n".join(rows) + "\n"
    found = read(listing(tmp_path, "l.csv", text), "listing")
    expected = [
        f"{tmp_path.parent}/up/a.wav",
        f"{tmp_path}/c.wav",
        f"{tmp_path}/d e.wav",
        "s3://bucket/x/y.wav",
        f"{tmp_path}/f:g.wav",
    ]
    assert [one.uri for one in found] == expected
    assert all(one.problem is None for one in found)
    assert ids(found) == ["....._up._a", "c", "d.x20e", "bucket._x._y", "f.x3ag"]


def test_segments_and_channels_of_one_recording_have_ids_of_their_own(tmp_path):
    text = "uri,offset,channel\nc.wav,0,0\nc.wav,0,1\nc.wav,1.25,\nc.wav,,\nc.wav,,1\n"
    found = read(listing(tmp_path, "calls.csv", text), "listing")
    assert ids(found) == ["c.-0.-c0", "c.-0.-c1", "c.-1..25", "c", "c.-c1"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.txt", "uri\na.wav\n", "a listing ends in"),
        ("l.csv", "", "is empty"),
        ("l.csv", "uri\n", "has no rows"),
        ("l.csv", "name;length\na;1\n", "no column of paths.*name;length"),
        ("l.csv", "uri,uri\na,b\n", "a column twice"),
        ("l.jsonl", '{"name": 1}\n', "no column of paths.*name"),
        ("l.json", '[\n{"uri": "a.wav"},\n{"uri": "b.wav"}\n]\n', "one JSON object a line"),
        ("l.jsonl", "", "has no rows"),
        ("l.parquet", "PAR1 no PAR1", "cannot be read"),
        ("l.csv", b"\x89PNG\r\n\x1a\n\x00", "no column of paths"),
    ],
)
def test_a_table_that_is_no_listing_is_one_clear_error(tmp_path, name, text, words):
    with pytest.raises(ManifestError, match=words):
        read(listing(tmp_path, name, text), "listing")


def test_an_absent_listing_is_one_clear_error(tmp_path):
    with pytest.raises(ManifestError, match="there is no listing"):
        read(tmp_path / "l.csv", "listing")


def test_roots_are_resolved(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert corpus_roots(f"{tmp_path}/link/", "folder") == [f"{tmp_path}/real"]
    assert corpus_roots(f"{tmp_path}/link/l.csv", "listing") == [f"{tmp_path}/real"]
    assert corpus_roots("s3://bucket/speech/", "librispeech") == ["s3://bucket/speech"]
    assert corpus_roots("s3://bucket/speech/l.csv", "listing") == ["s3://bucket/speech"]


def test_the_settings_offer_every_layout_and_no_other():
    (offered,) = [field.type for field in fields(CorpusSettings) if field.name == "layout"]
    assert sorted(get_args(offered)) == sorted(LAYOUTS)
