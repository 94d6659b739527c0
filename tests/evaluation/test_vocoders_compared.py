"""evaluate --compare of vocoders: a row per condition, and differences over the utterances that both have."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_tokens import write_corpus_of_tones
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.vocoder.training.stage import train_vocoder

SETS = ("all", *COLUMNS, "lower", "upper")


def judged(folder, name, *judges, **changes):
    given = {input_: str(folder / input_) for input_ in ("tokens", "manifest")}
    given |= {"output": str(folder / f"{name}_judged"), "examples": 0, "use_gpu": False, **changes}
    evaluate(EvaluateConfig.of(vocoder=str(folder / name), judges=judges, **given))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    seconds = np.random.default_rng(5).uniform(0.5, 1.4, 16)
    write_corpus_of_tones(root, seconds, columns=COLUMNS)
    train_vocoder(vocoder_config(root, root / "scalable", num_steps=3, test_fraction=0.3))
    train_vocoder(vocoder_config(root, root / "single", num_steps=2, test_fraction=0.3, layers=(4,)))
    judged(root, "scalable", "stft", "mcd")
    judged(root, "single", "mcd", "log_mel")
    return root


def compared(folder, output, *names):
    uris = tuple(str(folder / f"{name}_judged") for name in names)
    return evaluate(EvaluateConfig.of(compare=uris, output=str(output)))


def rows_of(output):
    return json.loads((output / "comparison.json").read_text())["rows"]


def test_every_condition_has_its_row_and_what_no_vocoder_spoke_has_one(folder, tmp_path):
    report = compared(folder, tmp_path, "scalable", "single")
    rows = rows_of(tmp_path)
    scalable, single = (str(folder / f"{name}_judged") for name in ("scalable", "single"))
    frames = ("original", "griffin_lim")
    wanted = [(scalable, name) for name in (*frames, *SETS, "other")] + [(single, "all")]
    assert [(row["evaluation"], row["condition"]) for row in rows] == wanted
    assert [row["condition"] for row in report.rows] == [row["condition"] for row in rows]
    assert report.compared_with == (scalable, "all")
    assert len(report.lines()) == len(rows) + 2


def test_differences_are_of_the_same_utterances_against_the_first_set_of_the_first(folder, tmp_path):
    compared(folder, tmp_path, "single", "scalable")
    mcd = {}
    for name in ("single", "scalable"):
        for row in pq.read_table(folder / f"{name}_judged" / "utterances.parquet").to_pylist():
            mcd.setdefault((str(folder / f"{name}_judged"), row["condition"]), {})[row["utterance_id"]] = row["mcd"]
    first = mcd[str(folder / "single_judged"), "all"]
    differences = {(row["evaluation"], row["condition"]): row["differences"] for row in rows_of(tmp_path)}
    told = {pair: found for pair, found in differences.items() if found}
    assert set(told) == {(str(folder / "scalable_judged"), name) for name in SETS}
    for pair, found in told.items():
        expected = np.mean([mcd[pair][name] - first[name] for name in first])
        assert found["mcd"]["value"] == pytest.approx(expected, abs=1e-6)
        assert found["mcd"]["low"] <= found["mcd"]["value"] <= found["mcd"]["high"]
        assert found["mcd"]["utterances"] == len(first)
        # Only one of the two was judged by them.
        assert not {"stft_distance", "log_mel_distance"} & set(found)


def test_the_table_is_whole_and_a_measure_that_nobody_gave_is_blank(folder, tmp_path):
    compared(folder, tmp_path, "scalable", "single")
    text = (tmp_path / "comparison.md").read_text()
    figures, differences = (part for part in text.split("\n\n") if part.startswith("|"))
    assert len(figures.splitlines()) == 2 + len(rows_of(tmp_path))
    assert len(differences.splitlines()) == 2 + len(SETS)
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert figures.splitlines()[-1].split("|")[4].strip() == ""
    assert {line.split("|")[3].strip() for line in figures.splitlines()[2:]} == {"6"}
    assert "different manifests" not in text


def test_what_cannot_be_compared_is_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(SettingsError, match="named twice"):
        compared(folder, tmp_path, "single", "single")
    with pytest.raises(DatasetError, match="vocoder"):
        evaluate(
            EvaluateConfig.of(
                compare=(str(folder / "single_judged"), str(folder / "scalable")), output=str(tmp_path / "table")
            )
        )
    with pytest.raises(SettingsError, match="folder of its own"):
        compared(folder, folder / "scalable", "single")


def test_vocoders_that_were_judged_on_other_utterances_are_not_compared(folder, tmp_path):
    judged(folder, "single", "mcd", sides=("validation",), output=str(tmp_path / "elsewhere"))
    with pytest.raises(SettingsError, match="no utterance in common"):
        evaluate(
            EvaluateConfig.of(
                compare=(str(folder / "scalable_judged"), str(tmp_path / "elsewhere")), output=str(tmp_path / "table")
            )
        )


def test_figures_that_were_changed_are_refused(folder, tmp_path):
    changed = tmp_path / "changed_judged"
    changed.mkdir()
    for path in (folder / "single_judged").rglob("*"):
        target = changed / path.relative_to(folder / "single_judged")
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(path.read_bytes())
    (changed / "metrics.json").write_text("{}")
    with pytest.raises(CorruptDatasetError, match="not what was committed"):
        evaluate(EvaluateConfig.of(compare=(str(changed),), output=str(tmp_path / "table")))
