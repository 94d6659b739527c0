"""Command lines: help, presets, misspelt flags, refusals before Ray starts, status without Ray, exit codes."""

import json
import os
import re
import subprocess
import sys
import tomllib
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import made_flags
import pytest
import soundfile
from made_audio import noise

from pipeline import cli
from pipeline.errors import SettingsError
from pipeline.passed_over import Kind, PassedOver
from pipeline.pretraining.iterations.stage import RunPretrainingConfig
from pipeline.run import RunPipelineConfig
from pipeline.store.dataset import Dataset, Output, Plan
from pipeline.study.settings import RunStudyConfig
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.vocoder.training.settings import TrainVocoderConfig

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))
NEEDED = ["--corpus", "c", "--layout", "folder", "--output", "o", "--layers", "1", "--num-clusters", "4"]


def job(name, *flags, **environment):
    """Run a job as people do; RAY_ADDRESS names nothing, so whoever starts Ray fails."""
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, flags)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_job_is_offered_by_the_console_script_and_the_other_way_round():
    assert sorted(cli.JOBS) == JOBS


def flat_fields(kind):
    """Give the fields of a config, those of nested settings in their place: flags are flat."""
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        nested = is_dataclass(hints[field.name])
        yield from flat_fields(hints[field.name]) if nested else [field]


def flat_values(config):
    """Give the settings of a config by their flags."""
    found = {}
    for name, value in vars(config).items():
        found |= flat_values(value) if is_dataclass(value) else {name: value}
    return found


@pytest.mark.parametrize("name", JOBS)
def test_help_explains_every_setting(name):
    done = job(name, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert "--preset" in done.stdout
    assert "python jobs/" in done.stdout
    stage = cli.stage_of(name)
    for field in flat_fields(cli.config_class(stage)):
        assert f"--{field.name.replace('_', '-')}" in done.stdout
        documented = [line for line in done.stdout.splitlines() if f"--{field.name.replace('_', '-')}" in line]
        assert any(len(line.split()) > 3 for line in documented) or field.default is MISSING


def test_help_that_nobody_reads_to_its_end_is_no_failure():
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "jobs/train_task.py", "--help"], cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, text=True
    )
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_flag_exits_with_2_and_a_proposal():
    done = job("run_pipeline", *NEEDED, "--num-cluster", "5")
    assert done.returncode == 2
    assert "--num-clusters" in done.stderr


def test_a_misspelt_preset_key_is_refused_like_a_flag(tmp_path):
    (tmp_path / "mine.toml").write_text("num_cluster = 5\n")
    done = job("run_pipeline", "--preset", tmp_path / "mine.toml", *NEEDED)
    assert done.returncode == 2
    assert "--num-cluster" in done.stderr


