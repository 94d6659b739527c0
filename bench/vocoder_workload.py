"""What bench/vocoder.py works on: vocoders of the presets, a rival of as many parameters, and a corpus of tokens."""

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.made_tokens import HOP, NUM_CLUSTERS, RATE, write_tokens
from bench.measuring import ROOT
from pipeline import schema
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.spec import VocoderSpec

if TYPE_CHECKING:
    import torch

    from pipeline.vocoder.network import Vocoder

T = TypeVar("T")

PRESETS = {
    "vocoder_small": (3, 500),
    "vocoder_small_hifigan": (3, 500),
    "vocoder_base": (6, 1000),
    "paper_vocoder": (6, 1000),
}
"""Presets, with the layers and the clusters per layer that they are made for."""

_RIVAL_CHANNELS = (128, 256, 512)
_FEWEST_BINS = 80


def preset_group(name: str, kind: type[T]) -> T:
    """Give those settings of a preset of jobs/presets that a group has."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    preset = tomllib.loads((ROOT / "jobs" / "presets" / f"{name}.toml").read_text())
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in preset.items() if key in known
    }
    return kind(**given)


def preset_spec(name: str, num_layers: int, num_clusters: int) -> VocoderSpec:
    """Say what the vocoder of a preset is, for tokens as ``write_tokens`` makes them up."""
    columns = tuple(schema.layer_column(layer) for layer in range(1, num_layers + 1))
    fuser = FuserSpec(
        settings=preset_group(name, FusionSettings),
        kind="tokens",
        columns=columns,
        dim=None,
        encoder_sha256="e" * 64,
        num_clusters=dict.fromkeys(columns, num_clusters),
        codebook_sha256=dict.fromkeys(columns, "c" * 64),
    )
    return VocoderSpec(settings=preset_group(name, VocoderSettings), fuser=fuser, sample_rate=RATE, hop_length=HOP)


def preset_vocoder(name: str) -> "Vocoder":
    """Make the vocoder of a preset as ``load_vocoder`` does: random weights, weight norm folded, ``eval()``."""
    import torch

    from pipeline.vocoder.network import build_vocoder

    torch.manual_seed(0)
    vocoder = build_vocoder(preset_spec(name, *PRESETS[name]))
    vocoder.fold_weight_norm()
    return vocoder.eval()


def rival(parameters: int) -> "torch.nn.Module":
    """Make a SpeechT5HifiGan of about as many parameters and the same hop; it takes mel frames (B, T, bins).

    Its upsampling is that of our HiFi-GAN. The bins of its mel spectrum fill up what is lacking: they cost little time.
    """
    import torch
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    def made(channels: int, bins: int) -> torch.nn.Module:
        config = SpeechT5HifiGanConfig(
            model_in_dim=bins,
            sampling_rate=RATE,
            upsample_initial_channel=channels,
            upsample_rates=[5, 4, 4, 2, 2],
            upsample_kernel_sizes=[11, 8, 8, 4, 4],
            normalize_before=False,
        )
        network: torch.nn.Module = SpeechT5HifiGan(config).eval()
        return network

    torch.manual_seed(0)
    fitting = [(channels, count(made(channels, _FEWEST_BINS))) for channels in _RIVAL_CHANNELS]
    channels, size = max((each for each in fitting if each[1] <= parameters), default=fitting[0])
    kernel = 7
    return made(channels, _FEWEST_BINS + max(0, round((parameters - size) / (channels * kernel))))


def count(network: "torch.nn.Module") -> int:
    """Count parameters."""
    return sum(weight.numel() for weight in network.parameters())


def write_vocoder_folder(folder: Path, preset: str) -> None:
    """Write the random vocoder of a preset."""
    from pipeline.vocoder.saved import write_vocoder

    vocoder = preset_vocoder(preset)
    write_vocoder(str(folder), vocoder.spec, vocoder.state_dict())


def write_corpus(folder: Path, minutes: float, preset: str) -> None:
    """Write random tokens that a preset's vocoder speaks, in shards of 5 minutes."""
    num_layers, num_clusters = PRESETS[preset]
    if num_clusters < NUM_CLUSTERS:
        raise ValueError(f"{preset} has {num_clusters} clusters, fewer than the {NUM_CLUSTERS} that are made up")
    columns = [schema.layer_column(layer) for layer in range(1, num_layers + 1)]
    write_tokens(folder, minutes / 60, columns, "0" * 64)
