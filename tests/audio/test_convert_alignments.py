"""convert_alignments: times that other tools wrote, converted and read back by those who use them."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_alignments import SECONDS, check, convert, lhotse_set, rows_of, write_audio, write_ctm, write_segmented
from made_mixtures import manifest_of
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid

from pipeline import cli, schema
from pipeline.audio.alignments import spilling
from pipeline.audio.alignments.settings import ConvertAlignmentsConfig
from pipeline.audio.alignments.stage import convert_alignments
from pipeline.errors import ManifestError, SettingsError
from pipeline.passed_over import Kind

UTTERANCES = ("103/u.1", "103/u.2", "84/v\u00e9")
IDS = {"103/u.1": "103._u..1", "103/u.2": "103._u..2", "84/v\u00e9": "84._v.xc3.xa9"}


def times(name):
    """Make words that touch or have pauses between them, and do not lie on hundredths of a second."""
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    edges = np.sort(rng.uniform(0.05, SECONDS - 0.05, 8)).round(6).tolist()
    labels = ["it's", 'so "called"', "caf\u00e9", "a,b"]
    return [(start, end, label) for start, end, label in zip(edges[::2], edges[1::2], labels, strict=True)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return manifest_of(write_audio(folder / "audio", UTTERANCES), folder / "manifest", layout="folder")


def write_textgrid(path, tiers, form="long_textgrid"):
    """Write a TextGrid with praatio, gaps filled with empty labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Textgrid(0, SECONDS)
    for name, intervals in tiers.items():
        made.addTier(IntervalTier(name, intervals, 0, SECONDS))
    made.save(str(path), format=form, includeBlankSpaces=True)


@pytest.fixture
def expected():
    return {IDS[name]: times(name) for name in UTTERANCES}


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_textgrids_of_praatio_come_back_with_their_times(manifest, expected, tmp_path, form, ending):
    for name in UTTERANCES:
        write_textgrid(tmp_path / "aligned" / f"{name}.TextGrid", {"words": times(name)}, form)
    output = tmp_path / f"words.{ending}"
    report = convert(manifest, tmp_path / "aligned", "textgrid", output, strict=True)
    check(output, expected)
    assert (report.matched, report.utterances, report.intervals) == (3, 3, 12)
    assert report.silence[""] > 3
    assert report.passed_over == {}


def test_textgrids_may_be_called_as_the_files_alone_or_lie_deeper(manifest, expected, tmp_path):
    for name in UTTERANCES:
        write_textgrid(tmp_path / "flat" / f"{name.rpartition('/')[2]}.TextGrid", {"words": times(name)})
        write_textgrid(tmp_path / "deep" / "out" / f"{name}.textgrid", {"speaker - words": times(name)})
    for folder in ("flat", "deep"):
        convert(manifest, tmp_path / folder, "textgrid", tmp_path / "words.parquet", strict=True)
        check(tmp_path / "words.parquet", expected)


def test_a_name_that_is_that_of_several_recordings_meets_none(tmp_path):
    corpus = write_audio(tmp_path / "audio", ("a/take", "b/take", "c/last"))
    manifest = manifest_of(corpus, tmp_path / "manifest", layout="folder")
    for name in ("take", "last"):
        write_textgrid(tmp_path / "aligned" / f"{name}.TextGrid", {"words": times(name)})
    report = convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.parquet")
    assert report.passed_over[Kind.UNMATCHED_IDS]["example"] == "take"
    assert (report.matched, report.passed_over[Kind.WITHOUT_LABEL]["example"]) == (1, "a._take")


def test_all_paths_lose_as_many_folders_so_that_none_meets_another_recording(tmp_path):
    manifest = manifest_of(write_audio(tmp_path / "audio", ("a/take",)), tmp_path / "manifest", layout="folder")
    for name in ("a/take", "b/take"):
        write_textgrid(tmp_path / "aligned" / f"{name}.TextGrid", {"words": [(0, 1, name[0])]})
    report = convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.parquet")
    assert rows_of(tmp_path / "words.parquet") == [("a._take", 0, 1, "a")]
    assert report.passed_over[Kind.UNMATCHED_IDS] == {"count": 1, "example": "b/take", "names": {"times": 1}}
    with pytest.raises(ManifestError, match="unmatched_ids"):
        convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "strict.parquet", strict=True)
    assert not (tmp_path / "strict.parquet").exists()


