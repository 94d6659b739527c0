"""Kaldi's tables are read side by side, whatever separates their words; what Kaldi would run is refused by name."""

import random

import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise, wav

from pipeline.audio.corpora import read_corpus
from pipeline.audio.layouts.kaldi_tables import Recordings
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def read(corpus, passed_over=None):
    return list(read_corpus(str(corpus), "kaldi", passed_over=PassedOver() if passed_over is None else passed_over))


def data(folder, **tables):
    """Write tables; ``wav_scp`` is wav.scp."""
    folder.mkdir(exist_ok=True)
    for name, content in tables.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


WAV = "r1 /audio/r1.wav\nr2 wav/r2.flac\n"
SEGMENTS = "a-1 r2 0.5 1.5\na-2 r1 0 -1\nb-1 r1 2.25 4\n"


def labels(found):
    return [(one.utterance_id, one.text, one.speaker, one.language) for one in found]


def test_without_segments_recordings_are_utterances(tmp_path):
    found = read(data(tmp_path, wav_scp=WAV, text="r1 hello  there\nr2 good\n", utt2spk="r1 s1\nr2 s2\n"))
    assert labels(found) == [("r1", "hello  there", "s1", None), ("r2", "good", "s2", None)]
    # Kaldi begins at the working directory of a recipe, which no data folder knows.
    assert [one.uri for one in found] == ["/audio/r1.wav", f"{tmp_path}/wav/r2.flac"]
    assert [one.offset_seconds for one in found] == [None, None]


def test_segments_are_utterances_of_recordings_in_any_order(tmp_path):
    found = read(data(tmp_path, wav_scp=WAV, segments=SEGMENTS, utt2lang="a-1 en\na-2 de\nb-1 fr\n"))
    places = [(one.utterance_id, one.uri, one.offset_seconds, one.duration_seconds) for one in found]
    assert places == [
        ("a-1", f"{tmp_path}/wav/r2.flac", 0.5, 1.0),
        ("a-2", "/audio/r1.wav", 0.0, None),
        ("b-1", "/audio/r1.wav", 2.25, 1.75),
    ]
    assert [one.language for one in found] == ["en", "de", "fr"]


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t  "])
def test_tabs_blanks_line_ends_and_byte_order_marks_change_nothing(tmp_path, begin, end, blank):
    tables = {
        "wav_scp": WAV,
        "segments": SEGMENTS,
        "text": "a-1 hello there\nb-1 d\xe9j\xe0 vu\n",
        "utt2spk": "a-1 s\n",
    }
    expected = read(data(tmp_path, **tables))
    assert expected[0].text == "hello there"
    assert expected[2].text == "d\xe9j\xe0 vu"
    for name, text in tables.items():
        rows = [row.split(" ", 1) for row in text.split("\n") if row]
        found = end.join(key.encode() + blank + rest.encode() + b" " for key, rest in rows)
        data(tmp_path, **{name: begin + end + found + end + end})
    assert read(tmp_path) == expected


def test_a_million_byte_table_of_recordings_is_found_by_bisection(tmp_path):
    names = [f"rec-{number:05d}" for number in range(20_000)]
    data(tmp_path, wav_scp="".join(f"{name} {'x' * (number % 50)}/{name}.wav\n" for number, name in enumerate(names)))
    drawn = [random.Random(0).choice(names) for _ in range(500)]
    data(tmp_path, segments="".join(f"u-{number:05d} {name} 0 1\n" for number, name in enumerate(drawn)))
    found = read(tmp_path)
    assert [one.uri.rpartition("/")[2] for one in found[:500]] == [f"{name}.wav" for name in drawn]
    rest = found[500:]
    assert [one.utterance_id for one in rest] == sorted(set(names) - set(drawn))
    assert {one.problem[0] for one in rest} == {"no_segment"}


def test_labels_that_are_missing_or_meet_nothing_are_counted(tmp_path):
    passed_over = PassedOver()
    tables = {"text": "a-1 one\na-15 nobody\nb-1\nc-1 nobody\n", "utt2spk": "a-0 x\na-1 s\na-2 s\nb-1 t\n"}
    found = read(data(tmp_path, wav_scp=WAV, segments=SEGMENTS, **tables), passed_over)
    assert labels(found) == [("a-1", "one", "s", None), ("a-2", None, "s", None), ("b-1", None, "t", None)]
    assert passed_over.to_json() == {
        "unmatched_ids": {"count": 3, "example": "a-0 of utt2spk", "names": {"text": 2, "utt2spk": 1}},
        "without_label": {"count": 2, "example": "a-2", "names": {"text": 2}},
    }


def test_tables_without_a_use_are_counted_and_spk2utt_is_not(tmp_path):
    (tmp_path / "named.wav").touch()
    data(tmp_path, wav_scp="r1 named.wav\n", spk2utt="s r1\n", reco2dur="r1 1\n", spk2gender="s f\n")
    data(tmp_path, feats_scp="r1 a.ark:1\n")
    passed_over = PassedOver()
    read(tmp_path, passed_over)
    counted = {"count": 3, "example": "feats.scp", "names": {".scp": 1, "none": 2}}
    assert passed_over.to_json() == {"other_endings": counted}


