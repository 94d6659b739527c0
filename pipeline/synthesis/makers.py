"""What a worker of synthesize does: the tokens of a shard in, its speech out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.audio.loading import Manifest
from pipeline.errors import CorruptDatasetError
from pipeline.features.numerics import numerics_key
from pipeline.schema import Reason
from pipeline.store.dataset import Output, Plan
from pipeline.synthesis.inputs import SpokenInput
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.speakers import Speakers
from pipeline.synthesis.spoken import LABELS, ToSpeak, speak_shard
from pipeline.vocoder.settings import PREDICTED
from pipeline.vocoder.voice import Said, Voice, stacked
from pipeline.work.units import Reject, Utterance

STAGE = "speech"


@dataclass(frozen=True, kw_only=True)
class SpeechTask:
    """What every worker is told.

    Attributes:
        config: Settings of the stage.
        plan: Of the speech.
        given: Where the tokens are.
        columns: The layers to hear.
        speakers: Who speaks.
    """

    config: SynthesizeConfig
    plan: Plan
    given: SpokenInput
    columns: tuple[str, ...]
    speakers: Speakers


class SpeechMaker:
    """Speaks one shard after the other."""

    stage = STAGE

    def __init__(self, task: SpeechTask, device: str) -> None:
        """Load the vocoder.

        Args:
            task: What is to be done.
            device: A torch device.
        """
        config = task.config
        assert config.vocoder is not None
        self._task = task
        self._device = device
        self._voice = Voice(config.vocoder, device, config.speaking)
        self._manifest = Manifest(config.manifest) if config.manifest is not None else None

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return numerics_key(self._device)

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Speak a shard; ``utterances`` is empty, the tokens are read here."""
        labels = self._labels(unit)
        found: list[ToSpeak] = []
        rejects: list[Reject] = []
        for utterance_id, tokens in self.rows(unit):
            if not len(tokens[self._task.columns[0]]):
                rejects.append(self._reject(utterance_id, Reason.TOO_SHORT, "there is no frame to speak"))
                continue
            said = self._said(utterance_id, tokens, labels)
            found.append(ToSpeak(utterance_id=utterance_id, said=said, labels=self._told(utterance_id, labels)))
        return speak_shard(
            self._voice,
            self._task.columns,
            found,
            rejects=rejects,
            rejecting=self._reject,
            lineage=self._task.plan.lineage,
        )

    def rows(self, unit: str) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
        """Give what is to be spoken of a shard: ids, and tokens (T,) by column; those that are read."""
        yield from self._task.given.rows(unit)

    def _labels(self, unit: str) -> Mapping[str, Mapping[str, Any]]:
        if self._manifest is None:
            return {}
        rows = self._manifest.rows(self._task.given.units[unit][1]).select(["utterance_id", *LABELS])
        return {row.pop("utterance_id"): row for row in rows.to_pylist()}

    def _said(
        self, utterance_id: str, tokens: Mapping[str, np.ndarray], labels: Mapping[str, Mapping[str, Any]]
    ) -> Said:
        where = f"{utterance_id} of {self._task.given.uri}"
        try:
            laid = stacked(tokens, self._voice.spec, self._task.columns)
        except ValueError as error:
            raise CorruptDatasetError(f"{where}: {error}; the tokens are not those of these codebooks") from error
        speakers = self._task.speakers
        if not speakers.known:
            return self._timed(Said(tokens=laid, speaker=speakers.one))
        name = labels.get(utterance_id, {}).get("speaker")
        if name is None or name not in speakers.known:
            raise CorruptDatasetError(f"{where} has the speaker {name!r}, whom the vocoder does not know")
        return self._timed(Said(tokens=laid, speaker=speakers.known[name]))

    def _timed(self, said: Said) -> Said:
        return (
            self._voice.timed(said, self._task.columns) if self._task.config.speaking.durations == PREDICTED else said
        )

    def _told(self, utterance_id: str, labels: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        found = labels.get(utterance_id, {})
        return found if self._task.speakers.one is None else {**found, "speaker": self._task.config.speaker}

    def _reject(self, utterance_id: str, reason: str, detail: str) -> Reject:
        return Reject(
            utterance_id=utterance_id, uri=self._task.given.uri, stage=self.stage, reason=reason, detail=detail
        )
