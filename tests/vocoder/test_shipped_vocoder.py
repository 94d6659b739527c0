"""The vocoder that ships: small, made for the codebooks that ship, heard from every set of its layers, in the wheel."""

import re
from itertools import combinations

import numpy as np
import pytest

from pipeline.errors import CodebookMismatchError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.features.encoders.info import encoder_files
from pipeline.features.encoders.shipped import LAYERS
from pipeline.features.encoders.shipped import NAME as ENCODER
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.tokenizer import Tokenizer
from pipeline.tokens.waveform_tokenizer import save_bundle
from pipeline.vocoder.saved import WEIGHTS, read_spec
from pipeline.vocoder.shipped import FOLDER, NAME, is_shipped, vocoder_folder

SETTINGS = {"dtype": "float32", "normalize_waveform": True, "batch_seconds": 16.0, "window_seconds": 30.0,
            "window_margin_seconds": 2.0}  # fmt: skip


def bundle(folder, num_clusters):
    books = read_codebooks(ENCODER, num_clusters=num_clusters)
    save_bundle(str(folder), encoder_files=lambda: encoder_files(ENCODER), codebooks=books, settings=SETTINGS)
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.from_pretrained(bundle(tmp_path_factory.mktemp("shipped"), 500), vocoder=NAME)


def test_its_weights_take_at_most_8_mb():
    assert (FOLDER / WEIGHTS).stat().st_size <= 8_000_000


def test_it_speaks_tokens_of_the_encoder_that_ships_from_every_set_of_layers(tokenizer):
    seconds = np.arange(16_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * seconds) / k for k in range(1, 20)) * (np.sin(6 * np.pi * seconds) > 0)
    tokens = tokenizer.encode(0.1 * voice.astype(np.float32), 16_000)
    spoken = {}
    for size in range(1, len(LAYERS) + 1):
        for layers in combinations(LAYERS, size):
            waveform = tokenizer.decode(tokens, layers=layers)
            assert waveform.shape == (320 * len(tokens[2]),)
            assert 0.001 < np.sqrt(np.mean(waveform**2)) < 1
            spoken[layers] = waveform
    assert len({waveform.tobytes() for waveform in spoken.values()}) == 2 ** len(LAYERS) - 1


def test_codebooks_of_another_size_are_refused(tmp_path):
    with pytest.raises(CodebookMismatchError, match="codebook of layer_02"):
        Tokenizer.from_pretrained(bundle(tmp_path, 100), vocoder=NAME)


def test_a_folder_of_its_name_comes_first(tmp_path, monkeypatch):
    assert (is_shipped(NAME), vocoder_folder(NAME)) == (True, str(FOLDER))
    inputs = {"tokens": "t", "manifest": "m", "output": "o", "vocoder": NAME}
    assert EvaluateConfig.of(**inputs).located().vocoder == NAME
    assert SynthesizeConfig.of(**inputs).located().vocoder == NAME
    (tmp_path / NAME).mkdir()
    monkeypatch.chdir(tmp_path)
    assert (is_shipped(NAME), vocoder_folder(NAME)) == (False, NAME)


def test_its_card_says_data_licence_commands_figures_of_each_set_and_limits():
    card = (FOLDER / "README.md").read_text()
    assert {"## Data", "## Training", "## What it says", "## Limits"} <= set(card.splitlines())
    assert "Apache 2.0" in card
    assert "Copyright (c) 2003" in (FOLDER / "NOTICE").read_text()
    steps = read_spec(NAME).training["num_steps"]
    assert f"{steps:,} steps" in card
    rows = re.findall(r"^\| layers? ([246 ]+)\|", card, flags=re.MULTILINE)
    assert {row.strip() for row in rows} == {"2", "4", "6", "2 4", "4 6", "2 4 6"}
    # Nothing of the machine on which it was trained.
    assert "/" not in (FOLDER / "config.json").read_text()