def test_a_preset_that_is_not_there_is_answered_with_those_that_are():
    done = job("run_pipeline", "--preset", "paper_wavlm_lrge", *NEEDED)
    assert done.returncode == 2
    assert "paper_wavlm_large_k1000" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--num-clusters", "1"], "num_clusters must be in 2 to 65536, got 1"),
        (["--layers", "3", "3"], "layers must be distinct"),
        (["--max-reject-fraction", "1.5"], "max_reject_fraction must be in [0, 1]"),
        (["--batch-seconds", "0"], "batch_seconds must be above 0"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_2_before_ray_starts(flags, said):
    others = NEEDED[:-4] if flags[0] in NEEDED[-4:] else NEEDED
    others += {"--layers": NEEDED[-2:], "--num-clusters": NEEDED[-4:-2]}.get(flags[0], [])
    done = job("run_pipeline", *others, *flags)
    assert done.returncode == 2
    assert said in " ".join((done.stdout + done.stderr).replace("\u2502", " ").split())
    assert "Traceback" not in done.stderr


def twice(name):
    """Give each flag of a job twice, once as two words and once with an equals sign; and both halves of switches."""
    kind = cli.config_class(cli.stage_of(name))
    for flag, told in made_flags.flags(kind).items():
        halves = [spelt for spelt in told["spelt"] if spelt.startswith("--")]
        if flag in ("-h", "--help"):
            continue
        if any(half.startswith("--no-") for half in halves):
            yield flag, halves
            yield flag, [flag, flag]
        else:
            yield flag, [flag, "2", flag, "4"]
            yield flag, [f"{flag}=2", f"{flag.replace('-', '_').replace('__', '--', 1)}=4"]


@pytest.mark.parametrize("name", JOBS)
def test_every_flag_of_a_job_is_refused_when_it_is_given_twice(name):
    tried = 0
    for flag, words in twice(name):
        with pytest.raises(SettingsError, match=re.escape(flag)):
            cli.parse(cli.stage_of(name), words, "")
        tried += 1
    assert tried >= 4


@pytest.mark.parametrize("flag", ["--preset a", "--ray-address local", "--estimate", "--verbose", "--status"])
def test_common_flags_are_refused_when_they_are_given_twice(flag):
    done = job("run_pipeline", *NEEDED, *flag.split(), *flag.split())
    assert done.returncode == 2
    assert f"{flag.split()[0]} 2 times" in done.stderr


def test_a_flag_given_twice_is_answered_with_what_to_write_instead():
    done = job("run_pipeline", *NEEDED[:6], "--layers", "2", "--num-clusters", "4", "--layers", "4")
    assert done.returncode == 2
    assert "--layers 2 4" in done.stderr
    with pytest.raises(SettingsError, match="--num-clusters 3 or --num-clusters 4"):
        cli.parse(cli.stage_of("run_pipeline"), ["--num-clusters", "3", "--num_clusters=4"], "")
    with pytest.raises(SettingsError, match="--strict and --no-strict exclude each other"):
        cli.parse(cli.stage_of("run_pipeline"), ["--strict", "--no-strict"], "")


def test_a_key_given_twice_in_a_preset_is_refused_like_a_flag(tmp_path):
    (tmp_path / "mine.toml").write_text("num_clusters = 5\nnum-clusters = 6\n")
    with pytest.raises(SettingsError, match=r"mine\.toml has --num-clusters 2 times"):
        cli.parse(cli.stage_of("run_pipeline"), ["--preset", str(tmp_path / "mine.toml"), *NEEDED[:6]], "")


def test_flags_win_over_the_preset(tmp_path):
    (tmp_path / "mine.toml").write_text("layers = [3, 7]\nnum_clusters = 50\nstrict = true\n")
    given = ["--preset", str(tmp_path / "mine.toml"), *NEEDED[:6], "--layers", "1", "2"]
    config = cli.parse(cli.stage_of("run_pipeline"), given, "")
    assert (config.encoding.layers, config.num_clusters, config.recordings.strict) == ((1, 2), 50, True)


def test_a_missing_corpus_fails_before_ray_starts(tmp_path):
    done = job("build_manifest", "--corpus", tmp_path / "no", "--layout", "folder", "--output", tmp_path / "m")
    assert done.returncode == 1
    assert str(tmp_path / "no") in done.stderr
    assert "Traceback" not in done.stderr


def test_changed_settings_are_refused_before_ray_starts(tmp_path):
    Dataset.create(str(tmp_path / "m"), Plan(kind="manifest", content={"layout": "fsdd"}, lineage={}, units=["a"]))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.wav").write_bytes(b"RIFF")
    done = job("build_manifest", "--corpus", tmp_path / "c", "--layout", "folder", "--output", tmp_path / "m")
    assert done.returncode == 1
    assert 'layout: folder has "fsdd", this run has "folder"' in done.stderr


def test_status_needs_no_ray_and_tells_what_is_pending(tmp_path):
    plan = Plan(kind="tokens", content={}, lineage={}, units=["shard-00000", "shard-00001"], totals={"rows": 9})
    Dataset.create(str(tmp_path / "run" / "tokens"), plan)
    for name, flag, folder in (
        ("run_pipeline", "--output", tmp_path / "run"),
        ("verify_dataset", "--dataset", tmp_path / "run" / "tokens"),
    ):
        flags = [*NEEDED[:4], *NEEDED[6:]] if name == "run_pipeline" else []
        done = job(name, flag, folder, "--status", *flags)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert (told["kind"], told["done"], told["pending"], told["finished"]) == ("tokens", 0, 2, False)


def test_status_tells_what_was_passed_over_before_the_dataset_is_finished(tmp_path):
    dataset = Dataset.create(str(tmp_path), Plan(kind="manifest", content={}, lineage={}, units=["one", "two"]))
    passed_over = PassedOver()
    passed_over.add(Kind.OTHER_ENDINGS, 3, example="a/talk.m4a", name=".m4a")
    output = Output(data=b"PAR1", rows=0, notes=passed_over.note())
    dataset.commit("one", dataset.announce("one"), output, {})
    done = job("build_manifest", "--output", tmp_path, "--status")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["passed_over"] == passed_over.to_json()
    assert "passed over: other_endings" in done.stdout + done.stderr


def test_verify_dataset_fails_on_what_is_no_dataset(tmp_path):
    done = job("verify_dataset", "--dataset", tmp_path)
    assert done.returncode == 1
    assert "is no dataset" in done.stderr


OF_TOKENS = {"manifest": "m", "tokens": "t"}
PAIRS = {"clean_manifest": "n", "clean_tokens": "c"}
PRETRAINS = ("run_pretraining", RunPretrainingConfig, {"manifest": "m"})
TOKENIZES = ("run_pipeline", RunPipelineConfig, {"corpus": "c", "layout": "folder"})
KINDS = {
    "task": ("train_task", TrainTaskConfig, OF_TOKENS),
    "arch": ("train_vocoder", TrainVocoderConfig, OF_TOKENS),
    "study": ("run_study", RunStudyConfig, {}),
}
"""By the setting that a preset of such a job has: the job, its settings, and what is to be given besides."""


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "presets").glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_is_accepted_by_the_job(path):
    known = tomllib.loads(path.read_text())
    kind = "pretrain" if path.stem.startswith("pretrain_") else next((key for key in KINDS if key in known), "corpus")
    job, config_kind, values = {"pretrain": PRETRAINS, "corpus": TOKENIZES, **KINDS}[kind]
    values = values | PAIRS if known.get("task") == "se" else values
    needed = {name: value for name, value in (values | {"output": "o"}).items() if name not in known}
    flags = [word for name, value in needed.items() for word in (f"--{name.replace('_', '-')}", value)]
    config = cli.parse(cli.stage_of(job), ["--preset", path.stem, *flags], "")
    assert isinstance(config, config_kind)
    for name, value in known.items():
        assert flat_values(config)[name] == (tuple(value) if isinstance(value, list) else value)


def test_an_unknown_preset_names_the_shipped_ones():
    with pytest.raises(SettingsError, match="laptop"):
        cli.preset_file("nothing")


def test_one_spoken_file_ends_well_and_is_reported(tmp_path):
    soundfile.write(tmp_path / "in.wav", noise(16_000), 16_000)
    flags = ["--file", tmp_path / "in.wav", "--tokenizer", "encoder-small", "--output", tmp_path / "out.wav"]
    done = job("synthesize", *flags)
    assert (done.returncode, done.stderr) == (0, done.stderr.replace("error:", ""))
    assert json.loads(done.stdout.splitlines()[-1])["output"] == str(tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").frames == 49 * 320
