"""evaluate whole, in this process: its rows, figures, page and table, and what it refuses."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_tasks import COLUMNS, task_config, write_task_corpus
from made_tokens import write_tokens

from pipeline import faults
from pipeline.cards.plots import can_plot
from pipeline.errors import CodebookMismatchError, DatasetError, PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tasks.stage import train_task
from pipeline.tasks.trained import check_fits, open_trained

HOSTILE = "<script src=http://evil.example/x.js>&\"'</script>"
TASKS = ("asr", "sid", "er")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated")
    write_task_corpus(root, change=lambda labels: labels | {"emotion": labels["emotion"].replace("high", HOSTILE)})
    for task in TASKS:
        train_task(task_config(root, root / task, task))
    train_task(task_config(root, root / "concat", "er", fusion="concat"))
    for name in (*TASKS, "concat"):
        evaluate(EvaluateConfig.of(model=str(root / name), output=str(root / f"{name}_test")))
    return root


def rows_of(folder):
    return pq.read_table(folder / "utterances.parquet").to_pylist()


def facts(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def all_bytes(folder):
    names = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith("_")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


@pytest.mark.parametrize("task", TASKS)
def test_there_is_a_row_per_utterance_of_the_test_side_and_nothing_is_lost(folder, task):
    found = rows_of(folder / f"{task}_test")
    assert len(found) == len({row["utterance_id"] for row in found}) == (10 if task == "er" else 8)
    assert {row["side"] for row in found} == {"test"}
    assert all(row["speaker"] == "s1" for row in found) == (task == "er")
    checked = verify_dataset(VerifyDatasetConfig(dataset=str(folder / f"{task}_test")))
    assert checked.faults == []
    assert checked.num_frames == sum(row["num_frames"] for row in found)


@pytest.mark.parametrize("task", ["sid", "er"])
def test_shares_and_confusion_are_those_of_the_rows(folder, task):
    found, told = rows_of(folder / f"{task}_test"), facts(folder / f"{task}_test", "metrics")["sides"]["test"]
    right = [row["reference"] == row["hypothesis"] for row in found]
    assert told["metrics"]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
    by_class = {row["reference"]: [] for row in found}
    for row, good in zip(found, right, strict=True):
        by_class[row["reference"]].append(good)
    recall = np.mean([np.mean(each) for each in by_class.values()])
    assert told["metrics"]["uar"]["value"] == pytest.approx(recall)
    pairs = Counter((row["reference"], row["hypothesis"]) for row in found)
    names = told["confusion"]["classes"]
    for true, counts in zip(names, told["confusion"]["counts"], strict=True):
        assert counts == [pairs[true, taken] for taken in names]
    assert told["metrics"]["accuracy"]["low"] <= sum(right) / len(right) <= told["metrics"]["accuracy"]["high"]


def test_word_errors_are_those_of_the_rows(folder):
    found, told = rows_of(folder / "asr_test"), facts(folder / "asr_test", "metrics")["sides"]["test"]["metrics"]
    kinds = ("substitutions", "deletions", "insertions")
    for name, unit in (("wer", "words"), ("cer", "characters")):
        errors = sum(row[f"{unit}_{kind}"] for row in found for kind in kinds)
        assert told[name]["value"] == pytest.approx(errors / sum(row[f"{unit}_length"] for row in found))


@pytest.mark.parametrize("task", TASKS)
def test_layer_use_is_the_mean_over_all_real_frames(folder, task):
    found, use = rows_of(folder / f"{task}_test"), facts(folder / f"{task}_test", "layer_use")
    told = use["sides"]["test"]
    frames = np.array([row["num_frames"] for row in found])
    means = np.array([[row[f"weight_{name}"] for name in COLUMNS] for row in found])
    assert np.allclose(means.sum(axis=1), 1, atol=1e-5)
    expected = (frames[:, None] * means).sum(axis=0) / frames.sum()
    assert np.allclose(told["all"]["mean"], expected, atol=1e-8)
    assert np.allclose(told["all"]["spread_over_utterances"], means.std(axis=0), atol=1e-8)
    assert told["all"]["entropy"] == pytest.approx(-(expected * np.log(expected)).sum())
    assert told["all"]["frame_entropy"] <= told["all"]["entropy"] + 1e-9
    assert set(told["by_label"]) == ({row["reference"] for row in found} if task != "asr" else set())
    assert set(told["by_speaker"]) == {row["speaker"] for row in found}
    assert len(use["examples"]) == 3
    by_id = {row["utterance_id"]: row for row in found}
    for example in use["examples"]:
        weights = np.array(example["weights"])
        row = by_id[example["utterance_id"]]
        assert weights.shape == (row["num_frames"], len(COLUMNS))
        assert np.allclose(weights.mean(axis=0), [row[f"weight_{name}"] for name in COLUMNS], atol=1e-5)


def test_concatenation_has_no_layer_use_and_says_so(folder):
    use = facts(folder / "concat_test", "layer_use")
    assert use["sides"] == {}
    assert use["examples"] == []
    assert "concatenation" in use["reason"]
    assert "concatenation" in (folder / "concat_test" / "index.html").read_text()
    assert not any("weight" in name for name in rows_of(folder / "concat_test")[0])


def test_the_size_of_micro_batches_changes_no_figure(folder, tmp_path):
    evaluate(EvaluateConfig.of(model=str(folder / "er"), output=str(tmp_path / "one"), batch_seconds=0.1))
    assert rows_of(tmp_path / "one") != []
    for one, many in zip(rows_of(tmp_path / "one"), rows_of(folder / "er_test"), strict=True):
        assert set(one) == set(many)
        for name, value in one.items():
            assert value == (pytest.approx(many[name], abs=1e-5) if isinstance(value, float) else many[name])


def test_a_killed_evaluation_begins_again_and_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    config = EvaluateConfig.of(model=str(folder / "er"), output=str(tmp_path / "out"))

    def killed_at(where):
        def killed(point, _):
            if point == where:
                raise KeyboardInterrupt

        return killed

    for where in ("after_data_before_commit", "after_commit_before_publish", "before_shard_table"):
        with monkeypatch.context() as patched:
            patched.setattr(faults, "point", killed_at(where))
            with pytest.raises(KeyboardInterrupt):
                evaluate(config)
    report = evaluate(config)
    assert all_bytes(tmp_path / "out") == all_bytes(folder / "er_test")
    assert evaluate(config).dataset_sha256 == report.dataset_sha256


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.alts, self.open, self.ids = Counter(), [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        given = dict(attrs)
        self.links += [given[name] for name in ("src", "href") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.alts += [given.get("alt")] if tag == "img" else []
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", [*TASKS, "concat"])
def test_the_page_is_whole_and_everything_is_inside_it(folder, name):
    text = (folder / f"{name}_test" / "index.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    places = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    assert sorted(places) == sorted(page.ids)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert page.tags["script"] == page.tags["link"] == 0
    assert page.tags["table"] == page.tags["caption"] > 0
    assert all(page.alts)
    assert "width=device-width" in text
    assert not re.search(r"url\(|@import", text)
    if can_plot():
        drawn = {path.name for path in (folder / f"{name}_test").glob("*.png")}
        assert len(drawn) == page.tags["img"]
        assert "confusion_test.png" in drawn or name == "asr"


def test_a_label_that_is_markup_is_shown_and_not_obeyed(folder):
    text = (folder / "er_test" / "index.html").read_text()
    assert HOSTILE not in text
    assert "&lt;script src=http://evil.example/x.js&gt;" in text


def test_equal_error_rate_of_trials_follows_from_the_cosines(folder, tmp_path):
    ids = {row["utterance_id"]: row["reference"] for row in rows_of(folder / "sid_test")}
    pairs = [(a, b) for a in ids for b in ids if a < b]
    lines = [f"{int(ids[a] == ids[b])} {a} {b}" for a, b in pairs]
    (tmp_path / "trials.txt").write_text("\n".join([*lines, f"1 {pairs[0][0]} nobody", ""]))
    report = evaluate(
        EvaluateConfig.of(model=str(folder / "sid"), output=str(tmp_path / "out"), trials=str(tmp_path / "trials.txt"))
    )
    assert report.trials["trials"] == len(pairs)
    assert report.trials["left_out"] == 1
    assert report.trials["absent"] == "nobody"
    assert 0 <= report.trials["eer"] <= 1
    assert any("nobody" in value for _, value in report.lines())


def test_evaluations_stand_side_by_side_in_one_table(folder, tmp_path):
    names = [str(folder / f"{name}_test") for name in ("er", "concat", "asr")]
    report = evaluate(EvaluateConfig.of(compare=tuple(names), output=str(tmp_path / "table")))
    rows = json.loads((tmp_path / "table" / "comparison.json").read_text())["rows"]
    assert [row["evaluation"] for row in rows] == names == [row["evaluation"] for row in report.rows]
    assert rows[0]["metrics"] == facts(folder / "er_test", "metrics")["sides"]["test"]["metrics"]
    assert rows[1]["layer_use"] == {}
    assert set(rows[0]["layer_use"]) == set(COLUMNS)
    table = [line for line in (tmp_path / "table" / "comparison.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert len({line.count("|") for line in table}) == 1
    assert "| uar |" in table[0]
    assert "| wer |" in table[0]
    assert len(report.lines()) == 5


def test_validation_may_be_evaluated_too(folder, tmp_path):
    both = EvaluateConfig.of(model=str(folder / "er"), output=str(tmp_path), sides=("test", "validation"), examples=0)
    report = evaluate(both)
    assert set(report.sides) == {"test", "validation"}
    assert report.sides["test"]["metrics"] == facts(folder / "er_test", "metrics")["sides"]["test"]["metrics"]
    assert {row["side"] for row in rows_of(tmp_path)} == {"test", "validation"}


def test_tokens_of_other_codebooks_or_sizes_are_refused_by_name(folder, tmp_path, monkeypatch):
    made = []
    digest = json.loads((folder / "manifest" / "_SUCCESS").read_text())["dataset_sha256"]
    write_tokens(tmp_path / "fewer", made, input_sha256=digest, columns=COLUMNS[:2])
    monkeypatch.setattr("made_tokens.NUM_CLUSTERS", 9)
    write_tokens(tmp_path / "larger", made, input_sha256=digest, columns=COLUMNS)
    config = EvaluateConfig.of(model=str(folder / "er"), output=str(tmp_path / "out"))
    with pytest.raises(CodebookMismatchError, match="K of layer_03 8 there, 9 here"):
        evaluate(config.but(tokens=str(tmp_path / "larger")))
    with pytest.raises(SettingsError, match="lacks layer_06"):
        evaluate(config.but(tokens=str(tmp_path / "fewer")))
    assert not (tmp_path / "out").exists()


def test_another_codebook_of_the_same_size_is_refused_by_its_hash(folder):
    trained, tokens = open_trained(str(folder / "er")), Dataset.open(str(folder / "tokens"))
    check_fits(trained, tokens)
    books = tokens.plan.lineage["codebooks"] | {"layer_03": "d" * 64}
    other = Dataset(tokens.store, replace(tokens.plan, lineage=tokens.plan.lineage | {"codebooks": books}))
    with pytest.raises(CodebookMismatchError, match="codebook of layer_03 cccccccccccc there, dddddddddddd here"):
        check_fits(trained, other)


REFUSED = [
    ({"sides": ("train",)}, SettingsError, "there is no side train to evaluate"),
    ({"sides": ("unseen",)}, SettingsError, "there is no side unseen to evaluate; .* has test, validation"),
    ({"trials": "nowhere"}, SettingsError, "trials are judged by embeddings of a sid task"),
    ({"beam_width": 4}, SettingsError, "settings of asr"),
    ({"features": "nowhere"}, DatasetError, "is no dataset"),
    ({"model": "TOKENS"}, DatasetError, "is a tokens dataset where a task dataset is needed"),
]


@pytest.mark.parametrize(("changes", "kind", "said"), REFUSED, ids=[said[:30] for *_, said in REFUSED])
def test_what_does_not_belong_together_is_refused_in_one_sentence(folder, tmp_path, changes, kind, said):
    given = {"model": str(folder / "er"), **changes}
    given["model"] = given["model"].replace("TOKENS", str(folder / "tokens"))
    with pytest.raises(kind, match=said) as caught:
        evaluate(EvaluateConfig.of(output=str(tmp_path / "out"), **given))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_setting_is_another_evaluation(folder):
    with pytest.raises(PlanMismatchError, match="examples: folder has 3, this run has 1"):
        evaluate(EvaluateConfig.of(model=str(folder / "er"), output=str(folder / "er_test"), examples=1))


def test_settings_say_what_they_need():
    with pytest.raises(SettingsError, match="give --model"):
        EvaluateConfig.of(output="o")
    with pytest.raises(SettingsError, match="one of them"):
        EvaluateConfig.of(output="o", model="m", compare=("a",))
    with pytest.raises(SettingsError, match="examples must be at least 0"):
        EvaluateConfig.of(output="o", model="m", examples=-1)