RECORDINGS = [
    ("sph2pipe -p -f wav a.sph |", "a command ('sph2pipe' ...), which is never run"),
    ("curl -u me:SECRET http://h/a.wav|", "a command ('curl' ...)"),
    ("| tee", "a command"),
    ("-", "no path"),
    ("", "no path"),
    ("raw/wav.1.ark:1234", "a place in an archive"),
    ("raw/wav.1.ark:1234[0:99]", "a place in an archive"),
    ("http://host/a.wav", "local paths and s3://"),
    ("s3://KEY:SECRET@bucket/a.wav", "credentials"),
]


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize(("written", "words"), RECORDINGS)
def test_what_kaldi_would_run_or_seek_in_is_refused_by_name(tmp_path, written, words, segmented):
    data(tmp_path, wav_scp=f"r1 {written}\nr2 a b.wav\n")
    if segmented:
        data(tmp_path, segments="r1 r1 0 1\nr2 r2 0 1\n")
    bad, good = read(tmp_path)
    assert (bad.utterance_id, bad.problem[0]) == ("r1", "bad_row")
    assert words in bad.problem[1]
    assert f"line 1 of {'segments' if segmented else 'wav.scp'}" in bad.problem[1]
    assert "SECRET" not in f"{bad}"
    assert (good.problem, good.uri) == (None, f"{tmp_path}/a b.wav")


LINES = [
    ("r1 1.5", "bad_row", "3 fields, but a line of segments has 4"),
    ("r1 0 1 0 0", "bad_row", "6 fields"),
    ("r1 soon 1", "bad_segment", "'soon'"),
    ("r1 0 nan", "bad_segment", "'nan'"),
    ("r1 0 1e300", "bad_segment", "is no time in a recording"),
    ("r1 1000000001 1000000002", "bad_segment", "is no time in a recording"),
    ("r1 2 1", "bad_segment", "starts at 2 s and ends at 1 s"),
    ("r1 -1 1", "bad_segment", "starts at -1 s"),
    ("r1 0 1 left", "bad_row", "'left'"),
    ("r3 0 1", "bad_segment", "wav.scp has no recording 'r3'"),
    ("", "bad_row", "1 fields"),
]


@pytest.mark.parametrize(("line", "reason", "words"), LINES)
def test_a_bad_segment_is_a_problem_and_its_neighbours_keep_their_labels(tmp_path, line, reason, words):
    segments = f"a r1 0 1\nb {line}\nc r2 0 1 1\n"
    found = read(data(tmp_path, wav_scp=WAV, segments=segments, text="a one\nb two\nc three\n"))
    assert [one.problem and one.problem[0] for one in found[:3]] == [None, reason, None]
    assert words in found[1].problem[1]
    assert (found[0].text, found[2].text, found[2].channel) == ("one", "three", 1)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"text": b"r1 a\xff\nr2 fine\n"}, "text is not UTF-8"),
        ({"utt2spk": "r1 two words\nr2 s\n"}, "speaker must be one word"),
        ({"text": b"r1 " + b"x" * (5 << 20) + b"\nr2 fine\n"}, "line 1 of text: the line has more than"),
    ],
)
def test_a_label_that_cannot_be_stored_costs_its_utterance(tmp_path, tables, words):
    bad, good = read(data(tmp_path, wav_scp=WAV, **tables))
    assert bad.problem[0] == "bad_row"
    assert words in bad.problem[1]
    assert good.problem is None


@pytest.mark.parametrize("table", ["wav_scp", "segments", "text", "utt2spk"])
@pytest.mark.parametrize("swapped", [True, False])
def test_a_table_that_is_not_sorted_is_one_clear_error(tmp_path, table, swapped):
    tables = {"wav_scp": WAV, "segments": SEGMENTS, "text": "a-1 x\nb-1 x\n", "utt2spk": "a-1 x\nb-1 x\n"}
    first, second, *rest = tables[table].splitlines()
    tables[table] = "\n".join([second, first, *rest] if swapped else [first, first, second, *rest])
    with pytest.raises(ManifestError, match="utils/fix_data_dir.sh") as caught:
        read(data(tmp_path, **tables))
    assert f"line 2 of {tmp_path}/{table.replace('_', '.')}" in str(caught.value)


def test_tables_are_sorted_by_bytes_as_kaldi_sorts_them(tmp_path):
    names = ["A-1", "Z", "_x", "a", "\xe9", "\uffee", "\U0001f600"]
    assert names == sorted(names, key=str.encode)
    found = read(data(tmp_path, wav_scp="".join(f"{name} w.wav\n" for name in names), text="\uffee x\n\U0001f600 y\n"))
    assert [one.text for one in found[-2:]] == ["x", "y"]


