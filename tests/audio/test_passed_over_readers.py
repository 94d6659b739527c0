"""What each reader of a corpus passes over is counted by kind; at 5237d84 it was a line of the log, or nothing."""

import json

import pytest
from made_audio import noise
from made_containers import encoded, write_tar

from pipeline.audio import tar_shards
from pipeline.audio.corpora import read_corpus
from pipeline.audio.segment_lists import read_segments
from pipeline.audio.segments import cut_recordings
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(corpus, layout, **more):
    """Give the candidates of a corpus, and what was passed over as JSON."""
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), layout, passed_over=passed_over, **more))
    return found, passed_over.to_json()


def labels(found):
    return {one.member: one.text for one in found}


# Folders


def test_files_of_other_endings_are_counted_by_ending(tmp_path):
    touch(tmp_path, "a.wav", "b/a.ape", "b/b.APE", "b/c.tta", "b/noending", ".DS_Store", "b/.hidden.txt")
    found, passed_over = read(tmp_path, "folder")
    assert [one.utterance_id for one in found] == ["a"]
    assert passed_over == {
        "hidden_files": {"count": 2, "example": ".DS_Store"},
        "other_endings": {"count": 4, "example": "b/a.ape", "names": {".ape": 2, ".tta": 1, "none": 1}},
    }


@pytest.mark.parametrize("layout", ["folder", "librispeech", "fsdd", "emodb", "voicebank"])
def test_a_folder_with_nothing_readable_says_what_it_holds(tmp_path, layout):
    touch(tmp_path, "a.ape", "b.ape", "c.tta")
    with pytest.raises(ManifestError, match=r"no recordings .*what there is: other_endings 3 \(\.ape 2, \.tta 1\)"):
        read(tmp_path, layout)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(ManifestError, match="it is empty, or does not exist"):
        read(tmp_path, "folder")


def test_recordings_that_are_not_named_as_in_the_layout_are_counted(tmp_path):
    touch(tmp_path, "7_george_12.wav", "seven.wav", "notes.txt")
    _, passed_over = read(tmp_path, "fsdd")
    assert passed_over["unfit_names"] == {"count": 1, "example": "seven.wav"}
    assert passed_over["other_endings"]["names"] == {".txt": 1}


def test_transcripts_of_librispeech_are_no_other_files_and_lines_without_a_recording_are_counted(tmp_path):
    touch(tmp_path, "dev/1/2/1-2-0000.flac", "dev/1/2/1-2-0001.flac", "dev/1/3/1-3-0000.flac", "dev/SPEAKERS.TXT")
    (tmp_path / "dev/1/2/1-2.trans.txt").write_text("1-2-0000 ONE\n1-2-0001 TWO\n1-2-0002 THREE\n1-2-0003 FOUR\n")
    (tmp_path / "dev/1/3/1-3.trans.txt").write_text("1-3-0000 FIVE\n")
    touch(tmp_path, "dev/1/4/1-4.trans.txt")
    found, passed_over = read(tmp_path / "dev", "librispeech")
    assert [one.text for one in found] == ["ONE", "TWO", "FIVE"]
    assert passed_over == {
        "other_endings": {"count": 2, "example": "1/4/1-4.trans.txt", "names": {".txt": 2}},
        "unmatched_ids": {"count": 2, "example": "1-2-0002 of 1/2/1-2.trans.txt", "names": {".trans.txt": 2}},
    }


def test_an_id_that_comes_twice_in_transcripts_of_librispeech_has_its_first_text(tmp_path):
    touch(tmp_path, "dev/1/2/1-2-0000.flac")
    (tmp_path / "dev/1/2/1-2.trans.txt").write_text("1-2-0000 ONE\n1-2-0000 TWO\n")
    (found,), passed_over = read(tmp_path, "librispeech")
    assert found.text == "ONE"
    twice = {"count": 1, "example": "line 2 of dev/1/2/1-2.trans.txt", "names": {"id twice": 1}}
    assert passed_over == {"unread_lines": twice}


