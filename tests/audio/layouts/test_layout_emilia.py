"""Emilia gives the same utterances from its JSON lines and from its tars."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def row(number, text=" Und es gibt auch einen Stadtplan.", batch="DE_B00000", **others):
    speaker = f"{batch}_S00000"
    name = f"{speaker}_W{number:06d}"
    about = {"id": name, "wav": f"{batch}/{speaker}/mp3/{name}.mp3", "text": text, "duration": 3.228}
    return {**about, "speaker": speaker, "language": batch[:2].lower(), "dnsmos": 3.3697, **others}


def speech():
    file = io.BytesIO()
    sf.write(file, np.zeros(2400, dtype=np.float32), 24000, format="MP3")
    return file.getvalue()


def raw(folder, rows, *, packed=False, absent=()):
    """Write the first release: a table beside the folder of each batch."""
    tables = {}
    for each in rows:
        language, batch = each["wav"][:2], each["wav"].partition("/")[0]
        tables.setdefault(f"{language}/{batch}.jsonl", []).append(json.dumps(each, ensure_ascii=False))
        path = folder / language / each["wav"]
        if batch not in absent:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(speech())
    for name, lines in tables.items():
        data = "".join(f"{line}\n" for line in lines).encode()
        place = folder / (name + ".gz" if packed else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(data) if packed else data)
    return folder


def tar(path, rows):
    """Write the second release: pairs of MP3 and JSON, whose wav names the member."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for each in rows:
            about = {**each, "wav": f"{each['id']}.mp3", "phone_count": 44}
            for ending, data in (("mp3", speech()), ("json", json.dumps(about).encode())):
                member = tarfile.TarInfo(f"{each['id']}.{ending}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def read(corpus):
    passed_over = PassedOver()
    return list(read_corpus(str(corpus), "emilia", passed_over=passed_over)), passed_over.to_json()


def labels(found):
    return [(one.utterance_id, one.text, one.speaker, one.language, one.split, one.duration_seconds) for one in found]


def test_both_forms_give_the_same_ids_and_labels(tmp_path):
    rows = [row(0), row(1, "\u00fcber \u201ealles\u201c"), row(0, batch="EN_B00003", language="EN")]
    found, passed_over = read(raw(tmp_path / "raw", rows))
    assert labels(found) == [
        ("DE_B00000_S00000_W000000", " Und es gibt auch einen Stadtplan.", "DE_B00000_S00000", "de", None, None),
        ("DE_B00000_S00000_W000001", "\u00fcber \u201ealles\u201c", "DE_B00000_S00000", "de", None, None),
        ("EN_B00003_S00000_W000000", " Und es gibt auch einen Stadtplan.", "EN_B00003_S00000", "en", None, None),
    ]
    assert [one.uri for one in found] == [f"{tmp_path}/raw/{each['wav'][:2]}/{each['wav']}" for each in rows]
    assert passed_over == {"unread_columns": {"count": 2, "example": "DE/DE_B00000.jsonl", "names": {"dnsmos": 2}}}
    tar(tmp_path / "tars/DE/DE-B000000.tar", rows[:2])
    tar(tmp_path / "tars/EN/EN-B000003.tar", rows[2:])
    packed, passed_over = read(tmp_path / "tars")
    assert labels(packed) == labels(found)
    assert packed[1].member == "DE_B00000_S00000_W000001.mp3"
    assert set(passed_over) == {"unread_columns"}
    assert labels(read(tmp_path / "tars/EN/EN-B000003.tar")[0]) == labels(found)[2:]
    assert labels(read(f"{tmp_path}/tars/DE/DE-B{{000000..000000}}.tar")[0]) == labels(found)[:2]
    assert corpus_roots(f"{tmp_path}/tars/EN/EN-B000003.tar", "emilia") == [f"{tmp_path}/tars/EN"]


def test_lhotse_reads_the_same_files_and_labels(tmp_path):
    from lhotse.recipes.emilia import prepare_emilia

    cuts = prepare_emilia(raw(tmp_path / "raw", [row(0), row(1)]).parent, "de", num_jobs=1)
    theirs = [(cut.recording.sources[0].source, cut.supervisions[0]) for cut in cuts]
    assert [(one.uri, one.utterance_id, one.text, one.speaker, one.language) for one in read(tmp_path / "raw")[0]] == [
        (source, one.id, one.text, one.speaker, one.language) for source, one in theirs
    ]


def test_tables_of_batches_that_were_not_fetched_are_counted(tmp_path):
    rows = [row(0), row(0, batch="DE_B00001"), row(1, batch="DE_B00001")]
    folder = raw(tmp_path, rows, packed=True, absent=["DE_B00001"])
    extra = "DE/DE_B00000/DE_B00000_S00009/mp3/DE_B00000_S00009_W000000.mp3"
    (folder / extra).parent.mkdir(parents=True)
    (folder / extra).touch()
    (folder / "DE/DE_B00002.tar.gz").touch()
    found, passed_over = read(folder)
    assert [one.utterance_id for one in found] == ["DE_B00000_S00000_W000000"]
    assert passed_over["unmatched_ids"] == {
        "count": 2,
        "example": "DE_B00001_S00000_W000000 of DE/DE_B00001.jsonl.gz",
        "names": {"DE/DE_B00001.jsonl.gz": 2},
    }
    assert passed_over["unlisted_files"] == {"count": 1, "example": extra}
    assert passed_over["other_endings"]["names"] == {".gz": 1}
    # The language alone is a corpus too.
    assert read(folder / "DE")[0] == found


def test_a_row_that_cannot_be_used_is_a_problem_that_says_where(tmp_path):
    folder = raw(tmp_path, [row(0)])
    bad = [row(1, id=None), row(2, wav=""), row(3, wav="s3://key:secret@bucket/a.mp3"), row(4, speaker={"a": 1})]
    table = folder / "DE/DE_B00000.jsonl"
    lines = [*(json.dumps(each) for each in bad), "{", json.dumps(row(5, "nan", speaker=float("nan")))]
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes() + "".join(f"{each}\r\n" for each in lines).encode())
    found, _ = read(folder)
    assert [(one.utterance_id, one.speaker) for one in found if one.problem is None] == [
        ("DE_B00000_S00000_W000000", "DE_B00000_S00000"),
        ("DE_B00000_S00000_W000005", None),
    ]
    problems = [one.problem for one in found if one.problem]
    assert {reason for reason, _ in problems} == {"bad_row"}
    assert [detail.partition(":")[0] for _, detail in problems] == [
        f"line {n} of DE/DE_B00000.jsonl" for n in range(2, 7)
    ]
    assert "secret" not in str(found)


def test_a_tar_that_is_cut_keeps_its_whole_members_and_says_what_is_lost(tmp_path):
    path = tar(tmp_path / "DE-B000000.tar", [row(0), row(1)])
    with tarfile.open(path) as file:
        second = file.getmembers()[2]
    path.write_bytes(path.read_bytes()[: second.offset_data + 10])
    found, _ = read(tmp_path)
    assert (found[0].utterance_id, found[0].problem) == ("DE_B00000_S00000_W000000", None)
    assert {one.problem[0] for one in found[1:]} == {"truncated"}


def test_tables_without_audio_are_one_clear_error(tmp_path):
    raw(tmp_path, [row(0)], absent=["DE_B00000"])
    with pytest.raises(ManifestError, match=r"no recordings that its 1 tables name; unpack EN_B00000\.tar\.gz"):
        read(tmp_path)
