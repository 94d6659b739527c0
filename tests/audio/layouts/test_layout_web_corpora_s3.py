"""The corpora of web scale give on S3 the candidates and counts that they give on disk."""

import gzip
import io
import json
import tarfile

import pytest
import s3fs

from pipeline.audio.corpora import read_corpus
from pipeline.passed_over import PassedOver


def packed(text):
    return gzip.compress(text.encode())


def tar(name, about):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        for ending, data in (("mp3", b"-"), ("json", json.dumps(about).encode())):
            member = tarfile.TarInfo(f"{name}.{ending}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return made.getvalue()


SEGMENT = {"sid": "s", "begin_time": 1, "end_time": 2, "text_tn": "HI", "subsets": ["{XS}"]}
CLIPS = {"label": ["a", "b"], "name": ["a.flac", "b.flac"], "duration_ms": [1, 1]}
EMILIA = {"id": "EN_B00000_S00000_W000000", "text": "hi", "speaker": "EN_B00000_S00000", "language": "en"}
MP3 = "EN_B00000/EN_B00000_S00000/mp3/EN_B00000_S00000_W000000.mp3"
FILES = {
    "gigaspeech": {
        "GigaSpeech.json": json.dumps({"audios": [{"aid": "a", "path": "audio/p/a.opus", "segments": [SEGMENT]}]}),
        "audio/p/a.opus": "-",
        "audio/p/b.opus": "-",
    },
    "peoples-speech": {
        "train/clean.json": json.dumps({"identifier": "x", "training_data": CLIPS}),
        "train/clean/a.flac": "-",
        "train/clean/c.flac": "-",
        "train/dirty.json": json.dumps({"training_data": CLIPS}),
    },
    "voxpopuli": {
        "transcribed_data/en/asr_en.tsv.gz": packed(
            "id_|session_id|speaker_id|normed_text|start_time|end_time|split\nen_1|2018-PLENARY|1|hi|0|1|train\n"
        ),
        "raw_audios/original/2018/2018-PLENARY_original.ogg": "-",
        "unlabelled_data/de/2018/2018-PLENARY_de_0.ogg": "-",
    },
    "emilia": {
        "EN/EN_B00000.jsonl": json.dumps({**EMILIA, "wav": MP3, "dnsmos": 3}),
        f"EN/{MP3}": "-",
        "EN/a.txt": "-",
    },
    "emilia tars": {"EN/EN-B000000.tar": tar(EMILIA["id"], EMILIA)},
}


@pytest.mark.parametrize("corpus", FILES)
def test_a_corpus_on_s3_is_read_as_on_disk(tmp_path, bucket, corpus):
    for name, content in FILES[corpus].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    place = f"{bucket}/{corpus.replace(' ', '-')}"
    s3fs.S3FileSystem().put(f"{tmp_path}/", place.removeprefix("s3://") + "/", recursive=True)

    def read(folder):
        passed_over = PassedOver()
        found = list(read_corpus(folder, corpus.partition(" ")[0], passed_over=passed_over))
        return str(found).replace(folder, "CORPUS"), str(passed_over.to_json()).replace(folder, "CORPUS")

    here = read(str(tmp_path))
    assert read(place) == here
    assert here[0].count("Candidate(") >= 1
    assert "problem=(" not in here[0]
