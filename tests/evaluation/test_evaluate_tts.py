"""evaluate of text to speech: token errors and stops of each utterance, layer use, and a page."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_tasks import COLUMNS, task_config, write_task_corpus

from pipeline.errors import DatasetError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.stage import train_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated_tts")
    labels = write_task_corpus(root)
    train_task(task_config(root, root / "tts", "tts", stream_pattern="delay", speaker_input="table"))
    evaluate(EvaluateConfig.of(model=str(root / "tts"), output=str(root / "test")))
    return root, labels


def test_rows_say_what_is_wrong_and_rates_are_those_of_the_rows(folder):
    root, labels = folder
    rows = pq.read_table(root / "test" / "utterances.parquet").to_pylist()
    assert {row["utterance_id"] for row in rows} == {n for n, told in labels.items() if told["split"] == "test"}
    assert all(row["reference"] == labels[row["utterance_id"]]["text"] for row in rows)
    metrics = json.loads((root / "test" / "metrics.json").read_text())["sides"]["test"]
    frames = sum(row["num_frames"] for row in rows)
    assert frames == sum(row["num_tokens"] for row in rows)
    for column in COLUMNS:
        wrong = sum(row[f"wrong_{column}"] for row in rows)
        assert 0 < wrong <= frames
        assert metrics["metrics"][f"token_error_{column}"]["value"] == pytest.approx(wrong / frames)
    every = np.mean([metrics["metrics"][f"token_error_{column}"]["value"] for column in COLUMNS])
    assert metrics["metrics"]["token_error_rate"]["value"] == pytest.approx(every)
    late = np.mean([row["stop_frame"] == -1 for row in rows])
    assert metrics["metrics"]["stop_late"]["value"] == pytest.approx(late)
    assert "confusion" not in metrics
    assert verify_dataset(VerifyDatasetConfig(dataset=str(root / "test"))).faults == []


def test_the_page_tells_the_layers_that_the_writer_listens_to(folder):
    root, _ = folder
    use = json.loads((root / "test" / "layer_use.json").read_text())
    assert use["sides"]["test"]["by_label"] == {}
    assert set(use["sides"]["test"]["by_speaker"]) <= {"s0", "s1", "s2", "s3"}
    assert sum(use["sides"]["test"]["all"]["mean"]) == pytest.approx(1, abs=1e-5)
    page = (root / "test" / "index.html").read_text()
    assert "token_error_layer_03" in page
    assert "of the tokens wrong" in page
    assert len(use["examples"]) == 3


def test_speakers_whom_training_never_had_are_named(folder, tmp_path):
    root, _ = folder
    write_task_corpus(tmp_path, 12, change=lambda labels: labels | {"speaker": "new"})
    other = {"manifest": f"{tmp_path}/manifest", "tokens": f"{tmp_path}/tokens", "sides": ("all",)}
    with pytest.raises(DatasetError, match="speaker new is none of the 4 that training has"):
        evaluate(EvaluateConfig.of(model=str(root / "tts"), output=str(tmp_path / "out"), **other))
