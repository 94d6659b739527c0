"""A trained text to speech, loaded: texts in, tokens of every layer out.

Letters: T frames, L layers.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.schema import Reason
from pipeline.tasks.trained import TrainedTask
from pipeline.tasks.tts.decoding import ReadText, Writer, WrittenTokens, most_frames
from pipeline.tasks.tts.reading import Problem, speaker_problem, text_problem
from pipeline.tasks.tts.settings import GenerationSettings
from pipeline.tasks.tts.task import TtsTask
from pipeline.tasks.writing import TTS, written_lineage


@dataclass(frozen=True, kw_only=True)
class ToWrite:
    """A text to write tokens for.

    Attributes:
        key: What tells it from others; its draws depend on it.
        text: The text.
        speaker: Who is to speak; None where nobody is named.
    """

    key: str
    text: str
    speaker: str | None = None


class TextWriter:
    """A loaded network; threads that share it take turns.

    Attributes:
        trained: The folder that it comes from.
        columns: The layers that it writes (L).
        speakers: Whom it tells apart; none for one voice.
        said: Encoder and codebooks of what it writes, as a tokens dataset's lineage.
    """

    def __init__(
        self,
        trained: TrainedTask,
        device: str,
        settings: GenerationSettings | None = None,
        *,
        drops_unknown: bool = False,
    ) -> None:
        """Load it.

        Args:
            trained: As ``open_tts`` gives it.
            device: A torch device.
            settings: How tokens are chosen.
            drops_unknown: Whether characters that it never learned are left out of texts.

        Raises:
            CorruptDatasetError: Its weights are damaged.
            SettingsError: It cannot be guided as asked.
        """
        self.trained = trained
        self.said = written_lineage(self.trained)
        task = self.trained.task()
        assert isinstance(task, TtsTask)
        self.columns, self.speakers = task.columns, task.speakers
        self._settings, self._drops = settings or GenerationSettings(), drops_unknown
        self._task = replace(task, alphabet=replace(task.alphabet, drops_unknown=drops_unknown))
        self._writer = Writer(self.trained.model(task), task, self._settings, device)
        self._turn = threading.Lock()

    def problem(self, text: str, speaker: str | None) -> Problem | None:
        """Say why a text cannot be written by a speaker; None where it can."""
        found = text_problem(self._task.alphabet, text, drops_unknown=self._drops)
        return found or speaker_problem(self.speakers, speaker, TTS)

    def write(self, texts: Sequence[ToWrite]) -> list[WrittenTokens]:
        """Write tokens, int64 (T, L) each, for texts without a problem, in their order; see ``Writer.write``."""
        with self._turn:
            written = dict(self._writer.write([self._read(text) for text in texts]))
        return [written[place] for place in range(len(texts))]

    def endless(self, written: WrittenTokens) -> Problem | None:
        """Say that it did not stop; None where it did."""
        if written.stopped:
            return None
        seconds = len(written.tokens) / self.trained.clock.frame_rate
        return Reason.NO_STOP, f"the tts did not stop within {seconds:.1f} s; --max-seconds allows more"

    def _read(self, text: ToWrite) -> ReadText:
        symbols = tuple(self._task.symbols(text.text))
        known = self.speakers and text.speaker is not None
        return ReadText(
            key=text.key,
            symbols=symbols,
            speaker=self.speakers.index(text.speaker or "") if known else None,
            most_frames=most_frames(self._task, len(symbols), self._settings, self.trained.clock.frame_rate),
        )