def test_two_files_of_one_utterance_are_refused(manifest, tmp_path):
    for name in (UTTERANCES[0], IDS[UTTERANCES[0]]):
        write_textgrid(tmp_path / "aligned" / f"{name}.TextGrid", {"words": times(name)})
    with pytest.raises(ManifestError, match=r"103/u\.1\.TextGrid and 103\._u\.\.1\.TextGrid both give times"):
        convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.parquet")


def test_silence_is_dropped_and_counted_or_kept_where_it_is_asked_for(manifest, tmp_path):
    said = [(0, 0.5, "sil"), (0.5, 1.0, "AH0"), (1.0, 1.5, "h#"), (1.5, SECONDS, "")]
    write_textgrid(tmp_path / "aligned" / "103" / "u.1.TextGrid", {"phones": said})
    output = tmp_path / "phones.csv"
    report = convert(manifest, tmp_path / "aligned", "textgrid", output, tier="phones")
    assert [row[3] for row in rows_of(output)] == ["AH0", "h#"]
    assert report.silence == {"": 1, "sil": 1}
    assert ("silence dropped", "empty 1, sil 1") in report.lines()
    convert(manifest, tmp_path / "aligned", "textgrid", output, tier="phones", silence=("h#",))
    assert [row[3] for row in rows_of(output)] == ["sil", "AH0"]
    convert(manifest, tmp_path / "aligned", "textgrid", output, tier="phones", silence=())
    assert [row[3] or "" for row in rows_of(output)] == ["sil", "AH0", "h#", ""]
    with pytest.raises(SettingsError, match="no interval of tier phones that is no silence"):
        convert(manifest, tmp_path / "aligned", "textgrid", output, tier="phones", silence=("sil", "AH0", "h#"))


def test_files_of_other_kinds_are_counted_and_recordings_are_not(manifest, tmp_path):
    for name in ("103/u.1.TextGrid", "103/u.2.json", ".hidden.TextGrid"):
        write_textgrid(tmp_path / "aligned" / name, {"words": times("x")})
    (tmp_path / "aligned" / "103" / "u.1.wav").touch()
    (tmp_path / "aligned" / "103" / "u.1.lab").touch()
    found = convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.csv").passed_over
    assert found[Kind.OTHER_ENDINGS]["names"] == {".json": 1}
    assert found[Kind.HIDDEN_FILES]["count"] == 1
    assert (found[Kind.WITHOUT_LABEL]["count"], found[Kind.WITHOUT_LABEL]["example"]) == (2, "103._u..2")


def one_word(said):
    """Leave the blanks of labels out, which no CTM can hold."""
    return [(start, end, label.replace(" ", "_")) for start, end, label in said]


def test_lines_of_ctm_come_back_with_their_times(manifest, tmp_path):
    said = {name: one_word(times(name)) for name in reversed(UTTERANCES)}
    convert(manifest, write_ctm(tmp_path / "all.ctm", said), "ctm", tmp_path / "words.parquet", strict=True)
    check(tmp_path / "words.parquet", {IDS[name]: said[name] for name in said})
    ids = [row[0] for row in rows_of(tmp_path / "words.parquet")]
    assert ids == sorted(ids)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    return write_segmented(tmp_path_factory.mktemp("segmented"))


def test_times_of_a_recording_are_shifted_into_its_segments_and_cut_at_their_edges(segmented, tmp_path):
    said = {
        "r1": [(0.5, 0.9, "before"), (0.9, 1.25, "edge"), (1.5, 2.0, "in"), (2.5, 4.5, "across"), (6.5, 7.004, "end")],
        "r2": [(2.0, 2.5, "two"), (4.996, 5.5, "after")],
    }
    output = tmp_path / "words.parquet"
    report = convert(segmented, write_ctm(tmp_path / "all.ctm", said), "ctm", output)
    expected = {
        "aa": [(0.0, 0.5, "across"), (2.5, 3.0, "end")],
        "mm": [(0.0, 0.5, "two")],
        "zz": [(0.0, 0.25, "edge"), (0.5, 1.0, "in"), (1.5, 2.0, "across")],
    }
    check(output, expected)
    outside = report.passed_over[Kind.OUTSIDE_UTTERANCE]
    assert outside["names"] == {"cut": 3, "left out": 2}
    assert report.matched == 3