def test_transcripts_of_librispeech_that_cannot_be_read_are_one_clear_error(tmp_path):
    touch(tmp_path, "dev/1/2/1-2-0000.flac", "dev/1/2/1-2.trans.txt/x")
    with pytest.raises(ManifestError, match=r"dev/1/2/1-2\.trans\.txt cannot be read: Is a directory"):
        read(tmp_path, "librispeech")


@pytest.mark.parametrize(("layout", "ending"), [("webdataset", "tar"), ("parquet", "parquet")])
def test_a_folder_without_containers_says_what_it_holds(tmp_path, layout, ending):
    touch(tmp_path, "a.zip", "b.zip", "_c", f".d.{ending}")
    with pytest.raises(ManifestError, match=rf"ends in \.{ending}; what there is: hidden_files 2.*; other_endings 2 "):
        read(tmp_path, layout)


def test_other_files_beside_tars_are_counted(tmp_path):
    write_tar(tmp_path / "s.tar", [("a.wav", b"x")])
    touch(tmp_path, "s.json", "_old.tar", ".s.tar")
    _, passed_over = read(tmp_path, "webdataset")
    assert passed_over == {
        "hidden_files": {"count": 2, "example": ".s.tar"},
        "other_endings": {"count": 1, "example": "s.json", "names": {".json": 1}},
    }


# Tars


def test_dotted_names_that_differ_in_their_ending_alone_are_one_sample(tmp_path):
    """All four texts were null, and the log called them neither audio nor .txt."""
    names = ("rec.001", "rec.002", "d.1/rec.a.b", "d.1/rec.a.c")
    members = [pair for name in names for pair in ((f"{name}.wav", b"x"), (f"{name}.txt", f"words of {name}".encode()))]
    found, passed_over = read(write_tar(tmp_path / "s.tar", members), "webdataset")
    assert labels(found) == {f"{name}.wav": f"words of {name}" for name in names}
    assert passed_over == {}


@pytest.mark.parametrize("dotted", ["", ".mic1"])
@pytest.mark.parametrize("order", ["labels first", "labels last", "turned round"])
def test_labels_apart_from_their_audio_are_joined(tmp_path, order, dotted):
    """Every text was null."""
    texts = [(f"w{n}{dotted}.txt", f"text {n}".encode()) for n in range(5)]
    fields = [(f"w{n}{dotted}.JSON", json.dumps({"speaker": f"s{n}"}).encode()) for n in range(5)]
    audio = [(f"w{n}{dotted}.wav", b"x") for n in range(5)]
    parts = {"labels first": (texts, fields, audio), "labels last": (audio, texts, fields)}
    parts["turned round"] = (texts[::-1], audio, fields[::-1])
    found, passed_over = read(write_tar(tmp_path / "s.tar", sum(parts[order], [])), "webdataset")
    assert [(one.text, one.speaker) for one in found] == [(f"text {n}", f"s{n}") for n in range(5)]
    assert passed_over == {}


def test_a_label_of_all_recordings_of_a_sample_yields_to_one_of_their_own(tmp_path):
    members = [
        ("rec.left.wav", b"x"),
        ("rec.right.wav", b"x"),
        ("rec.right.txt", b"right"),
        ("rec.txt", b"both"),
        ("rec.json", b'{"speaker": "s"}'),
        ("rec.wrong.json", b'{"speaker": "nobody"}'),
    ]
    found, passed_over = read(write_tar(tmp_path / "s.tar", members), "webdataset")
    assert [(one.text, one.speaker) for one in found] == [("both", "s"), ("right", "s")]
    assert passed_over == {"unread_labels": {"count": 1, "example": "s.tar: rec.wrong.json", "names": {".json": 1}}}


def test_of_equal_names_those_beside_the_audio_count_then_the_last(tmp_path):
    members = [("a.txt", b"1"), ("x.txt", b"x"), ("a.wav", b"x"), ("a.txt", b"2"), ("x.wav", b"x"), ("a.wav", b"x")]
    found, passed_over = read(write_tar(tmp_path / "s.tar", members), "webdataset")
    assert [one.text for one in found] == ["2", "x", "2"]
    assert passed_over["unread_labels"]["count"] == 1


