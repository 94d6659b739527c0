"""evaluate --recorded: manifests of speech side by side, each beside its reference, and what is refused."""

import html
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_mixtures import write_recordings
from made_voices import RATE, voice, with_noise

from pipeline.errors import PlanMismatchError, SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.stage import evaluate
from pipeline.metrics.speech.judge import Pair
from pipeline.metrics.speech.judging import judge_pairs
from pipeline.metrics.speech.registry import make_judges
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

JUDGES = ("stft", "log_mel")
NAMES = [f"u{number}" for number in range(5)]
TEXT = "a <b>tone</b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings")
    clean = {name: voice(1.0 + 0.2 * number, seed=number) for number, name in enumerate(NAMES)}
    labels = {name: {"text": TEXT, "speaker": "ann"} for name in NAMES}
    write_recordings(root / "clean", clean, labels=labels)
    for name, decibels in (("noisy", 0), ("better", 20)):
        # One is missing in each, and not the same one; what is left says nothing of text.
        absent = {"noisy": "u0", "better": "u4"}[name]
        made = {each: with_noise(clean[each], decibels) / 2 for each in NAMES if each != absent}
        write_recordings(root / name, made)
    # A tenth of the level and half a second longer: only who hears the voice alone can compare it.
    write_recordings(root / "longer", {"u2": np.concatenate([clean["u2"] / 10, np.zeros(RATE // 2)])})
    evaluate(config_of(root, root / "out", examples=2))
    return root


def config_of(root, output, recorded=("noisy", "better"), reference="clean", **changes):
    manifests = tuple(str(root / name / "manifest") for name in recorded)
    given = {"names": recorded, "judges": JUDGES, "use_gpu": False, **changes}
    if reference is not None:
        given["reference"] = str(root / reference / "manifest")
    return EvaluateConfig.of(output=str(output), recorded=manifests, **given)


def facts(path):
    return json.loads((path / "metrics.json").read_text())


def rows_of(path):
    return pq.read_table(path / "utterances.parquet").to_pylist()


def test_every_utterance_that_all_manifests_have_is_judged_in_each_beside_its_reference(folder):
    rows = rows_of(folder / "out")
    assert {row["utterance_id"] for row in rows} == {"u1", "u2", "u3"}
    assert [row["condition"] for row in rows] == 3 * ["reference", "noisy", "better"]
    found = facts(folder / "out")
    assert (found["utterances"], found["left_out"]) == (3, {"absent": 2, "too_long": 0})
    for row in rows:
        folders = {"reference": "clean"}
        generated, reference = (
            soundfile.read(folder / folders.get(name, name) / f"{row['utterance_id']}.wav", dtype="float32")[0]
            for name in (row["condition"], "reference")
        )
        pair = Pair(utterance_id="u", condition="c", generated=generated, reference=reference)
        (wanted,) = judge_pairs([pair], make_judges(JUDGES), most_lag_samples=400)
        for measure in ("stft_distance", "log_mel_distance"):
            assert row[measure] == pytest.approx(wanted[measure], abs=1e-6)


def test_figures_compare_each_manifest_with_the_first(folder):
    found = facts(folder / "out")
    values = {told["condition"]: told["figures"]["stft_distance"]["interval"]["value"] for told in found["conditions"]}
    assert values["reference"] == 0
    assert 0 < values["better"] < values["noisy"]
    assert found["compared_with"] == "noisy"
    (difference,) = found["differences"]
    assert difference["condition"] == "better"
    told = difference["figures"]["stft_distance"]["interval"]
    assert told["value"] == pytest.approx(values["better"] - values["noisy"])
    assert told["low"] <= told["value"] <= told["high"] < 0


def test_the_page_plays_each_manifest_and_shows_text_as_text(folder):
    page = (folder / "out" / "index.html").read_text()
    assert page.count("<audio") == 2 * 3
    assert html.escape(TEXT) in page
    assert TEXT not in page
    assert sorted(path.name for path in (folder / "out" / "samples").iterdir()) == ["better", "noisy", "reference"]
    assert verify_dataset(VerifyDatasetConfig(dataset=str(folder / "out"))).faults == []
    (state,) = run_status(str(folder / "out"))
    assert (state.kind, state.finished) == ("recorded_evaluation", True)


def test_a_second_run_reads_what_the_first_has_found(folder):
    report = evaluate(config_of(folder, folder / "out", examples=2))
    assert (report.utterances, set(report.conditions)) == (3, {"reference", "noisy", "better"})
    assert ("judged", "3 utterances of all") in report.lines()
    with pytest.raises(PlanMismatchError, match="manifests"):
        evaluate(config_of(folder, folder / "out", recorded=("better", "noisy"), names=("noisy", "better"), examples=2))


def test_speech_of_another_length_or_without_a_reference_has_the_figures_that_it_can_have(folder, tmp_path):
    evaluate(config_of(folder, tmp_path / "longer", recorded=("longer",), judges=("stft", "speaker"), examples=0))
    row = next(row for row in rows_of(tmp_path / "longer") if row["condition"] == "longer")
    assert row["stft_distance"] is None
    assert {why["reason"] for why in row["unjudged"]} == {"lengths_differ"}
    assert row["speaker_similarity"] > 0.9
    evaluate(config_of(folder, tmp_path / "alone", recorded=("better", "noisy"), reference=None, examples=0))
    alone = rows_of(tmp_path / "alone")
    assert {row["condition"] for row in alone} == {"better", "noisy"}
    assert {why["reason"] for row in alone for why in row["unjudged"]} == {"no_reference"}


def test_manifests_are_called_as_their_folders():
    given = {"recorded": ("out/noisy/_manifest", "s3://b/speech/_manifest/"), "output": "out"}
    assert EvaluateConfig.of(**given).recordings.called == ("noisy", "speech")
    with pytest.raises(SettingsError, match="two of --recorded are called noisy; give each a name"):
        EvaluateConfig.of(output="out", recorded=("a/noisy/_manifest", "b/noisy/_manifest"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("one",)}, "names must be one for each of --recorded, got 1"),
        ({"names": ("reference", "b")}, "the name reference is that of --reference"),
        ({"tokens": "t"}, "--recorded takes manifests of speech alone"),
        ({"layer_sets": ("all",)}, "layer_sets and speaker are settings of --vocoder"),
        ({"vocoder": "v", "tokens": "t", "manifest": "m"}, "one of them"),
        ({"judges": ("utmos",)}, "the judge utmos and --utmos, where its network is, go together"),
        ({"utmos": "folder"}, "the judge utmos and --utmos, where its network is, go together"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(changes, message):
    with pytest.raises(SettingsError, match=message) as told:
        EvaluateConfig.of(**{"output": "out", "recorded": ("a", "b"), **changes})
    assert "\n" not in str(told.value)


def test_what_goes_with_recordings_needs_them():
    with pytest.raises(SettingsError, match="reference and names go with --recorded"):
        EvaluateConfig.of(output="out", model="m", reference="r")


def test_manifests_without_a_common_utterance_are_refused_before_anything_is_written(folder, tmp_path):
    write_recordings(tmp_path / "other", {"x": voice(1.0)})
    config = config_of(folder, tmp_path / "out", recorded=("noisy",), reference=None)
    with pytest.raises(SettingsError, match=r"is in all of noisy \(4\), x \(1\): 5 ids, 0 of them everywhere"):
        evaluate(
            config.but(
                recorded=(*config.recordings.recorded, str(tmp_path / "other" / "manifest")), names=("noisy", "x")
            )
        )
    assert not (tmp_path / "out").exists()
