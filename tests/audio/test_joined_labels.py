"""Labels that lie beside a corpus are joined by id: what counts, what is counted, and what is refused."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
import soundfile
from made_audio import noise

from pipeline.audio.manifest import encode_id
from pipeline.audio.stage import BuildManifestConfig, build_manifest, prepare
from pipeline.errors import ManifestError, SettingsError

NAMES = ("one.wav", "spk/two.wav", "spk/three.wav", "x.y.wav")
IDS = ("one", "spk._three", "spk._two", "x..y")


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def config_of(tmp_path, labels, **more):
    settings = {"corpus": str(tmp_path / "corpus"), "layout": "folder", "output": str(tmp_path / "m"), **more}
    return BuildManifestConfig.of(labels=str(labels), **settings)


def joined(tmp_path, labels, **more):
    """Give the candidates by id, and what was passed over."""
    prepared = prepare(config_of(tmp_path, labels, **more))
    rows = {row["utterance_id"]: row for piece in prepared.pieces for row in piece.to_pylist()}
    return rows, prepared.passed_over.to_json()


def write(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_an_entry_fills_its_utterance_whichever_way_its_id_is_spelt(corpus, tmp_path):
    labels = write(tmp_path, "utterance_id,text,speaker\none,a,A\nspk/two,b,B\nspk._three,c,C\nx.y.wav,d,D\n")
    rows, passed_over = joined(tmp_path, labels)
    assert {name: (row["text"], row["speaker"]) for name, row in rows.items()} == {
        "one": ("a", "A"),
        "spk._two": ("b", "B"),
        "spk._three": ("c", "C"),
        "x..y": ("d", "D"),
    }
    assert passed_over == {}


def test_a_value_of_the_table_counts_before_that_of_the_corpus_and_a_missing_one_leaves_it(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    listing = folder / "list.csv"
    listing.write_text("path,id,text,speaker,language\na.wav,a,old,S,en\nb.wav,b,stays,T,de\n")
    labels = write(tmp_path, "id,text,speaker,emotion\na,new,,happy\nb,,NaN,\n")
    rows, _ = joined(tmp_path, labels, corpus=str(listing), layout="listing")
    assert [rows["a"][name] for name in ("text", "speaker", "emotion", "language")] == ["new", "S", "happy", "en"]
    assert [rows["b"][name] for name in ("text", "speaker", "emotion", "language")] == ["stays", "T", None, "de"]


def test_what_does_not_match_is_counted_on_either_side(corpus, tmp_path):
    labels = write(tmp_path, "id,text,mood\none,a,1\nnobody,b,2\n")
    _, passed_over = joined(tmp_path, labels)
    assert passed_over == {
        "unmatched_ids": {"count": 1, "example": "nobody", "names": {"labels": 1}},
        "without_label": {"count": 3, "example": "spk._three", "names": {"labels": 3}},
        "unread_columns": {"count": 1, "example": str(labels), "names": {"mood": 1}},
    }
    with pytest.raises(ManifestError, match="unmatched_ids: 1"):
        joined(tmp_path, labels, strict=True)


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"])
def test_all_forms_of_tables_say_the_same(corpus, tmp_path, form):
    entries = [
        {"key": "one", "text": 'say "hi"', "speaker_id": 1089.0, "lang": "nan"},
        {"key": "spk/two", "text": "Gr\u00fc\u00dfe", "speaker_id": math.nan, "lang": "de"},
    ]
    path = tmp_path / f"labels.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(entries), path)
    elif form in ("csv", "tsv"):
        tab = "," if form == "csv" else "\t"
        said = '"say ""hi"""' if form == "csv" else 'say "hi"'
        lines = [("key", "text", "speaker_id", "lang"), ("one", said, "1089.0", "nan")]
        lines += [("spk/two", "Gr\u00fc\u00dfe", "NaN", "de")]
        path.write_bytes(b"\xef\xbb\xbf" + "".join(tab.join(line) + "\r\n" for line in lines).encode())
    else:
        path.write_text("".join(json.dumps(entry) + "\r\n" for entry in entries))
    rows, _ = joined(tmp_path, path, key="key")
    assert [rows["one"][name] for name in ("text", "speaker", "language")] == ['say "hi"', "1089", "nan"]
    assert [rows["spk._two"][name] for name in ("text", "speaker", "language")] == ["Gr\u00fc\u00dfe", None, "de"]
    assert rows["x..y"]["text"] is None


