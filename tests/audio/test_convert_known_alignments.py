"""Times of lhotse and TIMIT are converted and read back by those who use them."""

import numpy as np
import pytest
import soundfile
from made_alignments import RATE, check, convert, lhotse_set, write_audio, write_segmented
from made_mixtures import manifest_of


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    return write_segmented(tmp_path_factory.mktemp("segmented"))


SEGMENTS = {
    "zz": ("r1", 1.0, 3.0, [(1.25, 1.5, "one"), (2.0, 2.123456, "two")]),
    "aa": ("r1", 4.0, 7.0, [(4.0, 5.0, "three"), (6.75, 7.0, "four")]),
    "mm": ("r2", 2.0, 5.0, [(2.1, 2.2, "five"), (3.0, 4.0, "six")]),
}


def shifted(segments=SEGMENTS):
    return {
        name: [(a - start, b - start, label) for a, b, label in said] for name, (_, start, _, said) in segments.items()
    }


@pytest.mark.parametrize("name", ["supervisions.jsonl", "supervisions.jsonl.gz"])
def test_supervisions_of_lhotse_come_back_relative_to_their_utterances(segmented, tmp_path, name):
    lhotse_set(SEGMENTS).to_file(tmp_path / name)
    convert(segmented, tmp_path / name, "lhotse", tmp_path / "words.parquet", strict=True)
    check(tmp_path / "words.parquet", shifted())
    convert(segmented, tmp_path / name, "lhotse", tmp_path / "phones.parquet", tier="phones", strict=True)
    check(tmp_path / "phones.parquet", {name: [(0.0, 0.25, "AH")] for name in SEGMENTS})


def test_supervisions_of_lhotse_with_other_ids_meet_the_segments_of_their_recordings(segmented, tmp_path):
    lhotse_set({f"sup-{name}": segment for name, segment in SEGMENTS.items()}).to_file(tmp_path / "all.jsonl")
    convert(segmented, tmp_path / "all.jsonl", "lhotse", tmp_path / "words.parquet", strict=True)
    check(tmp_path / "words.parquet", shifted())


@pytest.mark.parametrize("how", ["trimmed", "truncated", "whole"])
def test_cuts_of_lhotse_come_back_relative_to_their_utterances(segmented, tmp_path, how):
    lhotse = pytest.importorskip("lhotse")
    sources = {name: [lhotse.audio.AudioSource("file", [0], f"/{name}.wav")] for name in ("r1", "r2")}
    recordings = [lhotse.Recording(name, made, RATE, 10 * RATE, 10.0) for name, made in sources.items()]
    cuts = lhotse.CutSet.from_manifests(lhotse.RecordingSet.from_recordings(recordings), lhotse_set(SEGMENTS))
    if how == "trimmed":
        cuts = cuts.trim_to_supervisions()
    elif how == "truncated":
        cuts = lhotse.CutSet.from_cuts([cut.truncate(offset=0.75, duration=9) for cut in cuts])
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    convert(segmented, tmp_path / "cuts.jsonl.gz", "lhotse", tmp_path / "words.parquet", strict=True)
    check(tmp_path / "words.parquet", shifted())


def test_a_segment_called_as_its_recording_has_the_times_of_its_place(tmp_path):
    write_audio(tmp_path / "audio", ("r1",), seconds=4)
    (tmp_path / "segments.csv").write_text("recording,start,end,id\nr1,1,3,r1\n")
    settings = {"layout": "folder", "segments": str(tmp_path / "segments.csv")}
    manifest = manifest_of(tmp_path / "audio", tmp_path / "manifest", **settings)
    lhotse_set({"r1": ("r1", 0.0, 4.0, [(1.5, 2.0, "here")])}).to_file(tmp_path / "all.jsonl")
    convert(manifest, tmp_path / "all.jsonl", "lhotse", tmp_path / "words.parquet")
    check(tmp_path / "words.parquet", {"r1": [(0.5, 1.0, "here")]})


def write_timit(folder, *, lower):
    """Write two speakers of TIMIT with the same sentence, and times in samples at 16 kHz."""
    said = {
        "DR1/FCJF0/SA1": [(0, 3050, "h#"), (3050, 4559, "sh")],
        "DR2/MWEW0/SA1": [(0, 2190, "h#"), (2190, 9999, "ix")],
    }
    for name, phones in said.items():
        path = folder / "TRAIN" / name
        path = folder / str(path.relative_to(folder)).lower() if lower else path
        path.parent.mkdir(parents=True)
        soundfile.write(path.with_suffix(".wav" if lower else ".WAV"), np.zeros(16000), 16000, format="WAV")
        for ending, lines in ((".PHN", phones), (".WRD", phones[1:]), (".TXT", [(0, 16000, "She had.")])):
            text = "".join(f"{start} {end} {label}\r\n" for start, end, label in lines)
            path.with_suffix(ending.lower() if lower else ending).write_text(text)
    return {name: [(a / 16000, b / 16000, label) for a, b, label in phones] for name, phones in said.items()}


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("layout", ["timit", "folder"])
@pytest.mark.parametrize("tier", ["phones", "words"])
def test_times_of_timit_come_back_whatever_the_case_of_its_files(tmp_path, lower, layout, tier):
    said = write_timit(tmp_path / "timit", lower=lower)
    manifest = manifest_of(tmp_path / "timit", tmp_path / "manifest", layout=layout)
    output = tmp_path / "times.parquet"
    convert(manifest, tmp_path / "timit", "timit", output, tier=tier, strict=True)
    ids = {name: name.replace("/", "._") for name in said}
    if layout == "folder":
        ids = {name: f"train._{ids[name].lower()}" if lower else f"TRAIN._{ids[name]}" for name in said}
    check(output, {ids[name]: phones[tier == "words" :] for name, phones in said.items()})
