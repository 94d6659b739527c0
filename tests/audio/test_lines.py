"""Tables of words and lines of lists: whatever separates, whatever ends a line, and a limit on its length."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise, wav

from pipeline.audio.lines import MAX_LINE, Lines, LongLine, pairs, words
from pipeline.audio.segment_lists import read_segments
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.passed_over import PassedOver

SPELLINGS = {
    "blanks": lambda text: text,
    "tabs": lambda text: text.replace(" | ", "\t"),
    "several": lambda text: text.replace(" | ", " \t  "),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: "\ufeff" + text,
    "all of them": lambda text: "\ufeff" + text.replace(" | ", "\t \t").replace("\n", " \t\r\n"),
    "no end of the last line": lambda text: text.rstrip("\n"),
}


def spelt(text, spelling):
    return SPELLINGS[spelling](text).replace(" | ", " ").encode()


def manifest_of(corpus, output, **settings):
    report = build_manifest(
        BuildManifestConfig.of(corpus=str(corpus), output=str(output), num_workers=1, runner="here", **settings)
    )
    return report, pq.read_table(output).to_pylist()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_kaldi_tables_say_the_same_whatever_separates_and_ends_their_lines(tmp_path, spelling):
    (tmp_path / "wav").mkdir()
    wav(tmp_path / "wav" / "rec-1.wav", noise(3 * RATE))
    tables = {
        "segments": "utt-1 | rec-1 | 0.00 | 1.00\nutt-2 | rec-1 | 1.00 | 3.00\n",
        "utt2spk": "utt-1 | spk-1\nutt-2 | spk-2\n",
        "text": "utt-1 | hello  there,\u3000you\nutt-2 | good\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_bytes(spelt(text, spelling))
    settings = {"layout": "folder", "segments": str(tmp_path / "segments"), "strict": True}
    _, rows = manifest_of(tmp_path / "wav", tmp_path / "m", **settings)
    found = [(row["utterance_id"], row["num_samples"], row["speaker"], row["text"]) for row in rows]
    assert found == [
        ("utt-1", RATE, "spk-1", "hello  there,\u3000you"),
        ("utt-2", 2 * RATE, "spk-2", "good"),
    ]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_librispeech_transcripts_say_the_same_whatever_separates_and_ends_their_lines(tmp_path, spelling):
    chapter = tmp_path / "c" / "dev" / "1" / "2"
    chapter.mkdir(parents=True)
    for number in range(2):
        wav(chapter / f"1-2-{number}.wav", noise(RATE))
    (chapter / "1-2.trans.txt").write_bytes(spelt("1-2-0 | WELL  YES\n1-2-1 | NO\n", spelling))
    _, rows = manifest_of(tmp_path / "c", tmp_path / "m", layout="librispeech", strict=True)
    assert [row["text"] for row in rows] == ["WELL  YES", "NO"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rttm_says_the_same_whatever_separates_and_ends_its_lines(tmp_path, spelling):
    (tmp_path / "wav").mkdir()
    wav(tmp_path / "wav" / "call.wav", noise(3 * RATE))
    lines = [
        ["SPEAKER", "call", "1", start, "1.0", "<NA>", "<NA>", name, "<NA>", "<NA>"]
        for start, name in (("0.5", "A"), ("1", "B"))
    ]
    (tmp_path / "list").write_bytes(spelt("".join(" | ".join(line) + "\n" for line in lines), spelling))
    _, rows = manifest_of(tmp_path / "wav", tmp_path / "m", layout="folder", segments=str(tmp_path / "list"))
    found = [(row["speaker"], row["offset_samples"], row["num_samples"]) for row in rows]
    assert found == [("A", RATE // 2, RATE), ("B", RATE, RATE)]


def test_a_table_whose_ids_meet_no_segment_is_counted(tmp_path):
    (tmp_path / "wav").mkdir()
    wav(tmp_path / "wav" / "r.wav", noise(RATE))
    (tmp_path / "segments").write_text("u1 r 0 1\n")
    (tmp_path / "text").write_text("\ufeffother\tyes\n")
    report, _ = manifest_of(tmp_path / "wav", tmp_path / "m", layout="folder", segments=str(tmp_path / "segments"))
    assert PassedOver.of(report.passed_over)["unmatched_ids"] == 1


def test_words_are_separated_by_blanks_and_tabs_and_by_no_other_space_of_unicode():
    assert words("a\u00a0b \t c\u3000d\r\n") == ["a\u00a0b", "c\u3000d"]
    assert pairs(io.BytesIO(b"k\tv  w\n\nlonely\nx \t\n"), "text", PassedOver()) == {"k": "v  w"}


def test_of_lines_of_one_id_the_first_is_read_and_the_others_are_counted(tmp_path):
    passed_over = PassedOver()
    table = b"a one\nb\nb two\na three\n\na " + b"x" * MAX_LINE + b"\na\n"
    assert pairs(io.BytesIO(table), "text", passed_over) == {"a": "one", "b": "two"}
    twice = {"count": 3, "example": "line 4 of text", "names": {"id twice": 3}}
    assert passed_over.to_json() == {"unread_lines": twice}


def test_speakers_and_texts_that_come_twice_beside_segments_are_counted(tmp_path):
    (tmp_path / "segments").write_text("u1 r 0 1\n")
    (tmp_path / "utt2spk").write_text("u1 ann\nu1 bob\n")
    (tmp_path / "text").write_text("u1 yes\nu1 no\n")
    passed_over = PassedOver()
    (segment,) = read_segments(str(tmp_path / "segments"), passed_over=passed_over)
    assert (segment.speaker, segment.text) == ("ann", "yes")
    twice = {"count": 2, "example": "line 2 of utt2spk", "names": {"id twice": 2}}
    assert passed_over.to_json() == {"unread_lines": twice}


def test_a_line_at_the_limit_is_read_and_one_past_it_is_not():
    text = f"{'a' * (MAX_LINE - 1)}\n{'b' * MAX_LINE}\nend\n"
    lines = Lines(io.BytesIO(text.encode()))
    assert next(lines) == "a" * (MAX_LINE - 1) + "\n"
    with pytest.raises(LongLine, match=f"{MAX_LINE:,} characters"):
        next(lines)
    assert next(lines) == "end\n"
    assert lines.number == 3


LONG = "x" * (MAX_LINE + 10)
LISTINGS = {
    "a.jsonl": [json.dumps({"uri": "a.wav", "id": name, "text": text}) for name, text in (("1", ""), ("2", LONG))],
    "a.csv": ["uri,id,text", "a.wav,1,", f"a.wav,2,{LONG}"],
    "a.tsv": ["uri\tid\ttext", "a.wav\t1\t", f"a.wav\t2\t{LONG}"],
}
LISTS = {
    "s.jsonl": [
        json.dumps({"recording": "a", "start": 0, "end": 1, "id": name, "text": text})
        for name, text in (("1", ""), ("2", LONG))
    ],
    "s.csv": ["recording,start,end,id,text", "a,0,1,1,", f"a,0,1,2,{LONG}"],
    "s.rttm": [f"SPEAKER a 1 {start} 0.5 <NA> <NA> {name} <NA> <NA>" for start, name in (("0", "1"), ("0.5", LONG))],
    "segments": ["1 a 0 1", f"{LONG} a 0 1"],
}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_line_without_end_in_a_listing_costs_one_reject(tmp_path, name):
    wav(tmp_path / "a.wav", noise(RATE))
    last = LISTINGS[name][-1].replace(LONG, "short").replace('"2"', '"3"')
    last = last.replace(",2,", ",3,").replace("\t2\t", "\t3\t")
    (tmp_path / name).write_text("\n".join([*LISTINGS[name], last]) + "\n")
    report, rows = manifest_of(tmp_path / name, tmp_path / "m", layout="listing", max_reject_fraction=1.0)
    assert [row["utterance_id"] for row in rows] == ["1", "3"]
    assert (report.rejects, report.reject_reasons) == (1, {"bad_row": 1})


@pytest.mark.parametrize("name", LISTS)
def test_a_line_without_end_in_a_segment_list_costs_one_reject(tmp_path, name):
    (tmp_path / "c").mkdir()
    wav(tmp_path / "c" / "a.wav", noise(RATE))
    (tmp_path / name).write_text("\n".join(LISTS[name]) + "\n")
    settings = {"layout": "folder", "segments": str(tmp_path / name), "max_reject_fraction": 1.0}
    report, rows = manifest_of(tmp_path / "c", tmp_path / "m", **settings)
    assert len(rows) == 1
    assert (report.rejects, report.reject_reasons) == (1, {"bad_row": 1})


def test_a_line_without_end_beside_kaldi_segments_or_in_transcripts_costs_its_utterance(tmp_path):
    (tmp_path / "c").mkdir()
    wav(tmp_path / "c" / "a.wav", noise(RATE))
    (tmp_path / "segments").write_text("1 a 0 1\n2 a 0 1\n")
    (tmp_path / "text").write_text(f"2 {LONG}\n1 yes\n")
    settings = {"layout": "folder", "segments": str(tmp_path / "segments"), "max_reject_fraction": 1.0}
    report, rows = manifest_of(tmp_path / "c", tmp_path / "m", **settings)
    assert [(row["utterance_id"], row["text"]) for row in rows] == [("1", "yes")]
    assert report.reject_reasons == {"bad_row": 1}
    chapter = tmp_path / "l" / "dev" / "1" / "2"
    chapter.mkdir(parents=True)
    for number in range(2):
        wav(chapter / f"1-2-{number}.wav", noise(RATE))
    (chapter / "1-2.trans.txt").write_text(f"1-2-0 {LONG}\n1-2-1 NO\n")
    report, rows = manifest_of(tmp_path / "l", tmp_path / "n", layout="librispeech", max_reject_fraction=1.0)
    assert [row["text"] for row in rows] == ["NO"]
    assert report.reject_reasons == {"bad_row": 1}


PROGRAM = """
import resource, sys
from pipeline.audio.corpora import read_corpus
from pipeline.passed_over import PassedOver
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
found = list(read_corpus(sys.argv[1], "listing", passed_over=PassedOver()))
print(len(found), sum(one.problem is not None for one in found), peak() - before)
"""


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_line_of_a_hundred_megabytes_takes_the_memory_of_the_limit(tmp_path, name):
    head = '{"uri": "a.wav", "text": "' if name == "a.jsonl" else "uri,text\na.wav,"
    with open(tmp_path / name, "w") as file:
        file.write(head)
        for _ in range(100):
            file.write("x" * (1 << 20))
        file.write('"}\n{"uri": "b.wav"}\n' if name == "a.jsonl" else "\nb.wav,\n")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / name)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    found, problems, kilobytes = map(int, told.stdout.split())
    assert (found, problems) == (2, 1)
    assert kilobytes < 12 * MAX_LINE // 1024
