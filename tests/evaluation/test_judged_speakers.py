"""evaluate --vocoder where speakers are vectors: each utterance in the voice of its own recording, or all in one."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from made_speakers import speaker_encoder, write_other_encoder, write_two_voices
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.errors import PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.vocoder.saved import load_vocoder, read_voices
from pipeline.vocoder.speaker_vectors import SpeakerVectors
from pipeline.vocoder.training.stage import train_vocoder


def config_of(folder, output, vocoder="vocoder", **changes):
    inputs = {name: str(folder / name) for name in ("tokens", "manifest")} | {"vocoder": str(folder / vocoder)}
    usual = {"judges": ("stft",), "layer_sets": ("all",), "examples": 8, "use_gpu": False}
    return EvaluateConfig.of(output=str(output), **{**inputs, **usual, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    speaker_encoder()
    root = tmp_path_factory.mktemp("judged_speakers")
    write_two_voices(root, 16)
    changes = {"num_steps": 2, "warmup_steps": 0, "test_fraction": 0.3, "speaker_input": "vector"}
    train_vocoder(vocoder_config(root, root / "vocoder", **changes))
    return root


def spoken(folder, output, voice_of):
    """Compare what was kept of each utterance with what the network gives of it, in the voice that it should have."""
    network = load_vocoder(str(folder / "vocoder"))
    tokens = {row["utterance_id"]: row for row in pq.read_table(folder / "tokens").to_pylist()}
    rows = [row for row in pq.read_table(output / "utterances.parquet").to_pylist() if row["condition"] == "all"]
    assert rows
    for number, row in enumerate(rows):
        name = row["utterance_id"]
        ids = torch.tensor([[tokens[name][column] for column in COLUMNS]]).transpose(1, 2).long()
        length = ids.shape[1] * network.hop_length
        vector = voice_of(soundfile.read(folder / "audio" / f"{name}.flac", dtype="float32")[0][:length])
        with torch.inference_mode():
            made = network(ids, torch.ones(ids.shape[:2], dtype=torch.bool), None, torch.from_numpy(vector)[None])
        kept, _ = soundfile.read(output / "samples" / "all" / f"utterance_{number}.flac", dtype="float32")
        assert np.abs(kept - made[0].numpy()).max() < 1e-4


def test_each_utterance_is_judged_in_the_voice_of_its_own_recording(folder, tmp_path):
    evaluate(config_of(folder, tmp_path / "out"))
    spoken(folder, tmp_path / "out", SpeakerVectors(speaker_encoder()))


def test_all_utterances_are_judged_in_the_voice_of_one_who_is_known(folder, tmp_path):
    evaluate(config_of(folder, tmp_path / "out", speaker="bob"))
    bob = read_voices(str(folder / "vocoder"))["bob"]
    spoken(folder, tmp_path / "out", lambda _: bob)
    with pytest.raises(PlanMismatchError, match="speaker"):
        evaluate(config_of(folder, tmp_path / "out", speaker="ann"))


def test_a_speaker_who_is_not_known_or_another_encoder_is_refused_in_one_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match="--speaker eve is none of the vocoder's; it knows ann, bob") as told:
        evaluate(config_of(folder, tmp_path / "out", speaker="eve"))
    assert "\n" not in str(told.value)
    evaluate(config_of(folder, tmp_path / "done"))
    monkeypatch.syspath_prepend(str(write_other_encoder(tmp_path / "other")))
    with pytest.raises(SettingsError, match=r"takes speaker vectors of resemblyzer .* resemblyzer 0\.1\.9") as told:
        evaluate(config_of(folder, tmp_path / "out"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()
    plan = json.loads((tmp_path / "done" / "_plan.json").read_text())["content"]
    assert plan["speaker_encoder"]["name"] == "resemblyzer"