def test_labels_that_are_too_far_apart_are_counted(tmp_path, monkeypatch):
    members = [*((f"w{n}.txt", b"text") for n in range(9)), *((f"w{n}.wav", b"x") for n in range(9))]
    path = write_tar(tmp_path / "s.tar", members)
    assert set(labels(read(path, "webdataset")[0]).values()) == {"text"}
    monkeypatch.setattr(tar_shards, "MAX_HELD_BYTES", 4000)
    found, passed_over = read(path, "webdataset")
    assert len(found) == 9
    without = sum(one.text is None for one in found)
    assert without == passed_over["unread_labels"]["count"] > 0


def test_labels_without_audio_other_members_and_fields_are_counted_for_each_tar(tmp_path):
    fields = json.dumps({"text": "no", "speaker": "s", "sha": 1, "mic": 2, "duration": 3.0}).encode()
    members = [("a.wav", b"x"), ("a.txt", b"yes"), ("a.json", fields), ("a.png", b""), ("b.txt", b"alone"), (".c", b"")]
    for name in ("s-0", "s-1"):
        write_tar(tmp_path / f"{name}.tar", members)
    found, passed_over = read(tmp_path, "webdataset")
    assert [one.text for one in found] == ["yes", "yes"]
    assert passed_over == {
        "hidden_files": {"count": 2, "example": "s-0.tar: .c"},
        "unread_columns": {"count": 4, "example": f"{tmp_path}/s-0.tar", "names": {"mic": 2, "sha": 2}},
        "unread_labels": {"count": 4, "example": "s-0.tar: a.json", "names": {".txt": 2, "text of .json": 2}},
        "unread_members": {"count": 2, "example": "s-0.tar: a.png", "names": {".png": 2}},
    }


def test_a_tar_without_audio_says_what_it_holds(tmp_path):
    write_tar(tmp_path / "s.tar", [("a.ape", b"x"), ("a.txt", b"x")])
    with pytest.raises(
        ManifestError, match=r"what there is: unread_labels 1 \(\.txt 1\).*unread_members 1 \(\.ape 1\)"
    ):
        read(tmp_path, "webdataset")


def test_a_tar_without_an_end_mark_is_counted(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("a.wav", b"x")])
    path.write_bytes(path.read_bytes()[:1024])
    assert read(path, "webdataset")[1] == {"no_end_mark": {"count": 1, "example": str(path)}}


def test_a_tar_that_was_joined_to_another_is_read_too(tmp_path):
    """All behind the first end mark was lost, and nothing said so."""
    parts = [write_tar(tmp_path / f"{n}.part", [(f"{n}.wav", b"x" * n), (f"{n}.txt", b"%d" % n)]) for n in range(1, 4)]
    data = [part.read_bytes() for part in parts]
    (tmp_path / "s.tar").write_bytes(b"".join(data))
    found, passed_over = read(tmp_path / "s.tar", "webdataset")
    assert [(one.utterance_id, one.text, one.num_bytes) for one in found] == [
        (f"s._{n}", str(n), n) for n in range(1, 4)
    ]
    assert passed_over == {}
    whole = (tmp_path / "s.tar").read_bytes()
    for one in found:
        assert whole[one.byte_offset : one.byte_offset + one.num_bytes] == b"x" * one.num_bytes
    # Damage in what was joined is a reject, as damage elsewhere.
    (tmp_path / "s.tar").write_bytes(data[0] + data[1][:512] + b"damaged" * 100)
    found, _ = read(tmp_path / "s.tar", "webdataset")
    assert [one.problem and one.problem[0] for one in found] == [None, None, "truncated"]


@pytest.mark.parametrize("zeros", [0, 10_240, 1 << 20])
def test_bytes_behind_the_end_of_a_tar_are_counted(tmp_path, zeros):
    path = write_tar(tmp_path / "s.tar", [("a.wav", b"x")])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(zeros) + b"a trailer" * 100)
    found, passed_over = read(path, "webdataset")
    assert [one.problem for one in found] == [None]
    assert passed_over == {"unread_end": {"count": 1, "example": f"{path}, from byte {size + zeros} on"}}


