"""train_vocoder on Ray Train: a worker that is killed ends nothing."""

import numpy as np
import pytest
from made_killed_workers import history, train_with_a_killed_worker
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, job_flags, vocoder_config

from pipeline.vocoder.training.stage import train_vocoder


@pytest.mark.nightly
@pytest.mark.ray
def test_a_killed_worker_ends_nothing_and_changes_no_loss(tmp_path):
    write_corpus_of_tones(tmp_path, np.random.default_rng(3).uniform(0.25, 1.4, 24), columns=COLUMNS)
    two = {"batches_per_step": 2}
    train_vocoder(vocoder_config(tmp_path, tmp_path / "here", **two))
    config = vocoder_config(tmp_path, tmp_path / "out", **two, runner="ray", num_workers=2)
    train_with_a_killed_worker("train_vocoder", job_flags(config), tmp_path)
    found, expected = history(tmp_path / "out"), history(tmp_path / "here")
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, rel=2e-3, abs=1e-4)
