"""Noises and rooms are held whole, and what is not heard of them is told."""

import numpy as np
from made_tokens import speak, write_manifest

from pipeline.audio.loading import Manifest
from pipeline.batches.noises import check_amount, read_some


def test_noises_are_read_whole_up_to_the_audio_asked_for(tmp_path):
    made = speak(tmp_path / "audio", [1.0, 0.5, 2.0, 1.0], rates=(16_000, 8_000))
    write_manifest(tmp_path / "manifest", made, per_shard=2)
    found = read_some(str(tmp_path / "manifest"), 16_000, 0)
    assert [len(waveform) for waveform in found] == [16_000, 8_000, 32_000, 16_000]
    np.testing.assert_allclose(found[2], made[2].waveform, atol=2e-4)
    chosen = {
        tuple(len(waveform) for waveform in read_some(str(tmp_path / "manifest"), 16_000, seed, most_seconds=1.2))
        for seed in range(12)
    }
    assert chosen == {(16_000, 8_000), (32_000,)}


def test_more_noise_than_is_read_is_told(tmp_path, caplog, monkeypatch):
    write_manifest(tmp_path / "manifest", speak(tmp_path / "audio", [2.0, 1.6]))
    check_amount("noise", Manifest(str(tmp_path / "manifest")))
    assert caplog.messages == []
    monkeypatch.setattr("pipeline.batches.noises.MOST_SECONDS", 1.8)
    check_amount("noise", Manifest(str(tmp_path / "manifest")))
    (said,) = caplog.messages
    assert said.startswith("noise: ")
    assert "training hears 0.0005 h of it" in said
