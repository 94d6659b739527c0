"""The presets that ship, read by the command line as a person's would be."""

import dataclasses
import re
import signal
import tomllib
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import DatasetError
from pipeline.pretraining.iterations.stage import RunPretrainingConfig
from pipeline.run import RunPipelineConfig
from pipeline.study.settings import RunStudyConfig
from pipeline.study.stage import SHIPPED
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.training.settings import OptimizerSettings, TrainingSettings
from pipeline.vocoder.training.settings import TrainVocoderConfig

FOLDER = Path(__file__).resolve().parents[1] / "jobs" / "presets"
ALL = sorted(path.stem for path in FOLDER.glob("*.toml"))
PRETRAINING = [name for name in ALL if name.startswith("pretrain_")]
TASKS = [name for name in ALL if "task" in tomllib.loads((FOLDER / f"{name}.toml").read_text())]
VOCODERS = [name for name in ALL if "arch" in tomllib.loads((FOLDER / f"{name}.toml").read_text())]
STUDIES = [name for name in ALL if "study" in tomllib.loads((FOLDER / f"{name}.toml").read_text())]
PRESETS = [name for name in ALL if name not in (*PRETRAINING, *TASKS, *VOCODERS, *STUDIES)]
PAPER = [name for name in PRESETS if name.startswith("paper_")]
# Published numbers of transformer blocks.
BLOCKS = {"facebook/hubert-base-ls960": 12, "facebook/hubert-large-ll60k": 24, "microsoft/wavlm-large": 24}
REQUIRED = ["--corpus", "speech", "--layout", "folder", "--output", "out"]


def settings(name):
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


@pytest.fixture
def parse():
    """Give the settings that a command line means, or its exit code."""
    before = signal.getsignal(signal.SIGTERM)

    def parse(*args, kind=RunPipelineConfig):
        seen = []

        def stage(config):
            seen.append(config)
            raise DatasetError("settings were accepted; there is nothing to run")

        stage.__annotations__ = {"config": kind, "return": None}
        with pytest.raises(SystemExit) as stopped:
            cli.run(stage, description="Show the settings.", args=args)
        return seen[0] if seen else stopped.value.code

    yield parse
    signal.signal(signal.SIGTERM, before)


def test_each_task_has_a_preset_of_the_papers_size_and_one_for_a_cpu(parse):
    tasks = ("asr", "er", "se", "sid", "tts")
    assert set(TASKS) == {f"{task}_small" for task in tasks} | {f"paper_{task}" for task in tasks}
    for name in TASKS:
        pairs = ("--clean-tokens", "c", "--clean-manifest", "n") if name in ("paper_se", "se_small") else ()
        given = ("--tokens", "t", "--manifest", "m", "--output", "o", *pairs)
        config = parse("--preset", name, *given, kind=TrainTaskConfig)
        assert {key: config.flat()[key] for key in settings(name)} == settings(name)
        assert config.task in name


def test_each_vocoder_has_a_preset_that_says_how_it_is_trained(parse):
    assert sorted(VOCODERS) == ["paper_vocoder", "vocoder_base", "vocoder_small", "vocoder_small_hifigan"]
    for name in VOCODERS:
        config = parse("--preset", name, "--tokens", "t", "--manifest", "m", "--output", "o", kind=TrainVocoderConfig)
        flat = {key: list(value) if isinstance(value, tuple) else value for key, value in config.flat().items()}
        assert {key: flat[key] for key in settings(name)} == settings(name)
        assert config.data.min_frames <= config.data.crop_seconds * 50


