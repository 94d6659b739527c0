"""The presets of vocoders make networks of the sizes that they name."""

import pytest

from bench.vocoder_workload import preset_group, preset_spec
from pipeline.vocoder.network import build_vocoder
from pipeline.vocoder.saved import write_vocoder
from pipeline.vocoder.settings import VocoderLossSettings


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
    preset_group(name, VocoderLossSettings)


def test_the_small_one_ships_in_8_megabytes(tmp_path):
    made = preset_spec("vocoder_small", 3, 500)
    write_vocoder(str(tmp_path), made, build_vocoder(made).state_dict(), dtype="float16")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8_000_000
