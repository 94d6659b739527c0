"""The two layouts of VoiceBank-DEMAND: noisy recordings that name their clean partners, and the partners."""

import os
from pathlib import Path

import pytest

from pipeline.audio.corpora import read_corpus
from pipeline.passed_over import PassedOver

REAL = Path(os.environ.get("STRATA_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
NAMES = ("testset_wav/p232_001.wav", "trainset_28spk_wav/p226_002.wav", "trainset_56spk_wav/p234_003.wav")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def read(corpus, layout):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), layout, passed_over=passed_over))
    return found, passed_over.to_json()


@pytest.mark.parametrize("below", ["", "DS_10283_2791/"])
def test_both_sides_have_speaker_and_split_by_name_and_noisy_ones_their_partner(tmp_path, below):
    corpus = touch(tmp_path, *(f"{below}{side}_{name}" for side in ("noisy", "clean") for name in NAMES))
    noisy, passed_over = read(corpus, "voicebank")
    labels = [(one.utterance_id, one.speaker, one.split, one.language, one.clean_uri) for one in noisy]
    assert labels == [
        ("p232_001", "p232", "test", "en", f"{corpus}/{below}clean_{NAMES[0]}"),
        ("p226_002", "p226", "train", "en", f"{corpus}/{below}clean_{NAMES[1]}"),
        ("p234_003", "p234", "train", "en", f"{corpus}/{below}clean_{NAMES[2]}"),
    ]
    assert passed_over == {}
    clean, passed_over = read(corpus, "voicebank-clean")
    assert [one.uri for one in clean] == [one.clean_uri for one in noisy]
    assert [(one.utterance_id, one.speaker, one.split) for one in clean] == [each[:3] for each in labels]
    assert {one.clean_uri for one in clean} == {None}
    assert passed_over == {}


def test_noisy_recordings_without_a_partner_and_what_is_in_no_tree_are_counted(tmp_path):
    corpus = touch(
        tmp_path,
        *(f"{side}_{NAMES[0]}" for side in ("noisy", "clean")),
        *("noisy_testset_wav/p232_009.wav", "clean_trainset_wav/p232_009.wav", "noisy_testset_wav/odd name.wav"),
        *("other/p232_007.wav", "testset_txt/p232_001.txt"),
    )
    found, passed_over = read(corpus, "voicebank")
    partners = {one.utterance_id: one.clean_uri for one in found}
    assert partners == {
        "noisy_testset_wav._odd.x20name": None,
        "p232_001": f"{corpus}/clean_testset_wav/p232_001.wav",
        "p232_009": None,
        "other._p232_007": None,
    }
    assert passed_over == {
        "other_endings": {"count": 1, "example": "testset_txt/p232_001.txt", "names": {".txt": 1}},
        "unfit_names": {"count": 2, "example": "noisy_testset_wav/odd name.wav"},
        "without_label": {"count": 1, "example": "noisy_testset_wav/p232_009.wav", "names": {"clean_uri": 1}},
    }


def test_one_tree_alone_is_read_too(tmp_path):
    touch(tmp_path, f"noisy_{NAMES[0]}", f"clean_{NAMES[0]}")
    (alone,), passed_over = read(tmp_path / "noisy_testset_wav", "voicebank")
    assert (alone.speaker, alone.split, alone.clean_uri) == ("p232", "test", None)
    assert passed_over["without_label"]["count"] == 1
    (clean,), _ = read(tmp_path / "clean_testset_wav", "voicebank-clean")
    assert (clean.speaker, clean.split) == ("p232", "test")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real speech on this machine")
def test_the_real_corpus_is_read_with_all_its_partners():
    noisy, passed_over = read(REAL / "VoiceBank-DEMAND", "voicebank")
    clean, _ = read(REAL / "VoiceBank-DEMAND", "voicebank-clean")
    assert len(noisy) == 29
    assert set(passed_over) <= {"other_endings"}
    assert [one.clean_uri for one in noisy] == [one.uri for one in clean]
    assert {(one.split, one.speaker) for one in noisy} == {("test", "p232"), ("test", "p257"), ("train", "p287")}
    assert all(Path(one.clean_uri).is_file() for one in noisy)
