"""evaluate on a corpus of its own, on features, with a language model, and on text that is meant to do harm."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_features import write_features
from made_tasks import task_config, write_task_corpus
from made_tokens import NUM_CLUSTERS

from pipeline.audio.loading import Manifest
from pipeline.cards.plots import can_plot
from pipeline.errors import DatasetError, PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_unit
from pipeline.tasks.stage import train_task

HOSTILE_ID = (
    "\"><img src=x onerror=alert(1)>\n\u202e../../etc/passwd $x^2$ | *b* <script>document.title='taken'</script>"
)
HOSTILE_LABEL = "high</td></table><script src=http://evil.example/x.js></script>"
ARPA = """
\\data\\
ngram 1={count}
ngram 2=1

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t0
-1.0\t</s>
{words}

\\2-grams:
-0.1\t<s> {first}

\\end\\
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus that tasks are trained on, and another one with other utterances and speakers."""
    root = tmp_path_factory.mktemp("elsewhere")
    write_task_corpus(root)
    (root / "own").mkdir()
    write_task_corpus(
        root / "own",
        12,
        seed=6,
        change=lambda labels: labels | {"speaker": "w" + labels["speaker"]},
        rename=lambda name: f"own-{name}",
    )
    train_task(task_config(root, root / "er", "er"))
    train_task(task_config(root, root / "asr", "asr"))
    return root


def rows_of(folder):
    return pq.read_table(folder / "utterances.parquet").to_pylist()


def facts(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def on_own(folder, output, task="er", **changes):
    own = {"manifest": str(folder / "own" / "manifest"), "tokens": str(folder / "own" / "tokens"), "sides": ("all",)}
    return EvaluateConfig.of(model=str(folder / task), output=str(output), **{**own, **changes})


@pytest.mark.parametrize("task", ["er", "asr"])
def test_every_utterance_of_a_manifest_of_its_own_is_tested(folder, tmp_path, task):
    report = evaluate(on_own(folder, tmp_path, task))
    found = rows_of(tmp_path)
    assert {row["utterance_id"] for row in found} == {f"own-u{number:03d}" for number in range(12)}
    assert {row["side"] for row in found} == {"all"} == set(report.sides)
    assert report.sides["all"]["utterances"] == 12
    assert {example["side"] for example in facts(tmp_path, "layer_use")["examples"]} == {"all"}


def test_a_manifest_of_its_own_may_be_divided_as_the_training_was(folder, tmp_path):
    report = evaluate(on_own(folder, tmp_path, "asr", sides=("test",)))
    assert set(report.sides) == {"test"}
    assert {row["utterance_id"] for row in rows_of(tmp_path)} == {"own-u004", "own-u009"}


def test_another_manifest_needs_to_be_told_which_of_its_utterances_are_the_test(folder, tmp_path):
    with pytest.raises(SettingsError, match="is another manifest than .* was trained on: give --sides all"):
        evaluate(on_own(folder, tmp_path / "out", sides=()))
    assert not (tmp_path / "out").exists()


def test_all_of_the_manifest_of_the_training_is_refused(folder, tmp_path):
    with pytest.raises(SettingsError, match="--sides all is for a manifest of its own"):
        evaluate(EvaluateConfig.of(model=str(folder / "er"), output=str(tmp_path / "out"), sides=("all",)))
    with pytest.raises(SettingsError, match="all stands alone"):
        EvaluateConfig.of(model="m", output="o", sides=("all", "test"))


def test_tokens_of_the_training_are_not_those_of_another_manifest(folder, tmp_path):
    with pytest.raises(DatasetError, match="was made from another manifest"):
        evaluate(on_own(folder, tmp_path / "out", tokens=None))


def test_a_class_that_was_never_trained_is_refused_by_name(folder, tmp_path):
    write_task_corpus(
        tmp_path, 12, change=lambda labels: labels | {"emotion": labels["emotion"].replace("low", "bored")}
    )
    config = on_own(folder, tmp_path / "out", manifest=str(tmp_path / "manifest"), tokens=str(tmp_path / "tokens"))
    with pytest.raises(
        SettingsError, match=r"all has emotion 'bored' \(\d+ utterances\), which .* was never trained on"
    ):
        evaluate(config)
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_its_own_without_labels_is_refused(folder, tmp_path):
    write_task_corpus(tmp_path, 12, change=lambda labels: labels | {"emotion": None})
    config = on_own(folder, tmp_path / "out", manifest=str(tmp_path / "manifest"), tokens=str(tmp_path / "tokens"))
    with pytest.raises(SettingsError, match="has no emotion for any of the 12 utterances of all"):
        evaluate(config)


def test_characters_outside_the_alphabet_are_errors_and_end_nothing(folder, tmp_path):
    write_task_corpus(tmp_path, 12, change=lambda labels: labels | {"text": labels["text"] + "z"})
    evaluate(
        on_own(folder, tmp_path / "out", "asr", manifest=str(tmp_path / "manifest"), tokens=str(tmp_path / "tokens"))
    )
    found = rows_of(tmp_path / "out")
    assert len(found) == 12
    assert all(row["reference"].endswith("Z") and "Z" not in row["hypothesis"] for row in found)
    for row in found:
        kinds = ("substitutions", "deletions", "insertions")
        assert sum(row[f"characters_{kind}"] for kind in kinds) >= 1


def write_features_of(folder):
    """Write features of two layers for a corpus: the token of each frame as a direction, with noise."""
    manifest, tokens = Manifest(str(folder / "manifest")), Dataset.open(str(folder / "tokens"))
    rng = np.random.default_rng(0)
    shards = []
    for unit in manifest.units:
        rows = []
        for row in read_unit(tokens, unit).to_pylist():
            values = np.eye(NUM_CLUSTERS)[row["layer_00"]] + 0.1 * rng.standard_normal(
                (row["num_frames"], NUM_CLUSTERS)
            )
            rows.append((row["utterance_id"], np.arange(row["num_frames"]), values.astype(np.float16)))
        shards.append(rows)
    digest = json.loads((folder / "manifest" / "_SUCCESS").read_text())["dataset_sha256"]
    write_features(folder / "features", shards, (3, 6), input_sha256=digest)


def test_a_task_on_features_is_evaluated_on_features_of_its_own_corpus_and_of_another(folder, tmp_path):
    for corpus in (folder, folder / "own"):
        write_features_of(corpus)
    features = {"tokens": None, "features": str(folder / "features")}
    train_task(task_config(folder, tmp_path / "model", "er", fusion="weighted", embedding_dim=None, **features))
    evaluate(EvaluateConfig.of(model=str(tmp_path / "model"), output=str(tmp_path / "same")))
    assert facts(tmp_path / "same", "layer_use")["layers"] == ["layer_03", "layer_06"]
    weights = np.array(facts(tmp_path / "same", "layer_use")["examples"][0]["weights"])
    # Learned weights are the same in every frame.
    assert np.ptp(weights, axis=0).max() < 1e-5
    other = on_own(folder, tmp_path / "other", tokens=None, features=str(folder / "own" / "features"))
    report = evaluate(other.but(model=str(tmp_path / "model")))
    assert report.sides["all"]["utterances"] == 12
    with pytest.raises(SettingsError, match="was trained on features, .* holds tokens"):
        evaluate(on_own(folder, tmp_path / "refused").but(model=str(tmp_path / "model")))


def test_a_beam_with_a_language_model_writes_the_words_of_that_model(folder, tmp_path):
    evaluate(EvaluateConfig.of(model=str(folder / "asr"), output=str(tmp_path / "greedy")))
    greedy = {row["utterance_id"]: row for row in rows_of(tmp_path / "greedy")}
    texts = sorted({row["reference"] for row in greedy.values()})
    words = "\n".join(f"-1.0\t{text}\t0" for text in texts)
    (tmp_path / "words.arpa").write_text(ARPA.format(count=3 + len(texts), words=words, first=texts[0]))
    common = {"model": str(folder / "asr"), "beam_width": 64, "beam_prune": 60.0, "token_prune": 30.0}
    evaluate(EvaluateConfig.of(output=str(tmp_path / "alone"), **common))
    helped = EvaluateConfig.of(
        output=str(tmp_path / "beam"), language_model=str(tmp_path / "words.arpa"), lm_weight=8.0, **common
    )
    evaluate(helped)
    found, alone = rows_of(tmp_path / "beam"), rows_of(tmp_path / "alone")
    assert {row["utterance_id"] for row in found} == set(greedy)
    # The network is hardly trained, so no word comes out whole but by the model.
    assert not any(row["hypothesis"] in texts for row in [*alone, *greedy.values()])
    assert sum(row["hypothesis"] in texts for row in found) > len(found) / 2
    for name in ("metrics", "layer_use"):
        assert facts(tmp_path / "beam", name) != facts(tmp_path / "greedy", name)
    decoding = facts(tmp_path / "beam", "metrics")["decoding"]
    assert decoding["beam_width"] == 64
    assert re.fullmatch("[0-9a-f]{64}", decoding["language_model"])
    # What is shown over time is the greedy path, whatever wrote the hypothesis.
    by_id = {example["utterance_id"]: example for example in facts(tmp_path / "beam", "layer_use")["examples"]}
    for key, example in by_id.items():
        assert "".join(one["symbol"] for one in example["symbols"]) == greedy[key]["hypothesis"]
    (tmp_path / "words.arpa").write_text((tmp_path / "words.arpa").read_text().replace("-1.0\t", "-1.5\t"))
    with pytest.raises(PlanMismatchError, match="decoding"):
        evaluate(helped)
    (tmp_path / "words.arpa").unlink()
    with pytest.raises(SettingsError, match="there is no language model at .*No such file"):
        evaluate(helped.but(output=str(tmp_path / "none")))


def test_recordings_that_are_gone_are_told_of_each_and_cost_nothing_else(folder, tmp_path):
    write_task_corpus(tmp_path / "gone", 12)
    shutil.rmtree(tmp_path / "gone" / "audio")
    (tmp_path / "gone" / "audio").mkdir()
    (tmp_path / "gone" / "audio" / "another.wav").write_bytes(b"")
    config = on_own(
        folder,
        tmp_path / "out",
        manifest=str(tmp_path / "gone" / "manifest"),
        tokens=str(tmp_path / "gone" / "tokens"),
    )
    report = evaluate(config)
    assert report.sides["all"]["utterances"] == 12
    examples = facts(tmp_path / "out", "layer_use")["examples"]
    assert len(examples) == 3
    assert {example["utterance_id"] for example in examples} == set(report.silent)
    assert all(example["recording"]["reason"].startswith("missing") for example in examples)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("No spectrogram: missing") == 3
    assert sum(label == "no spectrogram" for label, _ in report.lines()) == 3
    if can_plot():
        assert len(list((tmp_path / "out").glob("over_time_*.png"))) == 3


def test_ids_and_labels_that_are_markup_are_shown_and_not_obeyed(folder, tmp_path):
    write_task_corpus(tmp_path, 12, rename=lambda name: name + HOSTILE_ID)
    config = on_own(
        folder, tmp_path / "out", manifest=str(tmp_path / "manifest"), tokens=str(tmp_path / "tokens"), examples=2
    )
    evaluate(config)
    assert all(row["utterance_id"].endswith(HOSTILE_ID) for row in rows_of(tmp_path / "out"))
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"utterances.parquet", "metrics.json", "layer_use.json", "index.html"} <= names
    report = evaluate(EvaluateConfig.of(compare=(str(tmp_path / "out"),), output=str(tmp_path / "table")))
    assert len(report.rows) == 1
    assert "<script" not in (tmp_path / "table" / "comparison.md").read_text()


def test_speakers_that_training_never_had_are_verified_by_their_embeddings(folder, tmp_path):
    train_task(task_config(folder, tmp_path / "sid", "sid"))
    rows = Manifest(str(folder / "own" / "manifest"))
    speakers = {row["utterance_id"]: row["speaker"] for unit in rows.units for row in rows.rows(unit).to_pylist()}
    ids = sorted(speakers)
    trials = [(int(speakers[a] == speakers[b]), a, b) for a, b in zip(ids, ids[1:], strict=False)]
    trials += [(int(speakers[a] == speakers[b]), a, b) for a, b in zip(ids, ids[4:], strict=False)]
    (tmp_path / "trials").write_text("".join(f"{same} {a} {b}\n" for same, a, b in trials))
    own = {name: str(folder / "own" / name) for name in ("manifest", "tokens")}
    report = evaluate(on_own(tmp_path, tmp_path / "out", "sid", trials=str(tmp_path / "trials"), **own))
    assert report.trials["trials"] == len(trials)
    assert 0 <= report.trials["eer"] <= 1
    # None of these speakers is a class, so there is nothing to be right about.
    assert report.sides["all"] == {"utterances": 12, "left_out": {}, "metrics": {}}
    found = rows_of(tmp_path / "out")
    assert {row["utterance_id"]: row["reference"] for row in found} == speakers
    assert {row["hypothesis"] for row in found}.isdisjoint(speakers.values())
    with pytest.raises(SettingsError, match="was never trained on"):
        evaluate(on_own(tmp_path, tmp_path / "no", "sid", **own))