def test_a_channel_counts_where_the_utterances_of_a_recording_have_several(tmp_path):
    corpus = write_audio(tmp_path / "audio", ("call",), channels=2)
    manifest = manifest_of(corpus, tmp_path / "manifest", layout="folder", channels="split")
    lines = ["call 1 0.5 0.5 left", "call B 1 0.5 right", "call 3 1 0.5 nobody", "call 0 1 0.25 both"]
    (tmp_path / "call.ctm").write_text("\n".join(lines) + "\n")
    report = convert(manifest, tmp_path / "call.ctm", "ctm", tmp_path / "words.csv")
    said = {(row[0][-1], row[3]) for row in rows_of(tmp_path / "words.csv")}
    assert said == {("0", "left"), ("1", "right"), ("0", "both"), ("1", "both")}
    assert report.passed_over[Kind.UNMATCHED_IDS]["count"] == 1


def test_a_table_that_is_larger_than_what_is_held_is_sorted_the_same(manifest, tmp_path, monkeypatch):
    said = {name: [(n / 10, n / 10 + 0.05, f"w{n}") for n in range(19, -1, -1)] for name in reversed(UTTERANCES)}
    path = write_ctm(tmp_path / "all.ctm", said)
    convert(manifest, path, "ctm", tmp_path / "one.parquet")
    monkeypatch.setattr(spilling, "_HELD", 7)
    monkeypatch.setattr(spilling, "_FEWEST_UTTERANCES", 1)
    monkeypatch.setattr("pipeline.audio.alignments.ctm.MOST_LINES", 3)
    convert(manifest, path, "ctm", tmp_path / "many.parquet")
    assert pq.ParquetFile(tmp_path / "many.parquet").num_row_groups == 3
    rows = rows_of(tmp_path / "many.parquet")
    assert rows == rows_of(tmp_path / "one.parquet") == sorted(rows)
    assert len(rows) == 60


def test_an_output_is_of_the_schema_and_the_same_again(manifest, tmp_path):
    path = write_ctm(tmp_path / "all.ctm", {UTTERANCES[0]: one_word(times("x"))})
    convert(manifest, path, "ctm", tmp_path / "new" / "words.parquet")
    first = (tmp_path / "new" / "words.parquet").read_bytes()
    convert(manifest, path, "ctm", tmp_path / "new" / "words.parquet")
    assert (tmp_path / "new" / "words.parquet").read_bytes() == first
    assert pq.read_schema(tmp_path / "new" / "words.parquet") == schema.ALIGNMENT
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["words.parquet"]


@pytest.mark.parametrize(
    ("form", "write"),
    [
        ("ctm", lambda path: path.write_text("other 1 0 1 word\n")),
        ("textgrid", lambda path: write_textgrid(path / "other.TextGrid", {"words": [(0, 1, "word")]})),
        ("lhotse", lambda path: lhotse_set({"other": ("other", 0, 1, [(0, 1, "word")])}).to_file(f"{path}")),
    ],
)
def test_times_that_meet_nothing_are_refused_with_a_name_of_each_side(manifest, tmp_path, form, write):
    path = tmp_path / "times.jsonl"
    write(path)
    with pytest.raises(SettingsError) as caught:
        convert(manifest, path, form, tmp_path / "words.parquet")
    assert "'other'" in str(caught.value)
    assert "'103._u..1'" in str(caught.value)
    assert "103/u.1.wav" in str(caught.value)
    assert not (tmp_path / "words.parquet").exists()


def test_times_that_are_absent_or_empty_are_one_clear_error(manifest, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "empty.ctm").write_text(";; nothing\n")
    (tmp_path / "bad.jsonl.gz").write_text("{}\n")
    for form, path, said in (
        ("textgrid", tmp_path / "no", "is not there"),
        ("textgrid", tmp_path / "empty.ctm", "is a file"),
        ("textgrid", empty, r"holds no file that ends in \.textgrid; it is empty"),
        ("timit", empty, r"holds no file that ends in \.wrd"),
        ("ctm", tmp_path / "no.ctm", "there is no file"),
        ("lhotse", tmp_path / "bad.jsonl.gz", "cannot be read"),
    ):
        with pytest.raises(ManifestError, match=said):
            convert(manifest, path, form, tmp_path / "words.parquet")
    with pytest.raises(SettingsError, match="has no times of tier words; it is empty"):
        convert(manifest, tmp_path / "empty.ctm", "ctm", tmp_path / "words.parquet")
    write_textgrid(tmp_path / "aligned" / "103" / "u.1.TextGrid", {"phones": [(0, 1, "AH")]})
    with pytest.raises(SettingsError, match="has the tiers: phones"):
        convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.parquet")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"output": "words.txt"}, "ends in .parquet or .csv"),
        ({"format": "ctm", "tier": "phones"}, "means nothing to a ctm"),
        ({"format": "timit", "tier": "syllables"}, "phones, words"),
        ({"tier": ""}, "must name one"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings, said):
    given = {"alignments": "a", "manifest": "m", "format": "textgrid", "output": "words.csv"}
    with pytest.raises(SettingsError, match=said):
        ConvertAlignmentsConfig.of(**given | settings)


