"""An evaluation that is killed while it judges goes on where it was, and gives the same files."""

import shutil

import pyarrow.parquet as pq
import pytest
from made_kills import KILLED, in_child
from made_mixtures import write_recordings
from made_voices import voice, with_noise

from pipeline.evaluation.once import KEPT
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.speech import kept
from pipeline.evaluation.stage import evaluate

NAMES = [f"u{number}" for number in range(4)]
FILES = ("utterances.parquet", "metrics.json", "index.html")


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


def keep_at_once():
    """Keep each row as soon as it is made: in the child, these recordings take no 20 s."""
    kept._SECONDS = 0.0


def third_utterance(folder):
    rows = pq.read_table(folder / "whole" / "utterances.parquet").to_pylist()
    return list(dict.fromkeys(row["utterance_id"] for row in rows))[2]


def kill(folder, output):
    """Kill an evaluation when it has kept the first row of the third utterance, of two conditions each."""
    fault = {"point": "after_rows_kept", "match": third_utterance(folder), "action": "kill"}
    assert in_child(evaluate, config_of(folder, output), [fault], before=keep_at_once).code == KILLED
    assert len(list((output / KEPT).iterdir())) == 5


def test_what_was_judged_is_not_judged_again_and_the_files_are_the_same(folder, tmp_path, caplog):
    kill(folder, tmp_path)
    caplog.set_level("INFO")
    evaluate(config_of(folder, tmp_path))
    assert "5 rows of judges are there from an earlier run" in caplog.text
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert not (tmp_path / KEPT).exists()


def test_kept_rows_are_what_is_written(folder, tmp_path):
    kill(folder, tmp_path)
    for path in (tmp_path / KEPT).iterdir():
        table = pq.read_table(path)
        wrong = table.set_column(table.schema.get_field_index("stft_distance"), "stft_distance", [[99.0]])
        pq.write_table(wrong.cast(table.schema), path)
    evaluate(config_of(folder, tmp_path))
    found = pq.read_table(tmp_path / "utterances.parquet")["stft_distance"].to_pylist()
    assert found[:5] == 5 * [99.0]
    assert max(found[5:]) < 99.0


def test_rows_of_another_machine_are_judged_again(folder, tmp_path, caplog):
    kill(folder, tmp_path)
    for path in (tmp_path / KEPT).iterdir():
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({b"strata": b'{"numerics":{"device":"another"}}'}), path)
    caplog.set_level("INFO")
    evaluate(config_of(folder, tmp_path))
    assert "rows of judges are there" not in caplog.text
    assert (tmp_path / FILES[0]).read_bytes() == (folder / "whole" / FILES[0]).read_bytes()


def test_a_file_that_cannot_be_read_is_told_and_its_row_is_judged_again(folder, tmp_path, caplog):
    kill(folder, tmp_path)
    path = min((tmp_path / KEPT).iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    caplog.set_level("INFO")
    evaluate(config_of(folder, tmp_path))
    assert "cannot be read, and is judged again" in caplog.text
    assert "4 rows of judges are there" in caplog.text
    assert (tmp_path / FILES[0]).read_bytes() == (folder / "whole" / FILES[0]).read_bytes()


def test_rows_that_are_left_behind_by_a_kill_after_the_commit_are_removed(folder, tmp_path):
    kill(folder, tmp_path)
    rows = tmp_path / "rows"
    shutil.copytree(tmp_path / KEPT, rows)
    evaluate(config_of(folder, tmp_path))
    shutil.copytree(rows, tmp_path / KEPT)
    (tmp_path / "_SUCCESS").unlink()
    evaluate(config_of(folder, tmp_path))
    assert not (tmp_path / KEPT).exists()
