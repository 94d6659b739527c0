"""An encoder described by its plain config.json is described as transformers would, with defaults filled in."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import EncoderError
from pipeline.features.encoders import info
from pipeline.features.encoders.info import FoundEncoder, describe, info_of

CASES = [(kind, stem) for kind in ("hubert", "wav2vec2", "wavlm") for stem in ("layer", "group")]
OTHERS = ["unispeech-sat", "data2vec-audio", "wav2vec2-conformer", "wav2vec2-bert"]


def by_transformers(folder):
    """Describe an encoder through its configuration class, as where config.json leaves something unsaid."""
    folder = Path(folder)
    return info_of(FoundEncoder(name=str(folder), folder=folder, config=info._read_config(folder)), None)


@pytest.mark.parametrize(("kind", "stem"), CASES)
def test_what_says_everything_is_described_by_its_plain_config_and_alike(small_encoder, kind, stem):
    folder = small_encoder(kind=kind, stem=stem, stable=stem == "layer")
    assert info._plain_config(Path(folder)) is not None
    assert describe(folder) == by_transformers(folder)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_described_alike_too(small_encoder, kind):
    folder = small_encoder(kind=kind)
    assert describe(folder) == by_transformers(folder)


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
def test_any_setting_left_out_is_filled_in_by_transformers(small_encoder, tmp_path, kind):
    whole = Path(small_encoder(kind=kind))
    shutil.copytree(whole, tmp_path / "encoder")
    settings = json.loads((whole / "config.json").read_text())
    needed = [key for key in settings if key in {*info.files.CONFIG_KEYS, *info.MODELS[kind].config_keys}]
    assert len(needed) > 8
    for key in needed:
        left = {name: value for name, value in settings.items() if name != key}
        (tmp_path / "encoder" / "config.json").write_text(json.dumps(left))
        if key == "model_type":
            with pytest.raises(EncoderError):
                describe(str(tmp_path / "encoder"))
            continue
        assert info._plain_config(tmp_path / "encoder") is None, key