def test_the_job_reports_and_leaves_nothing_but_its_table(manifest, tmp_path, capsys):
    path = write_ctm(tmp_path / "all.ctm", {UTTERANCES[0]: one_word(times("x"))})
    flags = ["--alignments", str(path), "--format", "ctm", "--manifest", manifest, "--silence"]
    cli.run(convert_alignments, description="times", args=[*flags, "--output", str(tmp_path / "out" / "words.csv")])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["stage"], found["utterances"], found["matched"], found["intervals"]) == ("alignments", 3, 1, 4)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["words.csv"]


def test_everything_may_lie_on_s3(bucket, manifest, expected, tmp_path):
    import s3fs

    files = s3fs.S3FileSystem()
    for name in UTTERANCES:
        write_textgrid(tmp_path / "aligned" / f"{name}.TextGrid", {"words": times(name)})
    files.put(str(tmp_path / "aligned"), "corpus/aligned", recursive=True)
    files.put(str(manifest), "corpus/manifest", recursive=True)
    output = f"{bucket}/times/words.parquet"
    convert(f"{bucket}/manifest", f"{bucket}/aligned", "textgrid", output, strict=True)
    check(output, expected)
    shutil.rmtree(tmp_path / "aligned")


def test_a_line_of_a_table_that_is_there_twice_is_one_interval_and_is_counted(manifest, tmp_path):
    said = {UTTERANCES[0]: [(0.1, 0.2, "a"), (0.1, 0.2, "a"), (0.1, 0.2, "b"), (0.1, 0.3, "a")], UTTERANCES[1]: []}
    path = write_ctm(tmp_path / "all.ctm", said)
    once = path.read_text()
    path.write_text(once + f"{UTTERANCES[1]} 1 1 0.5 x\n" + once)
    output = tmp_path / "words.csv"
    report = convert(manifest, path, "ctm", output)
    assert [row[3] for row in rows_of(output)] == ["a", "b", "a", "x"]
    assert report.intervals == 4
    example = f"{IDS[UTTERANCES[0]]} at 0.1 s: a"
    assert report.passed_over[Kind.UNREAD_LINES] == {"count": 5, "example": example, "names": {"twice": 5}}
    output.unlink()
    with pytest.raises(ManifestError, match="unread_lines"):
        convert(manifest, path, "ctm", output, strict=True)
    assert not output.exists()


def test_tiers_of_two_speakers_that_agree_are_both_kept(manifest, tmp_path):
    tiers = {"ann - words": [(0.5, 1, "yes")], "bob - words": [(0.5, 1, "yes")]}
    write_textgrid(tmp_path / "aligned" / f"{UTTERANCES[0]}.TextGrid", tiers)
    assert convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.csv").intervals == 2


def test_times_outside_are_told_of_with_the_file_as_it_is_called(manifest, tmp_path):
    write_textgrid(tmp_path / "aligned" / f"{UTTERANCES[0]}.TextGrid", {"words": [(0.5, 1, "in"), (1.5, 2.5, "out")]})
    report = convert(manifest, tmp_path / "aligned", "textgrid", tmp_path / "words.csv")
    assert report.passed_over[Kind.OUTSIDE_UTTERANCE]["example"] == f"{UTTERANCES[0]}.TextGrid"


def test_times_have_no_binary_tails(segmented, tmp_path):
    said = {"r1": [(1.1, 1.9, "zz")]}
    convert(segmented, write_ctm(tmp_path / "all.ctm", said), "ctm", tmp_path / "words.csv")
    assert "0.1,0.9," in (tmp_path / "words.csv").read_text()
    assert 1.9 - 1 != 0.9
