"""An evaluation that is killed while it judges goes on where it was, and gives the same figures."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_mixtures import write_recordings
from made_voices import voice, with_noise

from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.speech import kept
from pipeline.evaluation.stage import evaluate
from pipeline.metrics.speech import judging

NAMES = [f"u{number}" for number in range(4)]


class Stopped(BaseException):
    """What ends a process at once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("kept")
    clean = {name: voice(1.0, seed=number) for number, name in enumerate(NAMES)}
    write_recordings(root / "clean", clean)
    write_recordings(root / "noisy", {name: with_noise(waveform, 10) for name, waveform in clean.items()})
    evaluate(config_of(root, root / "whole"))
    return root


def config_of(root, output):
    return EvaluateConfig.of(
        output=str(output),
        recorded=(str(root / "noisy" / "manifest"),),
        names=("noisy",),
        reference=str(root / "clean" / "manifest"),
        judges=("stft", "log_mel"),
        use_gpu=False,
        examples=1,
    )


@pytest.fixture
def judged(monkeypatch):
    """What was judged, as (utterance, condition); at the fifth row the process ends, once."""
    monkeypatch.setattr(kept, "_SECONDS", 0.0)
    row, found, ended = judging._row, [], []

    def counted(pair, *further):
        if len(found) == 4 and not ended:
            ended.append(True)
            raise Stopped
        found.append((pair.utterance_id, pair.condition))
        return row(pair, *further)

    monkeypatch.setattr(judging, "_row", counted)
    return found


def stop(folder, output):
    with pytest.raises(Stopped):
        evaluate(config_of(folder, output))


def test_what_is_judged_is_not_judged_again_and_the_files_are_the_same(folder, tmp_path, judged):
    stop(folder, tmp_path)
    first = list(judged)
    assert len(list((tmp_path / kept.FOLDER).iterdir())) == 4
    evaluate(config_of(folder, tmp_path))
    assert len(judged) == len(set(judged)) == 8
    assert judged[:4] == first
    for name in ("utterances.parquet", "metrics.json", "index.html"):
        assert (tmp_path / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not (tmp_path / kept.FOLDER).exists()


def test_rows_of_another_machine_are_judged_again(folder, tmp_path, judged, monkeypatch):
    stop(folder, tmp_path)
    monkeypatch.setattr(kept, "numerics_key", lambda device: {"device": "another"})
    evaluate(config_of(folder, tmp_path))
    assert len(judged) == 4 + 8


def test_a_file_that_cannot_be_read_is_told_and_its_rows_are_judged_again(folder, tmp_path, judged, caplog):
    stop(folder, tmp_path)
    path = min((tmp_path / kept.FOLDER).iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    evaluate(config_of(folder, tmp_path))
    assert len(judged) == 4 + 5
    assert "cannot be read, and is judged again" in caplog.text
    rows = pq.read_table(tmp_path / "utterances.parquet")
    assert rows.equals(pq.read_table(folder / "whole" / "utterances.parquet"))
    assert np.isfinite(rows["stft_distance"].to_numpy()).all()
