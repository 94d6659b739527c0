"""Tokens that are of no cluster, in what training and evaluation read."""

from dataclasses import replace

import numpy as np
import pytest
from made_tokens import CLOCK, NUM_CLUSTERS, speak, write_manifest, write_tokens

from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.errors import CorruptDatasetError


def test_an_id_past_k_is_refused_with_its_utterance_and_layer(tmp_path):
    made = speak(tmp_path / "audio", np.array([0.6, 0.5, 0.7]))
    manifest = write_manifest(tmp_path / "manifest", made)
    digest = manifest.store.read("_SUCCESS").decode().split('"dataset_sha256":"')[1][:64]
    tokens = made[1].tokens.copy()
    tokens[3] = NUM_CLUSTERS + 2
    made[1] = replace(made[1], tokens=AsTheyAre(tokens))
    write_tokens(tmp_path / "tokens", made, input_sha256=digest)
    settings = PieceSettings(
        manifest=str(tmp_path / "manifest"), clock=CLOCK, tokens=str(tmp_path / "tokens"), columns=("layer_00",)
    )
    utterances = Utterances(settings)
    with pytest.raises(CorruptDatasetError, match="tokenise the corpus again") as told:
        list(utterances.pieces(utterances.units))
    said = str(told.value)
    assert f"{made[1].utterance_id} has the token {NUM_CLUSTERS + 2} in layer_00" in said
    assert f"ids are 0 to {NUM_CLUSTERS - 1}" in said
    assert "\n" not in said


class AsTheyAre:
    """Ids that the writer cannot take modulo K."""

    def __init__(self, ids):
        self._ids = ids

    def __len__(self):
        return len(self._ids)

    def __add__(self, _):
        return self

    def __mod__(self, _):
        return self._ids