# Tables and lists


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_of_a_listing_that_nothing_reads_are_counted(tmp_path, ending):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"path": f"{n}.wav", "sentence": "a", "age": "7", "client_id": "x"} for n in range(3)]
    path = tmp_path / f"l.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        dash = {"csv": ",", "tsv": "\t"}[ending]
        path.write_text("\n".join(dash.join(row) for row in (rows[0], *(row.values() for row in rows))) + "\n")
    found, passed_over = read(path, "listing")
    assert [one.text for one in found] == ["a"] * 3
    assert passed_over == {"unread_columns": {"count": 2, "example": str(path), "names": {"age": 1, "client_id": 1}}}


def test_columns_of_a_parquet_corpus_that_nothing_reads_are_counted(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    flac = encoded(noise(4_000))
    rows = [{"audio": flac, "text": "a", "picture": b"1", "path": "a.flac", "age": 7}]
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    found, passed_over = read(tmp_path, "parquet", audio_column="audio")
    assert [one.text for one in found] == ["a", "a"]
    assert passed_over["unread_columns"]["names"] == {"age": 2, "path": 2, "picture": 2}


def segments(path, content, **beside):
    path.write_text(content)
    for name, content in beside.items():
        (path.parent / name).write_text(content)
    passed_over = PassedOver()
    return list(read_segments(str(path), passed_over=passed_over)), passed_over


def test_columns_and_lines_of_segment_lists_that_nothing_reads_are_counted(tmp_path):
    _, table = segments(tmp_path / "l.csv", "recording,start,end,mood\na,0,1,good\n")
    assert table.to_json()["unread_columns"]["names"] == {"mood": 1}
    _, lines = segments(tmp_path / "l.jsonl", '{"recording": "a", "start": 0, "end": 1, "mood": "good"}\n')
    assert lines.to_json()["unread_columns"]["names"] == {"mood": 1}
    rttm = "SPKR-INFO a 1 <NA> <NA> <NA> adult x <NA> <NA>\nSPEAKER a 1 0 1 <NA> <NA> x <NA> <NA>\nNOSCORE a 1 1 1\n"
    found, turns = segments(tmp_path / "l.rttm", rttm)
    assert len(found) == 1
    assert turns.to_json() == {
        "unread_lines": {
            "count": 2,
            "example": f"{tmp_path}/l.rttm, line 1",
            "names": {"NOSCORE": 1, "SPKR-INFO": 1},
        }
    }


def test_ids_of_kaldi_tables_that_no_segment_has_are_counted(tmp_path):
    found, passed_over = segments(
        tmp_path / "segments",
        "u1 rec 0 1\nu2 rec 1 2\n",
        utt2spk="u1 ann\nu2 bob\nu3 ann\n",
        text="u2 hello\nu8 lost\nu9 words\n",
    )
    assert [one.text for one in found] == [None, "hello"]
    assert passed_over.to_json() == {
        "unmatched_ids": {"count": 3, "example": "u3 of utt2spk", "names": {"text": 2, "utt2spk": 1}}
    }


def test_segments_that_name_no_recording_and_texts_of_whole_recordings_are_counted(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"path": "a.wav", "text": "all of it"}\n{"path": "b.wav"}\n')
    recordings, _ = read(tmp_path / "l.jsonl", "listing")
    listed, passed_over = segments(tmp_path / "s.csv", "recording,start,end\na,0,1\nb,0,1\nc,0,1\nc,1,2\nd,2,1\n")
    found = list(cut_recordings(recordings, listed, str(tmp_path), passed_over=passed_over))
    assert len(found) == 5
    # A row that is wrong in itself has its own reason.
    assert passed_over.to_json() == {
        "recording_labels": {"count": 1, "example": "a"},
        "unmatched_segments": {"count": 2, "example": "row 4: c"},
    }
