"""An encoder of random weights in the shape of another: what tokens are worth that nothing was learned for."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.features.encoders.info import encoder_files, find
from pipeline.seeds import torch_seed
from pipeline.settings import Settings
from pipeline.store.dataset import canonical, sha256
from pipeline.store.storage import open_store

MADE = "random.json"
"""Written last: the folder is whole."""


@dataclass(frozen=True, kw_only=True)
class RandomEncoderConfig(Settings):
    """Settings of ``make_random_encoder``."""

    like: str
    """Encoder whose shape it has: a Hugging Face name, a local folder, or s3:// folder."""
    output: str
    """Folder of the encoder, local or s3://, in Hugging Face form."""
    seed: int = 0
    """Seed of the weights."""


def make_random_encoder(config: RandomEncoderConfig) -> None:
    """Write an encoder whose weights are as transformers initialises them; where it is there, nothing is done.

    Raises:
        EncoderError: The encoder whose shape it is to have is not there.
        SettingsError: That one has no weights.
    """
    store = open_store(config.output)
    if store.exists(MADE):
        return
    import torch
    from transformers import AutoConfig, AutoModel

    folder = find(config.like).folder
    if folder is None:
        raise SettingsError(f"{config.like} has no weights that could be random; name an encoder of transformers")
    shape = AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.seed, "random encoder"))
        model = AutoModel.from_config(shape)  # type: ignore[no-untyped-call]
    files = {name: data for name, data in encoder_files(config.like).items() if name.startswith("preprocessor")}
    with tempfile.TemporaryDirectory() as made:
        model.save_pretrained(made)
        files |= {path.name: path.read_bytes() for path in Path(made).iterdir()}
    for name, data in files.items():
        store.write(name, data)
    told = {"like": config.like, "seed": config.seed, "files": {name: sha256(data) for name, data in files.items()}}
    store.write(MADE, json.dumps(json.loads(canonical(told)), indent=2).encode())