def test_an_id_stored_as_a_float_is_its_whole_number(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "1089.wav").touch()
    pq.write_table(pa.table({"id": [1089.0], "emotion": ["sad"]}), tmp_path / "labels.parquet")
    rows, _ = joined(tmp_path, tmp_path / "labels.parquet")
    assert rows["1089"]["emotion"] == "sad"


def test_a_shortened_id_is_found_by_the_text_that_it_encodes(tmp_path):
    folder, name = tmp_path / "corpus", "\u00e9" * 60
    folder.mkdir()
    (folder / f"{name}.wav").touch()
    rows, _ = joined(tmp_path, write(tmp_path, f"id,text\n{name},hello\n"))
    assert rows[encode_id(name)]["text"] == "hello"
    assert len(encode_id(name)) <= 190


def test_clean_recordings_are_found_from_the_folder_of_the_table(corpus, tmp_path):
    (tmp_path / "beside").mkdir()
    labels = write(tmp_path, "id,clean_uri\none,clean/one.wav\n", "beside/labels.csv")
    assert joined(tmp_path, labels)[0]["one"]["clean_uri"] == str(tmp_path / "beside/clean/one.wav")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,text\none,a\nx,b\none,c\n", "two entries for 'one': line 2 and line 4"),
        ("id,text\nnobody,a\nnobody,c\n", "two entries for 'nobody': line 2 and line 3"),
        ("id,text\nspk/two,a\nspk._two,b\n", r"two entries for 'spk._two': line 2 and line 3, written 'spk/two' and"),
        ("name,text\none,a\n", r"no column of ids \(utterance_id, id\); name it with --key; they have: name, text"),
        ("id,mood\none,a\n", "no column of labels"),
        ("id,text,text\none,a,b\n", "a column twice"),
        ("id,text\n", "have no rows"),
        ("", "no column of ids"),
        ("id,text\none,a\ntwo\n", "line 3 of the labels .*1 fields, but the header has 2"),
        ("id,text\none,a\n,b\n", r"line 3 of the labels .* has no id \(utterance_id or id\)"),
        ('id,text\none,"a\n', "line 2 of the labels .*not CSV"),
        (b"id,text\none,\xff\n", "line 2 of the labels .*text is not UTF-8"),
        ("id,clean_uri\none,s3://key:secret@b/x.wav\n", "line 2 of the labels .*credentials"),
        ("id,text\nother,a\nfurther,b\n", "no id of the labels .* it has 'other', the corpus 'one'"),
    ],
)
def test_a_table_that_would_leave_labels_away_in_silence_is_refused(corpus, tmp_path, text, says):
    with pytest.raises(ManifestError, match=says) as told:
        joined(tmp_path, write(tmp_path, text))
    assert "secret" not in str(told.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['{"id": "one", "text": "a"}', "{"], "line 2 of the labels .*not JSON"),
        (['{"id": "one", "text": ["a"]}'], "line 1 of the labels .*text must be text"),
        (['{"id": "one"}'], "no column of labels"),
        (['{"text": "a"}'], r"has no id \(utterance_id or id\)"),
        (["[", '{"id": "one", "text": "a"}', "]"], "line 1 of the labels .*not JSON"),
    ],
)
def test_json_lines_that_cannot_be_used_are_refused(corpus, tmp_path, lines, says):
    with pytest.raises(ManifestError, match=says):
        joined(tmp_path, write(tmp_path, "\n".join(lines), "labels.jsonl"))


def test_a_table_that_is_absent_or_damaged_is_one_clear_error(corpus, tmp_path):
    with pytest.raises(ManifestError, match="there is no table of labels .*none.csv"):
        joined(tmp_path, tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="cannot be read"):
        joined(tmp_path, write(tmp_path, "no parquet", "labels.parquet"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"key": "name"}, "key has no effect without labels"),
        ({"labels": "a.csv", "key": ""}, "key must name"),
        ({"labels": "a.xlsx"}, "labels must end in"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, settings, says):
    with pytest.raises(SettingsError, match=says):
        BuildManifestConfig.of(corpus="c", layout="folder", output="o", **settings)


def test_a_place_with_credentials_is_refused(corpus, tmp_path):
    with pytest.raises(SettingsError, match="table of labels") as told:
        joined(tmp_path, "s3://key:secret@bucket/labels.csv")
    assert "secret" not in str(told.value)


def test_segments_are_labelled_by_their_own_ids(corpus, tmp_path):
    segments = write(tmp_path, "recording,start,end,id\none,0,1,s1\none,1,2,s2\n", "segments.csv")
    rows, passed_over = joined(tmp_path, write(tmp_path, "id,text\ns2,second\none,all\n"), segments=str(segments))
    assert (rows["s1"]["text"], rows["s2"]["text"]) == (None, "second")
    # The recordings without a segment are rejected for that: they want no label.
    assert passed_over["without_label"]["count"] == 1
    assert passed_over["unmatched_ids"]["example"] == "one"


