import pytest

from bench.vocoder_parts import bare
from bench.vocoder_workload import PRESETS, count, preset_vocoder, rival, write_corpus, write_vocoder_folder


@pytest.mark.parametrize("preset", PRESETS)
def test_the_rival_has_as_many_parameters_and_the_same_hop(preset):
    parameters = count(preset_vocoder(preset).generator)
    made = rival(parameters)
    assert count(made) == pytest.approx(parameters, rel=0.01)
    rates = made.config.upsample_rates
    assert rates == [5, 4, 4, 2, 2]


def test_the_bare_loop_speaks_all_of_the_corpus(tmp_path):
    write_corpus(tmp_path / "tokens", 5, "vocoder_small")
    write_vocoder_folder(tmp_path / "vocoder", "vocoder_small")
    found = bare({"tokens": str(tmp_path / "tokens"), "vocoder": str(tmp_path / "vocoder"), "threads": 1})
    assert 300 <= found["audio_seconds"] < 312
