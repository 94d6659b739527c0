"""What a worker of speak does: the texts of a shard in, their speech out. Texts that cannot be spoken say why."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import DatasetError
from pipeline.features.numerics import numerics_key
from pipeline.store.dataset import Output, Plan
from pipeline.synthesis.speaking.parts import Parts
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.texts import Text, read_texts
from pipeline.synthesis.spoken import ToSpeak, speak_shard
from pipeline.tasks.tts.decoding import WrittenTokens
from pipeline.tasks.tts.reading import Problem
from pipeline.tasks.writer import TextWriter, ToWrite
from pipeline.vocoder.voice import Said, Voice, stacked
from pipeline.work.units import Reject, Utterance

STAGE = "speech"


class TextSpeaker:
    """A tts and a vocoder, loaded; threads that share it take turns.

    Args:
        parts: Both.
        config: How tokens are written, and how the vocoder is given its work.
        device: A torch device.

    Attributes:
        voice: The vocoder.
    """

    def __init__(self, parts: Parts, config: SpeakConfig, device: str) -> None:
        assert config.vocoder is not None
        self._parts = parts
        drops = parts.drops_unknown
        self._writer = TextWriter(parts.trained, device, config.generation, drops_unknown=drops)
        self.voice = Voice(config.vocoder, device, config.speaking)

    def write(self, texts: Sequence[Text], reject: Callable[[Text, Problem], None]) -> list[ToSpeak]:
        """Write the tokens of texts.

        Args:
            texts: They.
            reject: Called with those that cannot be spoken, and why.

        Returns:
            What is to be spoken, in the order of the texts.
        """
        good: list[Text] = []
        for text in texts:
            problem = self._parts.problem(text)
            if problem is None:
                good.append(text)
            else:
                reject(text, problem)
        asked = [ToWrite(key=each.utterance_id, text=each.text, speaker=self._parts.named(each)) for each in good]
        found = []
        for text, written in zip(good, self._writer.write(asked), strict=True):
            problem = self._writer.endless(written)
            if problem is None:
                found.append(self._to_speak(text, written))
            else:
                reject(text, problem)
        return found

    def _to_speak(self, text: Text, written: WrittenTokens) -> ToSpeak:
        tokens = {column: written.tokens[:, place] for place, column in enumerate(self._writer.columns)}
        name, speakers = self._parts.named(text), self._parts.speakers
        speaker = speakers.known[name] if speakers.known and name is not None else speakers.one
        laid = stacked(tokens, self.voice.spec, self._parts.columns)
        labels = {"text": text.text, "speaker": name}
        return ToSpeak(utterance_id=text.utterance_id, said=Said(tokens=laid, speaker=speaker), labels=labels)


@dataclass(frozen=True, kw_only=True)
class SpeakTask:
    """What every worker is told.

    Attributes:
        config: Settings of the stage.
        plan: Of the speech.
        parts: The tts and the vocoder.
        text_sha256: Of the file of texts.
        shards: First text and end of each unit.
    """

    config: SpeakConfig
    plan: Plan
    parts: Parts
    text_sha256: str
    shards: Mapping[str, tuple[int, int]]


class SpeakMaker:
    """Speaks one shard of texts after the other."""

    stage = STAGE

    def __init__(self, task: SpeakTask, device: str) -> None:
        """Load tts, vocoder and texts.

        Args:
            task: What is to be done.
            device: A torch device.

        Raises:
            DatasetError: The file of texts is another one now.
        """
        assert task.config.text_file is not None
        self._task, self._device = task, device
        self._speaker = TextSpeaker(task.parts, task.config, device)
        file = read_texts(task.config.text_file)
        if file.sha256 != task.text_sha256:
            raise DatasetError(f"{file.uri} changed while it was spoken; give the command again with another --output")
        self._texts = file.texts

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        return numerics_key(self._device)

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Speak a shard; ``utterances`` is empty, the texts are here."""
        began = time.time()
        first, end = self._task.shards[unit]
        rejects: list[Reject] = []
        found = self._speaker.write(
            self._texts[first:end], lambda text, problem: rejects.append(self._reject(text.utterance_id, *problem))
        )
        return speak_shard(
            self._speaker.voice,
            self._task.parts.columns,
            found,
            rejects=rejects,
            rejecting=self._reject,
            lineage=self._task.plan.lineage,
            began=began,
        )

    def _reject(self, utterance_id: str, reason: str, detail: str) -> Reject:
        uri = str(self._task.config.text_file)
        return Reject(utterance_id=utterance_id, uri=uri, stage=self.stage, reason=reason, detail=detail)