def test_labels_change_what_the_manifest_is_and_none_leave_it(corpus, tmp_path):
    def plan(**more):
        return prepare(config_of(tmp_path, **more)).plan.content

    without = prepare(BuildManifestConfig.of(corpus=str(corpus), layout="folder", output=str(tmp_path / "m")))
    one = plan(labels=write(tmp_path, "id,text\none,a\n"))
    two = plan(labels=write(tmp_path, "id,text\none,b\n"))
    assert len({content["corpus_sha256"] for content in (without.plan.content, one, two)}) == 3
    assert one.keys() == without.plan.content.keys()
    # The same labels in another file and order are the same corpus.
    moved = write(tmp_path, "text,id\nb,one\n", "moved.csv")
    assert plan(labels=moved) == two


def test_utterances_that_earlier_manifests_hold_are_no_strangers(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"u{number}.wav", noise(1600, seed=number), 16_000)
    first, labels = tmp_path / "first", write(tmp_path, "id,text\nu0,a\nu1,b\nu4,e\n")
    build_manifest(BuildManifestConfig.of(corpus=str(folder), layout="folder", output=str(first), runner="here"))
    soundfile.write(folder / "u4.wav", noise(1600, seed=4), 16_000)
    rows, passed_over = joined(tmp_path, labels, known=(str(first),))
    assert {name: row["text"] for name, row in rows.items()} == {"u4": "e"}
    assert set(passed_over) == {"known"}


def test_labels_reach_the_manifest_and_channels_have_those_of_their_recording(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    soundfile.write(folder / "a.wav", noise(1600, channels=2), 16_000)
    labels = write(tmp_path, "id,speaker\na,S\n")
    build_manifest(config_of(tmp_path, labels, channels="split", runner="here"))
    rows = pq.read_table(tmp_path / "m").to_pylist()
    assert [(row["utterance_id"], row["speaker"]) for row in rows] == [("a.ch0", "S"), ("a.ch1", "S")]


def test_large_pieces_and_tables_are_joined_in_order(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = "".join(f"{number}.wav,u{number}\n" for number in range(25_000))
    (folder / "list.csv").write_text("path,id\n" + rows)
    labels = "".join(f"u{number},s{number}\n" for number in reversed(range(25_000)))
    found, passed_over = joined(
        tmp_path, write(tmp_path, "id,speaker\n" + labels), corpus=str(folder / "list.csv"), layout="listing"
    )
    assert all(row["speaker"] == "s" + name[1:] for name, row in found.items())
    assert (len(found), passed_over) == (25_000, {})


def test_a_table_on_s3_is_read_as_a_local_one(corpus, tmp_path, bucket):
    s3fs.S3FileSystem().pipe(f"{bucket}/labels.csv", b"id,text\none,a\n")
    rows, _ = joined(tmp_path, f"{bucket}/labels.csv")
    assert rows["one"]["text"] == "a"


@pytest.mark.parametrize(("form", "met"), [("csv", True), ("tsv", True), ("jsonl", False)])
def test_an_id_that_lost_its_type_is_a_whole_number_where_no_utterance_is_called_as_it_is_written(tmp_path, form, met):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("1089", "7", "7.0"):
        (folder / f"{name}.wav").touch()
    entries = [("1089.0", "a"), ("7.0", "b"), ("8.0", "c")]
    if form == "jsonl":
        text = "".join(json.dumps({"id": name, "text": said}) + "\n" for name, said in entries)
    else:
        text = "".join(("," if form == "csv" else "\t").join(row) + "\n" for row in [("id", "text"), *entries])
    rows, passed_over = joined(tmp_path, write(tmp_path, text, f"labels.{form}"))
    assert rows["1089"]["text"] == ("a" if met else None)
    assert (rows["7"]["text"], rows[encode_id("7.0")]["text"]) == (None, "b")
    assert passed_over["unmatched_ids"]["count"] == (1 if met else 2)


def test_one_utterance_that_is_called_as_a_float_and_a_whole_number_is_refused(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "1089.wav").touch()
    with pytest.raises(ManifestError, match="two entries for '1089': line 2 and line 3, written '1089' and '1089.0'"):
        joined(tmp_path, write(tmp_path, "id,text\n1089,a\n1089.0,b\n"))
