"""Lists for VERSA, read as VERSA reads them, a name and the rest of a line, give back what was written."""

import shlex
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.metrics.speech.versa import Sample, versa_files


def read(path):
    """Read as VERSA's scorer does with ``--io soundfile``, and its transcripts."""
    return dict(line.strip().split(maxsplit=1) for line in path.read_text().splitlines())


def sample(name, **rest):
    return Sample(utterance_id=name, generated=Path(f"made here/{name}.wav"), **rest)


def test_lists_hold_names_absolute_paths_and_texts_in_the_order_of_names(tmp_path):
    samples = [sample(name, reference=Path(f"/o/{name}.flac"), text=f" say\n{name} ") for name in ("b", "a")]
    command = shlex.split(versa_files(tmp_path / "x", samples))
    folder = tmp_path / "x"
    assert list(read(folder / "wav.scp").items()) == [(n, str(Path(f"made here/{n}.wav").absolute())) for n in "ab"]
    assert read(folder / "reference.scp") == {"a": "/o/a.flac", "b": "/o/b.flac"}
    assert read(folder / "text") == {"a": "say a", "b": "say b"}
    flags = dict(zip(command[1::2], command[2::2], strict=True))
    assert command[0] == "versa-score"
    assert flags["--pred"] == str(folder / "wav.scp")
    assert flags["--gt"] == str(folder / "reference.scp")
    assert flags["--text"] == str(folder / "text")
    assert flags["--io"] == "soundfile"


def test_what_not_every_sample_has_is_left_out_of_files_and_command(tmp_path):
    samples = [sample("a", reference=Path("/o/a.wav"), text="one"), sample("b", text=" ")]
    command = versa_files(tmp_path, samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wav.scp"]
    assert "--gt" not in command
    assert "--text" not in command


def test_names_and_paths_that_versa_cannot_read_are_refused(tmp_path):
    for bad in ("two words", "", "line\nbreak"):
        with pytest.raises(SettingsError, match="one word"):
            versa_files(tmp_path, [sample(bad)])
    with pytest.raises(SettingsError, match="a is there 2 times"):
        versa_files(tmp_path, [sample("a"), sample("a")])
    for path in ("sox x |", "a\nb.wav", "end .wav "):
        with pytest.raises(SettingsError, match="cannot read the path"):
            versa_files(tmp_path, [Sample(utterance_id="a", generated=Path(path))])
    with pytest.raises(SettingsError, match="no sample"):
        versa_files(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
