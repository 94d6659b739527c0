"""What pretraining logs is what it logged at commit 40a6ff9, when the loop knew one network and one AdamW.

Bytes depend on the instructions that a CPU has: they are compared where the numerics key is that of the machine
which made the golden file (an AMD EPYC with AVX-512, torch 2.13). Elsewhere, numbers are compared to 1e-5: with AVX2
and without vectors (``ATEN_CPU_CAPABILITY``), and with oneDNN held to AVX2, they differed by at most 2.1e-7 of them.

Made anew, where numbers must change and the reason is said, by:

    python -m pytest tests/pretraining/test_golden.py --basetemp=/tmp/golden
    cp /tmp/golden/*/run/metrics.jsonl tests/golden/pretraining.jsonl
"""

import json
from pathlib import Path

import pytest
from made_tokens import write_corpus_of_tones
from made_training import config_of, run

from pipeline.features.numerics import numerics_key
from pipeline.pretraining.settings import PretrainEncoderConfig
from pipeline.pretraining.stage import prepare

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = {"num_layers": 2, "width": 24, "conv_dim": [12] * 7, "num_conv_pos_embeddings": 16}
FLAGS = {
    "num_steps": 12,
    "warmup_steps": 3,
    "lr": 1e-3,
    "head": "linear",
    "batch_seconds": 3.0,
    "batches_per_step": 2,
    "crop_seconds": 1.0,
    "min_frames": 10,
    "valid_fraction": 0.25,
    "validate_every": 4,
    "checkpoint_every": 5,
    "log_every": 1,
    "unmasked_weight": 0.5,
    "speed_range": 0.2,
    "noise_probability": 0.5,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, small_encoder):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + 0.15 * number for number in range(12)])
    inputs = {name: str(folder / name) for name in ("manifest", "tokens")}
    inputs |= {"noise": inputs["manifest"], "init_encoder": small_encoder(kind="hubert", **TINY)}
    config = config_of(PretrainEncoderConfig, output=str(folder / "encoder"), **inputs, **FLAGS)
    return config, prepare(config)


def test_pretraining_logs_what_it_logged_before_the_room_was_made_for_every_network(prepared, tmp_path):
    config, given = prepared
    run(given.recipe, config.training, tmp_path / "run")
    found, golden = (path.read_text() for path in (tmp_path / "run" / "metrics.jsonl", GOLDEN / "pretraining.jsonl"))
    lines, wanted = ([json.loads(line) for line in text.splitlines()] for text in (found, golden))
    assert [line.keys() for line in lines] == [line.keys() for line in wanted]
    for line, expected in zip(lines, wanted, strict=True):
        assert line == pytest.approx(expected, rel=1e-5)
    if numerics_key("cpu") == json.loads((GOLDEN / "pretraining.numerics.json").read_text()):
        assert found == golden


def test_the_content_key_of_an_encoder_has_the_settings_that_it_had(prepared):
    content = prepared[1].plan.content
    found = {name: value for name, value in content.items() if not name.endswith("sha256")}
    assert json.loads(json.dumps(found)) == json.loads((GOLDEN / "pretraining.key.json").read_text())
