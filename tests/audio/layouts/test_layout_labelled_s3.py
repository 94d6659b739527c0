"""Corpora on S3 give the candidates and counts that they give on disk."""

import pytest
import s3fs

from pipeline.audio.corpora import read_corpus
from pipeline.passed_over import PassedOver

FILES = {
    "timit": {
        "data/TRAIN/DR1/FCJF0/SA1.WAV": "",
        "data/TRAIN/DR1/FCJF0/SA1.WAV.wav": "",
        "data/TRAIN/DR1/FCJF0/SA1.TXT": "0 46797 She had your dark suit.\n",
        "data/TRAIN/DR1/FCJF0/SA2.PHN": "0 3050 h#\n",
        "data/TEST/DR1/FELC0/SX36.WAV": "",
    },
    "iemocap": {
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav": "",
        "Session1/dialog/wav/Ses01F_impro01.wav": "",
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "[1.0 - 2.0]\tSes01F_impro01_M000\tang\t[2.5, 2.5, 2.5]\n",
        "Session1/dialog/transcriptions/Ses01F_impro01.txt": "Ses01F_impro01_M000 [1.0-2.0]: No.\n",
    },
    "voxceleb": {
        "wav/id10270/x6uYqmx31kE/00001.wav": "",
        "wav/id10270/x6uYqmx31kE/00001.txt": "",
        "vox1_meta.csv": "VoxCeleb1 ID\tGender\tSet\nid10270\tf\ttest\nid10271\tf\ttest\n",
    },
    "commonvoice": {
        "de/train.tsv": "path\tsentence\tclient_id\nb.mp3\tJa.\tx\nabsent.mp3\tNein.\ty\n",
        "de/clips/a.mp3": "",
        "de/clips/b.mp3": "",
        "de/clips/c.txt": "",
        "de/validated.tsv": "path\tsentence\n",
        "fy-NL/test.tsv": "path\tsentence\tclient_id\nb.mp3\tJa.\tx\n",
        "fy-NL/clips/b.mp3": "",
    },
}


@pytest.mark.parametrize("layout", FILES)
def test_a_corpus_on_s3_is_read_as_on_disk(tmp_path, bucket, layout):
    for name, content in FILES[layout].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        # Some servers know no object without a byte.
        (tmp_path / name).write_text(content or "-")
    place = f"{bucket}/{layout}"
    s3fs.S3FileSystem().put(f"{tmp_path}/", place.removeprefix("s3://") + "/", recursive=True)

    def read(corpus):
        passed_over = PassedOver()
        found = list(read_corpus(corpus, layout, passed_over=passed_over))
        return str(found).replace(corpus, "CORPUS"), str(passed_over.to_json()).replace(corpus, "CORPUS")

    here = read(str(tmp_path))
    assert read(place) == here
    assert here[0].count("Candidate(") >= 1
    assert "problem=(" not in here[0]
