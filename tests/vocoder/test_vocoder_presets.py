"""The presets of vocoders make networks of the sizes that they name."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.vocoder.network import build_vocoder
from pipeline.vocoder.saved import write_vocoder
from pipeline.vocoder.settings import VocoderLossSettings, VocoderSettings
from pipeline.vocoder.spec import VocoderSpec

FOLDER = Path(__file__).resolve().parents[2] / "jobs" / "presets"


def group(name, kind):
    """Give those settings of a preset that a group has."""
    known = {field.name for field in fields(kind)}
    preset = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in preset.items() if k in known})


def preset_spec(name, num_layers, num_clusters):
    columns = tuple(f"layer_{layer:02d}" for layer in range(num_layers))
    fuser = FuserSpec(
        settings=group(name, FusionSettings),
        kind="tokens",
        columns=columns,
        dim=None,
        encoder_sha256="e" * 64,
        num_clusters=dict.fromkeys(columns, num_clusters),
        codebook_sha256=dict.fromkeys(columns, "c" * 64),
    )
    return VocoderSpec(settings=group(name, VocoderSettings), fuser=fuser, sample_rate=16000, hop_length=320)


def parameters(made):
    built = build_vocoder(made)
    built.fold_weight_norm()
    return sum(weight.numel() for weight in built.parameters())


@pytest.mark.parametrize(
    ("name", "num_layers", "num_clusters", "millions"),
    [
        # The paper's: 22.74 M for six layers of K = 1000 at width 1024, a row of 1,024 for absent layers among them.
        ("paper_vocoder", 6, 1000, 22.734),
        ("vocoder_base", 6, 1000, 18.146),
        ("vocoder_small", 3, 500, 3.920),
        ("vocoder_small_hifigan", 3, 500, 4.076),
    ],
)
def test_a_preset_has_the_parameters_that_it_names(name, num_layers, num_clusters, millions):
    assert parameters(preset_spec(name, num_layers, num_clusters)) / 1e6 == pytest.approx(millions, abs=0.001)
    group(name, VocoderLossSettings)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*vocoder*.toml")), ids=lambda path: path.stem)
def test_every_key_of_a_preset_is_a_setting(path):
    known = {field.name for kind in (FusionSettings, VocoderSettings, VocoderLossSettings) for field in fields(kind)}
    assert set(tomllib.loads(path.read_text())) <= known


def test_the_small_one_ships_in_8_megabytes(tmp_path):
    made = preset_spec("vocoder_small", 3, 500)
    write_vocoder(str(tmp_path), made, build_vocoder(made).state_dict(), dtype="float16")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8_000_000
