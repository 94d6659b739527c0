"""Tokens of a manifest whose features are there already, every frame of them: nothing is encoded a second time.

The dataset is the one that encoding gives, byte for byte: its rejects and what its bits depend on are those of the
features. Only the utterances whose agreement is measured are decoded and encoded.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import FeatureError
from pipeline.passed_over import NOTE as PASSED_OVER
from pipeline.store.dataset import NUMERICS, Dataset, Output, Plan
from pipeline.store.reading import read_rejects
from pipeline.tokens.makers import AudioTokenMaker, FeatureTokenMaker, tokens_output
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.work.runtime import quick_start
from pipeline.work.units import Utterance

_REASONS = "reasons"
# Of all makers of this process: threads that import transformers at the same time find it without its classes (5.23).
_LOADING = threading.Lock()


class ReusingTokenMaker:
    """Turns a shard's features into the tokens that its manifest's shard would give."""

    stage = "tokens"

    def __init__(self, config: TokenizeCorpusConfig, device: str, plan: Plan, checked: frozenset[str]) -> None:
        """Open the features; the encoder is loaded where a shard has something to encode.

        Args:
            config: Settings of the stage, with both the manifest and its features.
            device: A torch device.
            plan: Of the tokens dataset.
            checked: Utterances that are encoded again to measure agreement.
        """
        assert config.features is not None
        self._config, self._device, self._plan, self._checked = config, device, plan, checked
        self._features = Dataset.open(config.features, kind="features")
        self._stored = FeatureTokenMaker(config, device, plan)
        self._encoding: AudioTokenMaker | None = None

    def numerics(self) -> dict[str, str]:
        """Say what the bits depend on besides the plan: where the features were made."""
        found: dict[str, str] = json.loads(self._features.store.read(NUMERICS))
        return found

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Quantise a shard's features; ``utterances`` is empty, what is needed is read here."""
        try:
            tokens, num_close = self._stored.tokens(unit)
        except FeatureError:
            # What a residual stage leaves does not fit float16: encoding it rejects the utterance by name.
            encoder = self._encoder()
            return encoder.make(unit, encoder.loader(unit))
        commit = self._features.read_commit(unit)
        assert commit is not None
        copied = {name: commit.notes[name] for name in (_REASONS, PASSED_OVER) if name in commit.notes}
        chosen = [name for name in tokens if name in self._checked]
        agreement, work = self._agreement(unit, chosen, tokens) if chosen else ({}, ())
        return tokens_output(
            tokens,
            self._stored.codebooks,
            self._plan,
            rejects=self._rejects(unit) if commit.rejects is not None else None,
            seconds=commit.seconds,
            notes={**copied, **num_close, **agreement},
            work=work,
        )

    def _agreement(
        self, unit: str, chosen: Sequence[str], tokens: dict[str, dict[str, np.ndarray]]
    ) -> tuple[dict[str, Any], tuple[Any, ...]]:
        encoder = self._encoder()
        waveforms = encoder.loader.some(unit, frozenset(chosen))
        return encoder.compare(waveforms, [tokens[utterance.utterance_id] for utterance in waveforms])

    def _rejects(self, unit: str) -> pa.Table:
        rejects = read_rejects(self._features, unit)
        stages = ["tokens" if stage == "features" else stage for stage in rejects["stage"].to_pylist()]
        return rejects.set_column(rejects.column_names.index("stage"), "stage", pa.array(stages, pa.string()))

    def _encoder(self) -> AudioTokenMaker:
        with _LOADING:
            if self._encoding is None:
                with quick_start():
                    self._encoding = AudioTokenMaker(self._config, self._device, self._plan, self._checked)
            return self._encoding
