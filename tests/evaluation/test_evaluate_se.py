"""evaluate of enhancement on tokens: rows, rates with intervals, page and table, and another corpus of pairs."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_enhancement import se_config, write_pairs
from made_features import write_features
from made_tasks import COLUMNS, task_config, write_task_corpus

from pipeline.cross_validation.settings import CrossValidateConfig
from pipeline.cross_validation.stage import cross_validate
from pipeline.errors import CodebookMismatchError, DatasetError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.enhancement import open_enhancement
from pipeline.tasks.stage import train_task
from pipeline.tasks.trained import open_trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("enhanced")
    made = write_pairs(root)
    train_task(se_config(root, root / "se"))
    evaluate(EvaluateConfig.of(model=str(root / "se"), output=str(root / "test"), examples=2))
    return root, made


def rows_of(folder):
    return pq.read_table(folder / "utterances.parquet").to_pylist()


def facts(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_there_is_a_row_per_utterance_and_the_noisy_rate_is_that_of_the_datasets(folder):
    root, made = folder
    found = rows_of(root / "test")
    assert sorted(row["utterance_id"] for row in found) == [f"nu{number:03d}" for number in range(4, 30, 5)]
    for row in found:
        noisy, clean = made[row["utterance_id"]]
        wrong = int((noisy.tokens != clean.tokens).sum())
        assert row["tokens_per_layer"] == row["num_frames"] == len(clean.tokens)
        assert [row[f"noisy_wrong_{name}"] for name in COLUMNS] == [wrong] * 3
        assert row["noisy_token_error_rate"] == pytest.approx(wrong / len(clean.tokens))
        wrong = sum(row[f"wrong_{name}"] for name in COLUMNS)
        assert row["token_error_rate"] == pytest.approx(wrong / 3 / len(clean.tokens))
    assert verify_dataset(VerifyDatasetConfig(dataset=str(root / "test"))).faults == []


def test_rates_are_those_of_the_rows_with_intervals_over_utterances(folder):
    root, _ = folder
    found, told = rows_of(root / "test"), facts(root / "test", "metrics")["sides"]["test"]
    frames = sum(row["num_frames"] for row in found)
    for begins, rate in (("wrong_", "token_error_rate"), ("noisy_wrong_", "noisy_token_error_rate")):
        by_layer = [sum(row[f"{begins}{name}"] for row in found) / frames for name in COLUMNS]
        assert told["metrics"][rate]["value"] == pytest.approx(np.mean(by_layer))
        assert [told["metrics"][f"{rate}_{name}"]["value"] for name in COLUMNS] == pytest.approx(by_layer)
        assert told["metrics"][rate]["low"] < told["metrics"][rate]["value"] < told["metrics"][rate]["high"]
    assert "confusion" not in told


def test_the_page_shows_the_rates_the_layer_use_and_no_words(folder):
    root, _ = folder
    shown, use = (root / "test" / "index.html").read_text(), facts(root / "test", "layer_use")
    assert "Evaluation: se, fusion attention" in shown
    assert "noisy_token_error_rate_layer_03" in shown
    assert use["sides"]["test"]["by_label"] == {}
    assert set(use["sides"]["test"]["by_speaker"]) == {"s0", "s1", "s2"}
    assert len(use["examples"]) == 2
    by_id = {row["utterance_id"]: row for row in rows_of(root / "test")}
    for example in use["examples"]:
        assert "hypothesis" not in example
        row = by_id[example["utterance_id"]]
        assert example["token_error_rate"] == pytest.approx(row["token_error_rate"], abs=1e-8)
        assert f"{example['token_error_rate']:.4f}" in shown


def other(root, **changes):
    given = {
        "manifest": f"{root}/noisy/manifest",
        "tokens": f"{root}/noisy/tokens",
        "clean_manifest": f"{root}/clean/manifest",
        "clean_tokens": f"{root}/clean/tokens",
        "sides": ("all",),
    }
    return {**given, **changes}


def test_another_corpus_of_pairs_is_tested_whole_even_with_more_layers(folder, tmp_path):
    root, _ = folder
    made = write_pairs(tmp_path, 8, seed=3, columns=(*COLUMNS, "layer_09"))
    report = evaluate(EvaluateConfig.of(model=str(root / "se"), output=str(tmp_path / "out"), **other(tmp_path)))
    assert report.sides["all"]["utterances"] == len(made) == 8
    assert "token_error_rate_layer_09" not in report.sides["all"]["metrics"]
    told = dict(report.lines())
    assert told["  token_error_rate"].startswith(f"{report.sides['all']['metrics']['token_error_rate']['value']:.4f} ")


def test_clean_tokens_of_another_codebook_and_halves_of_pairs_are_refused(folder, tmp_path):
    root, _ = folder
    write_pairs(tmp_path, 8, seed=3)
    with pytest.raises(SettingsError, match=r"nu000: .* \(not there"):
        evaluate(
            EvaluateConfig.of(
                model=str(root / "se"),
                output=str(tmp_path / "out"),
                **other(tmp_path, clean_manifest=None, clean_tokens=None),
            )
        )
    with pytest.raises(SettingsError, match="together, or neither"):
        EvaluateConfig.of(model="m", output="o", clean_tokens="t")
    for side in ("noisy", "clean"):
        store = open_store(f"{tmp_path}/{side}/tokens")
        plan = json.loads(store.read("_plan.json"))
        plan["lineage"]["codebooks"]["layer_06"] = "d" * 64
        store.write("_plan.json", json.dumps(plan).encode())
    with pytest.raises(CodebookMismatchError, match="codebook of layer_06 cccccccccccc there, dddddddddddd here"):
        evaluate(EvaluateConfig.of(model=str(root / "se"), output=str(tmp_path / "out"), **other(tmp_path)))
    assert not (tmp_path / "out").exists()


def test_a_target_that_is_no_input_is_compared_with_what_was_trained(tmp_path):
    write_pairs(tmp_path, 20)
    train_task(se_config(tmp_path, tmp_path / "se", layers=(0,), target_layers=(6,)))
    for side in ("noisy", "clean"):
        store = open_store(f"{tmp_path}/{side}/tokens")
        plan = json.loads(store.read("_plan.json"))
        plan["lineage"]["codebooks"]["layer_06"] = "d" * 64
        store.write("_plan.json", json.dumps(plan).encode())
    with pytest.raises(CodebookMismatchError, match="trained to predict: codebook of layer_06 cccccccccccc there, ddd"):
        evaluate(EvaluateConfig.of(model=str(tmp_path / "se"), output=str(tmp_path / "out")))


def test_a_folder_trained_before_a_setting_was_there_is_read_with_its_default(tmp_path):
    write_task_corpus(tmp_path, 20)
    train_task(task_config(tmp_path, tmp_path / "sid", "sid", num_steps=2, validate_every=2))
    recorded = open_trained(str(tmp_path / "sid")).config
    path = tmp_path / "sid" / "_config.json"
    told = json.loads(path.read_text())
    del told["settings"]["conformer"]
    del told["settings"]["data"]["clean_tokens"]
    path.write_text(json.dumps(told))
    assert open_trained(str(tmp_path / "sid")).config == recorded
    del told["settings"]["division"]["valid_fraction"]
    path.write_text(json.dumps(told))
    with pytest.raises(DatasetError, match="says another valid_fraction than its plan"):
        open_trained(str(tmp_path / "sid"))


def test_clean_tokens_are_a_setting_of_no_other_task(tmp_path):
    write_task_corpus(tmp_path, 20)
    train_task(task_config(tmp_path, tmp_path / "sid", "sid", num_steps=2, validate_every=2))
    config = EvaluateConfig.of(
        model=str(tmp_path / "sid"), output=str(tmp_path / "out"), clean_tokens="t", clean_manifest="m"
    )
    with pytest.raises(SettingsError, match="clean_tokens is a setting of se; .* is of the task sid"):
        evaluate(config)


def test_speakers_are_left_out_in_turn_and_all_are_pooled(folder, tmp_path):
    root, made = folder
    config = se_config(root, tmp_path / "folds", num_steps=2, checkpoint_every=2, validate_every=2).flat()
    plain = {name: value for name, value in config.items() if name not in ("output", "task", "valid_fraction")}
    cross_validate(CrossValidateConfig.of(task="se", output=str(tmp_path / "folds"), **plain, examples=0))
    found = rows_of(tmp_path / "folds")
    assert sorted(row["utterance_id"] for row in found) == sorted(made)
    wrong = sum(row[f"wrong_{name}"] for row in found for name in COLUMNS)
    told = facts(tmp_path / "folds", "metrics")["sides"]
    ((_, side),) = told.items()
    frames = sum(row["num_frames"] for row in found)
    assert side["metrics"]["token_error_rate"]["value"] == pytest.approx(wrong / 3 / frames)
    assert "confusion" not in side


def test_clean_tokens_are_said_of_noisy_features_too(tmp_path):
    made = write_pairs(tmp_path, 20)
    digest = json.loads((tmp_path / "noisy" / "manifest" / "_SUCCESS").read_text())["dataset_sha256"]
    rng, shards = np.random.default_rng(0), []
    noisy = [one for one, _ in made.values()]
    for start in range(0, len(noisy), 8):
        rows = []
        for one in noisy[start : start + 8]:
            values = np.eye(8)[one.tokens] + 0.1 * rng.standard_normal((len(one.tokens), 8))
            rows.append((one.utterance_id, np.arange(len(one.tokens)), values.astype(np.float16)))
        shards.append(rows)
    write_features(tmp_path / "features", shards, (3, 6), input_sha256=digest)
    features = {"tokens": None, "features": str(tmp_path / "features"), "embedding_dim": None}
    train_task(se_config(tmp_path, tmp_path / "se", **features))
    report = evaluate(EvaluateConfig.of(model=str(tmp_path / "se"), output=str(tmp_path / "out")))
    metrics = report.sides["test"]["metrics"]
    assert set(metrics) == {"token_error_rate", "token_error_rate_layer_03", "token_error_rate_layer_06"}
    with pytest.raises(SettingsError, match="trained on features, and enhancement hears tokens"):
        open_enhancement(str(tmp_path / "se"))
