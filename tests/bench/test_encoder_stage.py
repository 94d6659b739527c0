import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from bench.measuring import ROOT, environment


def found_by(folder, *flags):
    """Run the command on three utterances of noise; give what it wrote and what it printed."""
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        noise = rng.normal(0, 3000, 32_000 + 4_000 * number).astype(np.int16)
        soundfile.write(folder / "audio" / f"{number}.wav", noise, 16_000)
    command = [sys.executable, "-m", "bench.encoder_stage", "--models", "small", "--corpus", folder / "audio"]
    command += ["--layers", "1", "3", "12", "--clusters", "20", "--processes", "1", "--json", folder / "found.json"]
    command += ["--dtypes", "float32", *flags]
    run = subprocess.run(list(map(str, command)), env=environment(1), cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "found.json").read_text())["models"][0], run.stdout


def test_a_run_is_measured_beside_a_bare_loop(tmp_path):
    found, printed = found_by(tmp_path, "--contenders", "a", "b")
    assert found["layers"] == [1, 3]
    assert found["audio_seconds"] == pytest.approx(6.75)
    assert found["b"]["report"]["rows"] == 3
    assert {"a/b", "a/b with start"} <= found["ratios"].keys()
    assert printed.count("| small |") == 3


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_all_contenders_run_on_three_utterances_and_agree(tmp_path):
    found, printed = found_by(tmp_path)
    assert found["tokens_equal"] > 0.99
    assert {"a/b", "c/b", "c cut/b", "d/b"} <= found["ratios"].keys()
    assert found["c"]["flops_per_audio_second"] > found["c cut"]["flops_per_audio_second"]
    # Cut after layer 3 of 6: fewer FLOPs than at full depth, more than none.
    assert 0 < found["a"]["flops_per_audio_second"] < found["d"]["flops_per_audio_second"]
    assert printed.count("| small |") == 6
    assert found["e"]["layers"] == [1, 2, 3, 4, 5, 6]
    assert f"6 layers in one pass take {found['e']['ratio']:.3f} of the time of layer 6 alone" in printed
