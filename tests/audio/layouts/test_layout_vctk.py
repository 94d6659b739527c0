"""The layout vctk: texts and recordings in trees side by side, in its two versions, with the gaps that they have."""

import pytest
import soundfile

from pipeline.audio.corpora import read_corpus
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def made(folder, texts, *recordings):
    for name, text in texts.items():
        path = folder / "txt" / name.partition("_")[0] / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name in recordings:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def read(corpus):
    passed_over = PassedOver()
    found = list(read_corpus(str(corpus), "vctk", passed_over=passed_over))
    return found, passed_over.to_json()


def test_the_first_version_has_a_text_for_each_recording(tmp_path):
    texts = {"p225_001": "Please call Stella.\n", "p225_002": "Ask her.\n", "p376_001": "Please call Stella.\n"}
    corpus = made(tmp_path, texts, *(f"wav48/{name[:4]}/{name}.wav" for name in texts))
    found, passed_over = read(corpus)
    assert [(one.utterance_id, one.speaker, one.text, one.language, one.split, one.uri) for one in found] == [
        (name, name[:4], text.strip(), "en", None, f"{corpus}/wav48/{name[:4]}/{name}.wav")
        for name, text in texts.items()
    ]
    assert passed_over == {}


@pytest.mark.parametrize("below", ["", "VCTK-Corpus-0.92/"])
def test_both_microphones_are_utterances_of_their_own_name_and_of_one_text(tmp_path, below):
    tree = "wav48_silence_trimmed"
    texts = {"p225_001": "Please call Stella.", "p280_001": "Ask her.", "s5_001": "Six spoons."}
    made(
        tmp_path / below,
        texts,
        f"{tree}/p225/p225_001_mic1.flac",
        f"{tree}/p225/p225_001_mic2.flac",
        f"{tree}/p280/p280_001_mic1.flac",
        f"{tree}/s5/s5_001_mic1.flac",
        f"{tree}/s5/s5_001_mic2.flac",
        f"{tree}/log.txt",
        "speaker-info.txt",
    )
    found, passed_over = read(tmp_path)
    assert [(one.utterance_id, one.speaker, one.text) for one in found] == [
        ("p225_001_mic1", "p225", "Please call Stella."),
        ("p225_001_mic2", "p225", "Please call Stella."),
        ("p280_001_mic1", "p280", "Ask her."),
        ("s5_001_mic1", "s5", "Six spoons."),
        ("s5_001_mic2", "s5", "Six spoons."),
    ]
    assert passed_over == {"other_endings": {"count": 2, "example": f"{below}speaker-info.txt", "names": {".txt": 2}}}


def test_a_speaker_without_texts_is_read_and_counted(tmp_path):
    names = [f"wav48_silence_trimmed/p315/p315_00{number}_mic1.flac" for number in (1, 2)]
    found, passed_over = read(made(tmp_path, {"p225_001": "one", "p316_001": " \n"}, *names, "wav48/p316/p316_001.wav"))
    assert [(one.utterance_id, one.speaker, one.text) for one in found] == [
        ("p316_001", "p316", None),
        ("p315_001_mic1", "p315", None),
        ("p315_002_mic1", "p315", None),
    ]
    assert passed_over["without_label"] == {"count": 3, "example": "wav48/p316/p316_001.wav", "names": {"text": 3}}


def test_texts_without_a_recording_are_counted(tmp_path):
    texts = {f"p362_00{number}": "text" for number in range(1, 6)} | {"p364_001": "text", "p364_002": "text"}
    found, passed_over = read(made(tmp_path, texts, "wav48/p362/p362_002.wav", "wav48/p362/p362_004.wav"))
    assert [one.utterance_id for one in found] == ["p362_002", "p362_004"]
    assert passed_over == {
        "unmatched_ids": {"count": 5, "example": "txt/p362/p362_001.txt", "names": {"txt": 5}},
    }


def test_trees_that_share_the_recordings_of_their_speakers_leave_no_text_over(tmp_path):
    texts = {f"{speaker}_00{number}": "text" for speaker in ("p225", "p226") for number in (1, 2, 3)}
    first = [f"wav48/{speaker}/{speaker}_001.wav" for speaker in ("p225", "p226")]
    second = [f"wav48_silence_trimmed/{speaker}/{speaker}_002_mic1.flac" for speaker in ("p225", "p226")]
    found, passed_over = read(made(tmp_path, texts, *first, *second))
    assert [one.text for one in found] == ["text"] * 4
    unmet = {"count": 2, "example": "txt/p225/p225_003.txt", "names": {"txt": 2}}
    assert passed_over == {"unmatched_ids": unmet}


def test_what_does_not_fit_is_counted_and_not_labelled(tmp_path):
    odd = ("wav48/p225/p226_001.wav", "wav48/p225/take one.wav", "p225/p225_001.wav", "noise/p225/p225_001.wav")
    corpus = made(tmp_path, {"p225_001": "text"}, "wav48/p225/p225_001.wav", *odd, "txt/p225/p226_001.txt", "txt/x.txt")
    found, passed_over = read(corpus)
    assert {one.utterance_id: one.speaker for one in found} == {
        "noise._p225._p225_001": None,
        "p225._p225_001": None,
        "p225_001": "p225",
        "wav48._p225._p226_001": None,
        "wav48._p225._take.x20one": None,
    }
    assert passed_over["unfit_names"]["count"] == 4
    assert passed_over["other_endings"] == {"count": 2, "example": "txt/p225/p226_001.txt", "names": {".txt": 2}}
    assert set(passed_over) == {"unfit_names", "other_endings"}


def test_a_text_that_is_not_utf8_is_a_problem_of_its_utterance(tmp_path):
    texts = {"p225_001": b"caf\xe9", "p225_002": b"\xef\xbb\xbfmarked\r\n", "p225_003": b"nul\0"}
    found, _ = read(made(tmp_path, texts, *(f"wav48/p225/{name}.wav" for name in texts)))
    assert [one.problem and one.problem[0] for one in found] == ["bad_row", None, "bad_row"]
    assert "txt/p225/p225_001.txt: it is not UTF-8" in found[0].problem[1]
    assert found[1].text == "marked"


def test_a_tree_alone_is_another_layout(tmp_path):
    made(tmp_path, {}, "wav48/p225/p225_001.wav")
    with pytest.raises(ManifestError, match="layout vctk; use the layout folder"):
        read(tmp_path / "wav48")


@pytest.mark.parametrize("newer", [False, True])
def test_lhotse_reads_the_same_texts(tmp_path, newer):
    recipes = pytest.importorskip("lhotse.recipes")
    corpus = made(tmp_path, {"p225_001": "Please call Stella.\n", "p226_002": "Ask her.\n"})
    mark, tree, ending = ("p", "wav48_silence_trimmed", "_mic2.flac") if newer else ("", "wav48", ".wav")
    rows = [f"{mark}225  23  F    English    Southern  England", f"{mark}226  22  M    English    Surrey"]
    (tmp_path / "speaker-info.txt").write_text("\n".join(["ID  AGE  GENDER  ACCENTS  REGION", *rows]))
    for name in ("p225_001", "p226_002"):
        path = tmp_path / tree / name[:4] / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, [0.0] * 4800, 48000)
    theirs = recipes.prepare_vctk(corpus, use_edinburgh_vctk_url=newer)["supervisions"]
    found, _ = read(corpus)
    assert {(one.utterance_id, one.text, one.speaker) for one in found} == {
        (one.id, one.text, one.speaker) for one in theirs
    }
