"""Which encoders may be padded: the same speech alone and in a padded batch, class by class."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from whole_network import hooked_layers

from pipeline.features.encoders import network
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.features.encoders.info import MODELS

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

LENGTHS = (16_000, 47_999, 400 + 320, 80_123)
WAV2VEC2 = [
    (kind, {"stem": stem, "stable": stable}, stem == "group")
    for kind in ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
    for stem, stable in (("group", False), ("layer", False), ("layer", True))
]
POSITIONS = {
    "wav2vec2-conformer": ("relative", "rotary", None),
    "wav2vec2-bert": ("relative_key", "relative", "rotary", None),
}
# Kind, settings, and whether transformers' own masks let an utterance hear its padding.
CASES = [
    *WAV2VEC2,
    ("hubert", {"conv_pos_batch_norm": True}, True),
    ("data2vec-audio", {}, True),
    *(("wav2vec2-conformer", {"position_embeddings_type": name}, True) for name in POSITIONS["wav2vec2-conformer"]),
    ("wav2vec2-conformer", {"stem": "group"}, True),
    *(("wav2vec2-bert", {"position_embeddings_type": name}, False) for name in POSITIONS["wav2vec2-bert"]),
]
NAMES = ["-".join([kind, *(f"{key}={value}" for key, value in settings.items())]) for kind, settings, _ in CASES]


def speech_like(num_samples, seed=0):
    """A gliding voice that starts and stops, over a little noise."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(num_samples) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * (0.7 * seconds + rng.random()))) / 16_000
    voice = sum(np.sin(order * phase) / order for order in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * (3 * seconds + rng.random())), 0, None)
    return (0.1 * voice * syllables + 0.005 * rng.standard_normal(num_samples)).astype(np.float32)


def unsettled(folder):
    """Move every weight a little: fresh networks have biases and running means of zero, which hide padding."""
    path = Path(folder) / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and "inv_freq" not in name:
            shift = 0.1 * torch.randn(tensor.shape, generator=generator)
            tensors[name] = tensor + (shift.abs() if "running_var" in name else shift)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def alone_and_together(encoder):
    waveforms = [speech_like(length, seed) for seed, length in enumerate(LENGTHS)]
    together = encoder.encode(waveforms)
    alone = [encoder.encode([waveform])[0] for waveform in waveforms]
    return [np.concatenate(features, axis=1) for features in (alone, together)]


def changed_tokens(one_LTD, other_LTD):
    """Count the frames whose nearest of 64 centroids differs, and give the largest margin among them."""
    count, margin = 0, 0.0
    for one_TD, other_TD in zip(one_LTD, other_LTD, strict=True):
        centroids_KD = one_TD[np.random.default_rng(0).choice(len(one_TD), 64, replace=False)]
        distances = [((x_TD[:, None] - centroids_KD) ** 2).sum(axis=2) for x_TD in (one_TD, other_TD)]
        changed = distances[0].argmin(axis=1) != distances[1].argmin(axis=1)
        best, second = np.sort(distances[0], axis=1)[:, :2].T
        count += int(changed.sum())
        margin = max(margin, (second - best)[changed].max(initial=0) / distances[0].mean())
    return count, margin


@pytest.mark.parametrize(("kind", "settings", "leaks"), CASES, ids=NAMES)
def test_padding_changes_no_token(small_encoder, monkeypatch, kind, settings, leaks):
    folder = unsettled(small_encoder(kind=kind, **settings))
    encoder = SslEncoder.from_pretrained(folder, layers=range(5))
    assert encoder.can_pad
    alone, together = alone_and_together(encoder)
    count, margin = changed_tokens(alone, together)
    scale = np.abs(alone).max()
    assert np.abs(alone - together).max() < 1e-5 * max(1, scale)
    # Only where two centroids are as near as rounding.
    assert count <= 2
    assert margin < 1e-5
    monkeypatch.setattr(network, "make_padding_exact", lambda network, rows: None)
    alone, together = alone_and_together(SslEncoder.from_pretrained(folder, layers=range(5)))
    if leaks:
        assert np.abs(alone - together).max() > 1e-2
        assert changed_tokens(alone, together)[0] > 10
    else:
        assert np.abs(alone - together).max() < 1e-5 * max(1, scale)


def test_every_class_is_tried():
    assert {kind for kind, _, _ in CASES} == set(MODELS)


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2-conformer"])
def test_a_batch_of_one_length_has_the_bits_of_transformers(small_encoder, kind):
    folder = unsettled(small_encoder(kind=kind, stem="group", stable=False))
    waveforms = np.stack([speech_like(9_000, seed) for seed in range(3)])
    encoder = SslEncoder.from_pretrained(folder, layers=[0, 2, 4], normalize_waveform=False)
    truth = hooked_layers(folder, waveforms)
    for _ in range(2):
        for row, features in enumerate(encoder.encode(list(waveforms))):
            np.testing.assert_array_equal(features, [truth[layer][row] for layer in (0, 2, 4)])
        # A padded batch between them leaves no trace.
        encoder.encode([waveforms[0], waveforms[1][:4_000]])


def test_an_encoder_that_cannot_be_padded_refuses_several_lengths(small_encoder):
    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[1])
    info = dataclasses.replace(encoder.info, can_pad=False)
    strict = SslEncoder(encoder._network, info, layers=(1,), dtype="float32", device="cpu")
    with pytest.raises(ValueError, match=r"one length, got \[800, 900\]"):
        strict.encode([speech_like(800), speech_like(900)])
    assert len(strict.encode([speech_like(800), speech_like(800, 1)])) == 2