def test_a_folder_without_tables_or_without_lines_is_one_clear_error(tmp_path):
    with pytest.raises(ManifestError, match=r"no recordings: it has no wav\.scp"):
        read(data(tmp_path, text="a b\n"))
    with pytest.raises(ManifestError, match="no recordings: its tables have no lines"):
        read(data(tmp_path, wav_scp="\n"))


def test_segments_past_the_end_are_rejected_when_their_recording_is_seen(tmp_path):
    folder = data(tmp_path / "data", wav_scp="r r.wav\n", segments="a r 0 0.5\nb r 0.5 1.05\nc r 0.5 2\nd r 0.25 -1\n")
    wav(folder / "r.wav", noise(RATE))
    output = tmp_path / "manifest"
    build_manifest(BuildManifestConfig.of(corpus=str(folder), layout="kaldi", output=str(output), runner="here"))
    rows = [row for path in sorted(output.glob("manifest-*.parquet")) for row in pq.read_table(path).to_pylist()]
    places = [(row["utterance_id"], row["offset_samples"], row["num_samples"]) for row in rows]
    assert places == [("a", 0, 8000), ("b", 8000, 8000), ("d", 4000, 12_000)]
    rejects = [row for path in (output / "_rejects").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert [(row["utterance_id"], row["reason"]) for row in rejects] == [("c", "bad_segment")]


def test_a_folder_of_data_folders_names_them(tmp_path):
    for name in ("train", "dev", ".backup"):
        data(tmp_path / name, wav_scp=WAV)
    with pytest.raises(ManifestError, match="it holds only the folders dev, train: give one of them"):
        read(tmp_path)
    (tmp_path / "README").touch()
    with pytest.raises(ManifestError, match="what there is: other_endings 1 .*; the folders dev, train, not looked"):
        read(tmp_path)


@pytest.mark.parametrize(("folders", "told"), [("a", "the folder a: give it"), ("abcdef", "a, b, c, d, e, ...: give")])
def test_one_folder_or_many_are_told_in_few_words(tmp_path, folders, told):
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ManifestError, match=told):
        read(tmp_path)


def test_a_table_of_recordings_that_cannot_be_opened_is_one_clear_error(tmp_path):
    (tmp_path / "wav.scp").mkdir()
    with pytest.raises(ManifestError, match=r"wav\.scp cannot be read: Is a directory"):
        Recordings(str(tmp_path), "wav.scp")


@pytest.mark.parametrize("segmented", [False, True])
def test_recordings_beside_the_tables_are_counted_unless_wav_scp_names_them(tmp_path, segmented):
    for name in ("stray.WAV", "b.flac", "c.wav", "d.wav"):
        (tmp_path / name).touch()
    data(tmp_path, wav_scp=f"b ./b.flac\nc {tmp_path}/c.wav\nd {tmp_path}/x/../d.wav\ne |\n", utt2spk="b two words\n")
    if segmented:
        data(tmp_path, segments="u1 b 0 1\nu2 c 0 1\nu3 c 1 2\n", utt2spk="u1 two words\n")
    passed_over = PassedOver()
    read(tmp_path, passed_over)
    assert passed_over.to_json()["unlisted_files"] == {"count": 1, "example": "stray.WAV"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("segmented", [False, True])
def test_a_line_of_recordings_that_is_too_long_costs_its_own_utterances(tmp_path, segmented, end):
    long = "b " + "x" * (5 << 20) + " a b"
    data(tmp_path, wav_scp=end.join(["a a.wav", long, "c c.wav", "d d.wav", ""]))
    if segmented:
        data(tmp_path, segments="a a 0 1\nb b 0 1\nb2 b 1 2\nc c 0 1\n")
    found = {one.utterance_id: one for one in read(tmp_path)}
    assert sorted(name for name, one in found.items() if one.problem is None) == (["a", "c"] if segmented else [*"acd"])
    for name in ("b", "b2") if segmented else ("b",):
        assert found[name].problem[0] == "bad_row"
        assert "has more than 4,194,304 characters" in found[name].problem[1]
    assert found["c"].uri == f"{tmp_path}/c.wav"
    assert not segmented or found["d"].problem[0] == "no_segment"


def test_a_speaker_that_a_program_wrote_as_a_float_is_a_whole_number_and_nan_is_none(tmp_path):
    tables = {"utt2spk": "r1 1089.0\nr2 nan\n", "text": "r1 1089.0\nr2 nan\n", "utt2lang": "r1 en\nr2 nan\n"}
    passed_over = PassedOver()
    found = read(data(tmp_path, wav_scp=WAV, **tables), passed_over)
    assert labels(found) == [("r1", "1089.0", "1089", "en"), ("r2", "nan", None, "nan")]
    assert passed_over.to_json() == {"spelt_missing": {"count": 1, "example": "speaker nan", "names": {"nan": 1}}}