def test_each_study_that_ships_has_a_preset(parse):
    assert sorted(STUDIES) == sorted(path.stem for path in SHIPPED.glob("*.toml")) == ["paper", "small"]
    for name in STUDIES:
        config = parse("--preset", name, "--output", "o", kind=RunStudyConfig)
        assert config.study == name
        assert {key: config.flat()[key] for key in settings(name)} == settings(name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_arrives_in_the_settings_whole(parse, name):
    config = parse("--preset", name, *REQUIRED)
    for key, value in settings(name).items():
        if key not in ("corpus", "layout", "output"):
            found = config.flat()[key]
            assert (list(found) if isinstance(value, list) else found) == value


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_nothing_that_is_the_default(name):
    defaults = RunPipelineConfig.of(corpus="c", layout="folder", output="o", num_clusters=2).flat()
    required = {"corpus", "layout", "output", "num_clusters"}
    assert [key for key, value in settings(name).items() if key not in required and defaults[key] == value] == []


@pytest.mark.parametrize("name", PRETRAINING)
def test_a_preset_of_pretraining_arrives_whole_and_says_nothing_that_is_the_default(parse, name):
    config = parse("--preset", name, "--manifest", "speech", "--output", "out", kind=RunPretrainingConfig)
    given = {**vars(config), **vars(config.training), **vars(config.optimizer)}
    kinds = (RunPretrainingConfig, TrainingSettings, OptimizerSettings)
    defaults = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
    for key, value in settings(name).items():
        found = given[key]
        assert (list(found) if isinstance(value, list) else found) == value
        assert defaults[key] != found


@pytest.mark.parametrize("name", ALL)
def test_a_preset_begins_with_what_it_is(name):
    assert (FOLDER / f"{name}.toml").read_text().startswith("# ")


@pytest.mark.parametrize("name", [name for name in PRESETS if "encoder" in settings(name)])
def test_a_preset_asks_for_layers_that_its_encoder_has(name):
    preset = settings(name)
    assert max(preset["layers"]) <= BLOCKS[preset["encoder"]]
    assert preset["layers"] == sorted(set(preset["layers"]))


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_is_what_its_name_says(name):
    encoder, size, num_clusters = re.fullmatch(r"paper_(\w+)_(\w+)_k(\d+)", name).groups()
    assert f"/{encoder}-{size}" in settings(name)["encoder"]
    assert settings(name)["num_clusters"] == int(num_clusters)


def test_paper_presets_of_one_encoder_differ_in_the_clusters_only():
    assert len(PAPER) == 4
    for name in PAPER:
        other = name.replace("k1000", "k2000")
        assert settings(name) | {"num_clusters": 2000} == settings(other)


def test_a_flag_wins_over_a_preset(parse):
    assert parse("--preset", "base", *REQUIRED, "--num-clusters", "64", "--layers", "3").encoding.layers == (3,)
    assert parse("--num-clusters", "64", "--preset", "base", *REQUIRED).num_clusters == 64


def test_a_preset_with_a_misspelt_key_is_refused_like_a_misspelt_flag(parse, tmp_path, capfd):
    preset = tmp_path / "mine.toml"
    preset.write_text((FOLDER / "base.toml").read_text() + "num_cluster = 3\n")
    assert parse("--preset", str(preset), *REQUIRED) == 2
    assert "num-cluster" in capfd.readouterr().err


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do(parse, capfd):
    assert parse("--preset", "paper_wavlm_huge", *REQUIRED) == 2
    assert "paper_wavlm_large_k1000" in capfd.readouterr().err


def published_config(encoder):
    """What the published config.json says of the network; the rest of it are defaults of the class."""
    import transformers

    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    }
    return {
        "facebook/hubert-base-ls960": lambda: transformers.HubertConfig(),
        "facebook/hubert-large-ll60k": lambda: transformers.HubertConfig(**large),
        "microsoft/wavlm-large": lambda: transformers.WavLMConfig(**{**large, "conv_bias": False}),
    }[encoder]()


@pytest.mark.parametrize("name", [name for name in PRESETS if "encoder" in settings(name)])
def test_the_encoder_of_a_preset_gives_its_layers_on_meta_tensors(name):
    """Two seconds through a network of the published shape, without memory or weights."""
    import torch
    import transformers

    from pipeline.features.encoders.info import MODELS

    preset = settings(name)
    config = published_config(preset["encoder"])
    config.num_hidden_layers = max(preset["layers"])
    with torch.device("meta"):
        network = getattr(transformers, MODELS[config.model_type].network)(config).eval()
        states = network(torch.zeros(1, 32_000), output_hidden_states=True).hidden_states
        for layer in preset["layers"]:
            assert states[layer].shape == (1, 99, config.hidden_size)
            centroids = torch.zeros(preset["num_clusters"], config.hidden_size)
            assert torch.cdist(states[layer], centroids[None]).argmin(dim=-1).shape == (1, 99)
    assert len(network.encoder.layers) == max(preset["layers"])
    assert preset["num_clusters"] <= 1 << 16
