"""Libraries of judges: one that is absent, or ships no weights, is one sentence, and none fetches anything."""

import socket
import sys

import numpy as np
import pytest
from made_voices import pair, voice

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judging import judge_pairs
from pipeline.metrics.speech.registry import JUDGES, WITHOUT_LIBRARIES, make_judges


@pytest.mark.parametrize(
    ("judge", "library", "command"),
    [
        ("pitch", "swift-f0", "strata-tokens[judges]"),
        ("stoi", "pystoi", "strata-tokens[judges]"),
        ("dnsmos", "speechmos", "strata-tokens[judges]"),
        ("speaker", "resemblyzer", "pip install --no-deps resemblyzer==0.1.4"),
        ("recogniser", "moonshine-voice", "moonshine-voice==0.1.0"),
    ],
)
def test_an_absent_library_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path, judge, library, command):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SettingsError) as caught:
        make_judges([judge])
    message = str(caught.value)
    assert f"the judge {judge} needs {library};" in message
    assert command in message


def test_a_release_without_weights_is_refused_and_downloads_nothing(monkeypatch, tmp_path):
    info = tmp_path / "moonshine_voice-0.1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moonshine-voice\nVersion: 0.1.5\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SettingsError, match=r"moonshine-voice 0\.1\.5 does not ship; nothing is downloaded"):
        make_judges(["recogniser"])


def test_judges_without_libraries_need_none(monkeypatch, tmp_path):
    import transformers.audio_utils  # noqa: F401 - of Strata's own requirements; the path below has nothing

    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    judges = make_judges(WITHOUT_LIBRARIES)
    assert next(judge_pairs([pair(voice(1.0))], judges))["unjudged"] == []


def test_no_judge_opens_a_connection(monkeypatch):
    def refuse(*_):
        raise AssertionError("a judge reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    judges = make_judges(list(JUDGES))
    assert [judge.name for judge in judges] == list(JUDGES)
    assert next(judge_pairs([pair(voice(2.0), text="hello")], judges))["unjudged"] == []


def test_an_unknown_judge_or_one_named_twice_is_refused():
    with pytest.raises(SettingsError, match="no judge pesq; each of stft, .* may be named once"):
        make_judges(["stft", "pesq"])
    with pytest.raises(SettingsError, match="twice"):
        make_judges(["stft", "stft"])


HUB = """
import torch

class Peak(torch.nn.Module):
    def forward(self, waveforms, sample_rate):
        return waveforms.abs().amax(dim=1) * sample_rate / 4000

def utmos22_strong(pretrained=True):
    return Peak()
"""


def test_utmos_is_loaded_from_a_folder_of_torch_hub_and_ships_no_weights(tmp_path):
    with pytest.raises(SettingsError, match="the judge utmos ships no weights: give --utmos FOLDER"):
        make_judges(["utmos"])
    with pytest.raises(SettingsError, match="torch.hub finds no utmos22_strong in") as told:
        make_judges(["utmos"], utmos=str(tmp_path))
    assert "\n" not in str(told.value)
    (tmp_path / "hubconf.py").write_text(HUB)
    judges = make_judges(["utmos"], utmos=str(tmp_path))
    said = voice(1.0)
    (row,) = judge_pairs([pair(said)], judges)
    assert row["utmos"] == pytest.approx(4 * np.abs(said).max())
    (row,) = judge_pairs([pair(voice(0.3))], judges)
    assert (row["utmos"], row["unjudged"][0]["reason"]) == (None, "too_short")
