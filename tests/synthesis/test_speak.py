"""Texts become speech: those known by heart, the same bytes on every way, and a reason for what cannot be."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_kills import KILLED, in_child
from made_speech import rows_of, samples_of, shards
from made_tasks import task_config
from made_tokens import CLOCK
from made_tts import write_fitting_vocoder, write_tts

from pipeline.audio.loading import Manifest
from pipeline.errors import CodebookMismatchError, DatasetError, PlanMismatchError, SettingsError, TooManyRejectsError
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.stage import speak
from pipeline.synthesis.stage import synthesize
from pipeline.tasks.stage import train_task

ROOT = Path(__file__).parents[2]
HOP, RATE = CLOCK.hop_length, CLOCK.sample_rate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken_texts")
    return folder, write_tts(folder)


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def jsonl_of(path, labels):
    return write_lines(
        path, [json.dumps({"utterance_id": name, "text": told["text"]}) for name, told in labels.items()]
    )


def config_of(folder, output, **settings):
    given = {"bundle": str(folder), "output": str(output), "temperature": 0.0, "texts_per_shard": 3, "runner": "here"}
    return SpeakConfig.of(**given | settings)


def rejects_of(output):
    return {
        row["utterance_id"]: (row["reason"], row["detail"])
        for path in sorted((Path(output) / "_rejects").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }


def test_texts_known_by_heart_are_spoken_as_their_own_tokens_are(bundle, tmp_path):
    folder, labels = bundle
    given = {"tokens": str(folder / "tokens"), "vocoder": str(folder / "vocoder"), "runner": "here"}
    synthesize(SynthesizeConfig.of(output=str(tmp_path / "tokens"), manifest=str(folder / "manifest"), **given))
    report = speak(config_of(folder, tmp_path / "out", text_file=jsonl_of(tmp_path / "t.jsonl", labels)))
    wanted, found = rows_of(tmp_path / "tokens"), rows_of(tmp_path / "out")
    assert (report.rows, report.rejects, report.units) == (8, 0, 3)
    assert report.times_real_time > 0
    assert found.keys() == wanted.keys()
    for name, row in found.items():
        assert np.abs(samples_of(row) - samples_of(wanted[name])).max() <= 4
        assert row["num_samples"] == len(samples_of(row))
        assert (row["text"], row["speaker"]) == (labels[name]["text"], None)
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).faults == []
    manifest = Manifest(str(tmp_path / "out" / "_manifest"))
    texts = [text for unit in manifest.units for text in manifest.rows(unit)["text"].to_pylist()]
    assert sorted(texts) == sorted(told["text"] for told in labels.values())


def test_alone_and_among_others_a_text_is_spoken_the_same_and_one_text_too(bundle, tmp_path):
    folder, labels = bundle
    file = jsonl_of(tmp_path / "t.jsonl", labels)
    drawn = {"text_file": file, "temperature": 0.5, "top_p": 0.95, "seed": 4}
    speak(config_of(folder, tmp_path / "many", texts_per_shard=8, **drawn))
    speak(config_of(folder, tmp_path / "single", texts_per_batch=1, texts_per_shard=2, **drawn))
    many, single = rows_of(tmp_path / "many"), rows_of(tmp_path / "single")
    assert many.keys() == single.keys()
    assert all(np.abs(samples_of(row) - samples_of(single[name])).max() <= 4 for name, row in many.items())
    speak(config_of(folder, tmp_path / "greedy", text_file=file))
    name, row = next(iter(rows_of(tmp_path / "greedy").items()))
    report = speak(config_of(folder, tmp_path / "one.wav", text=f"  {labels[name]['text']} "))
    heard, rate = soundfile.read(tmp_path / "one.wav", dtype="int16")
    assert rate == RATE
    assert np.abs(heard.astype(int) - samples_of(row)).max() <= 4
    assert (report.num_frames, report.seconds) == (len(heard) // HOP, len(heard) / RATE)
    assert report.times_real_time > 0


def test_killed_at_each_step_speak_ends_with_the_same_bytes(bundle, tmp_path):
    folder, labels = bundle
    names = list(labels)
    file = jsonl_of(tmp_path / "t.jsonl", labels)
    speak(config_of(folder, tmp_path / "whole", text_file=file))
    config = config_of(folder, tmp_path / "out", text_file=file)
    points = [("after_plan", ""), ("speak", names[4]), ("after_data_before_commit", "")]
    points += [("after_commit_before_publish", ""), ("after_shard_table_before_success", "")]
    for point, match in points:
        ended = in_child(speak, config, [{"point": point, "match": match, "action": "kill"}])
        assert ended.code == KILLED, point
    assert speak(config).rows == 8
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")
    assert speak(config).units_done_now == 0
    with pytest.raises(PlanMismatchError, match="temperature"):
        speak(config.but(temperature=1.0))


def test_each_text_that_cannot_be_spoken_is_a_reject_with_its_reason(bundle, tmp_path):
    folder, labels = bundle
    good = next(iter(labels.values()))["text"]
    lines = [
        json.dumps({"text": good}),
        json.dumps({"text": "  "}),
        json.dumps({"text": f"{good}zq", "utterance_id": "strange"}),
        "no json",
        json.dumps({"words": "a"}),
        json.dumps({"text": "a", "speaker": 7}),
        json.dumps({"text": "a", "utterance_id": "strange"}),
        "",
        '{"text": "\\ud800"}',
    ]
    config = config_of(folder, tmp_path / "out", text_file=write_lines(tmp_path / "t.jsonl", lines))
    with pytest.raises(TooManyRejectsError, match="unknown_characters"):
        speak(config)
    report = speak(config.but(max_reject_fraction=1.0))
    found = rejects_of(tmp_path / "out")
    assert (report.rows, report.rejects) == (1, 8)
    assert list(rows_of(tmp_path / "out")) == ["line-0000001"]
    assert found["line-0000002"] == ("empty_text", "the text has no character")
    assert found["strange"] == (
        "unknown_characters",
        "the text has characters that the tts never learned: 'Q', 'Z'",
    )
    assert found["strange (line 7)"][0] == "duplicate_id"
    assert Counter(reason for reason, _ in found.values()) == Counter(
        {"bad_row": 5, "empty_text": 1, "unknown_characters": 1, "duplicate_id": 1}
    )


def test_unknown_characters_may_be_left_out_but_something_must_remain(bundle, tmp_path):
    folder, labels = bundle
    good = next(iter(labels.values()))["text"]
    file = write_lines(tmp_path / "t.txt", [good, f"{good[:1]}z{good[1:]}", "zq"])
    speak(config_of(folder, tmp_path / "out", text_file=file, unknown="drop", max_reject_fraction=0.5))
    rows = rows_of(tmp_path / "out")
    one, other = rows["line-0000001"], rows["line-0000002"]
    assert np.abs(samples_of(one) - samples_of(other)).max() <= 4
    assert rejects_of(tmp_path / "out") == {
        "line-0000003": ("unknown_characters", "the text has no character that the tts learned, only 'Q', 'Z'")
    }


def test_a_text_that_does_not_stop_in_time_is_a_reject_and_not_cut(bundle, tmp_path):
    folder, labels = bundle
    tokens = [pq.read_table(path) for path in sorted((folder / "tokens").glob("shard-*.parquet"))]
    frames = {row["utterance_id"]: row["num_frames"] for table in tokens for row in table.to_pylist()}
    limit = sorted(frames.values())[3]
    config = config_of(folder, tmp_path / "out", text_file=jsonl_of(tmp_path / "t.jsonl", labels))
    speak(config.but(max_seconds=limit / 50, max_reject_fraction=1.0))
    assert set(rows_of(tmp_path / "out")) == {name for name, count in frames.items() if count <= limit}
    found = rejects_of(tmp_path / "out")
    assert set(found) == {name for name, count in frames.items() if count > limit}
    assert set(found.values()) == {
        ("no_stop", f"the tts did not stop within {limit / 50:.1f} s; --max-seconds allows more")
    }


def test_speakers_are_told_to_tts_and_vocoder_and_unknown_ones_named(tmp_path):
    # It learns to stop at once.
    hasty = {"num_steps": 30, "warmup_steps": 1, "stop_positive": 1e3, "stop_weight": 5.0, "text_dropout": 0.1}
    labels = write_tts(tmp_path, speaker_input="table", **hasty)
    write_fitting_vocoder(tmp_path / "two", tmp_path / "tokens", speaker_input="table", speakers=("s0", "s1"))
    text = next(iter(labels.values()))["text"]
    lines = [json.dumps({"text": text, "speaker": name}) for name in ("s0", "s1", "s3", "eve")] + [
        f'{{"text":"{text}"}}'
    ]
    given = {"bundle": None, "task": str(tmp_path / "tts"), "vocoder": str(tmp_path / "two"), "temperature": 0.7}
    given |= {"max_reject_fraction": 1.0}
    config = config_of(tmp_path, tmp_path / "out", text_file=write_lines(tmp_path / "t.jsonl", lines), **given)
    speak(config)
    found, rows = rejects_of(tmp_path / "out"), rows_of(tmp_path / "out")
    told = {name: detail for name, (reason, detail) in found.items() if reason == "unknown_speaker"}
    assert told == {
        "line-0000003": "the speaker s3 is named, and the vocoder knows s0, s1",
        "line-0000004": "the speaker eve is named, and the tts knows s0, s1, s2, s3",
        "line-0000005": "no speaker is named, and the tts knows s0, s1, s2, s3",
    }
    assert {name: row["speaker"] for name, row in rows.items()} == {"line-0000001": "s0", "line-0000002": "s1"}
    speak(config.but(output=str(tmp_path / "all"), speaker="s1"))
    assert {row["speaker"] for row in rows_of(tmp_path / "all").values()} == {"s1"}
    assert len(rows_of(tmp_path / "all")) == 5
    speak(config.but(output=str(tmp_path / "guided"), speaker="s1", guidance=2.0))
    assert len(rows_of(tmp_path / "guided")) == 5
    for name, said in (("eve", "the speaker eve, and the tts knows"), ("s3", "s3, whom the vocoder does not know")):
        with pytest.raises(SettingsError, match=said):
            speak(config.but(output=str(tmp_path / "no"), speaker=name))


def test_what_does_not_fit_is_refused_in_one_sentence_before_anything_is_written(bundle, tmp_path):
    folder, _ = bundle
    file = write_lines(tmp_path / "t.txt", ["a"])
    (tmp_path / "empty.txt").write_text("")
    train_task(
        task_config(
            folder, tmp_path / "asr", "asr", num_steps=2, validate_every=0, valid_fraction=0.0, test_fraction=0.0
        )
    )
    out = str(tmp_path / "out")
    parts = {"bundle": None, "task": str(folder / "tts"), "vocoder": str(folder / "vocoder")}
    refused = [
        ({"text_file": file, "text": "a"}, SettingsError, "give --text, one text, or --text-file"),
        ({}, SettingsError, "give --text, one text, or --text-file"),
        ({"text_file": file, "task": "t"}, SettingsError, "give it alone, or --task and --vocoder"),
        ({"text_file": file, "bundle": None, "task": "t"}, SettingsError, "give --task, the folder of a trained tts"),
        ({"text_file": str(tmp_path / "none.txt")}, SettingsError, "there is no file of texts at"),
        ({"text_file": str(tmp_path / "empty.txt")}, SettingsError, "is empty: there is no text to speak"),
        ({"text_file": file, "bundle": str(tmp_path / "nowhere")}, DatasetError, "nowhere/tts"),
        ({"text_file": file, **parts, "task": str(tmp_path / "asr")}, SettingsError, "is of the task asr; speak needs"),
        ({"text_file": file, **parts, "vocoder": "vocoder-small"}, CodebookMismatchError, "was not trained on these"),
        ({"text_file": file, "speaker": "ann"}, SettingsError, "one voice; leave --speaker away"),
        ({"text_file": file, "layers": (9,)}, SettingsError, "not on layer_09"),
        ({"text_file": file, "top_p": 0.0}, SettingsError, "top_p must be above 0"),
        ({"text_file": file, "temperature": -1.0}, SettingsError, "temperature must be at least 0"),
        ({"text_file": file, "max_seconds": 0.0}, SettingsError, "max_seconds must be above 0"),
        ({"text_file": file, "guidance": 0.5}, SettingsError, "guidance must be at least 1"),
        ({"text_file": file, "guidance": 2.0}, SettingsError, "needs a tts that was trained with --text-dropout"),
        ({"text": "a", "output": f"{out}.wav", "guidance": 2.0}, SettingsError, "trained with --text-dropout"),
        ({"text": "", "output": f"{out}.wav"}, SettingsError, "--text cannot be spoken: the text has no character"),
        ({"text": "z", "output": f"{out}.wav"}, SettingsError, "never learned: 'Z'"),
        ({"text": "a"}, SettingsError, "--output of --text ends in"),
        ({"text": "a", "output": "s3://b/out.wav"}, SettingsError, "is a local recording"),
    ]
    for settings, error, message in refused:
        with pytest.raises(error, match=message) as told:
            speak(config_of(folder, settings.pop("output", out), **settings))
        assert "\n" not in str(told.value)
        assert not Path(out).exists()
        assert not Path(f"{out}.wav").exists()


def test_the_job_speaks_a_text_and_ends_with_its_report(bundle, tmp_path):
    folder, labels = bundle
    text = next(iter(labels.values()))["text"]
    flags = ["--text", text, "--bundle", str(folder), "--output", str(tmp_path / "out.flac"), "--temperature", "0"]
    command = [sys.executable, str(ROOT / "jobs" / "speak.py"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["text"] == text
    assert soundfile.info(tmp_path / "out.flac").frames == HOP * report["num_frames"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.flac"]


@pytest.mark.ray
def test_two_workers_on_ray_speak_the_bytes_of_this_process(local_ray, bundle, tmp_path):
    folder, labels = bundle
    file = jsonl_of(tmp_path / "t.jsonl", labels)
    speak(config_of(folder, tmp_path / "here", text_file=file))
    report = speak(config_of(folder, tmp_path / "ray", text_file=file, runner="ray", num_workers=2))
    assert (report.rows, report.units_done_now) == (8, 3)
    assert shards(tmp_path / "ray") == shards(tmp_path / "here")
