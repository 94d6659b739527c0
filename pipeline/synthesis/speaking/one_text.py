"""One text spoken and written as a recording, without Ray."""

import time

from pipeline.errors import SettingsError
from pipeline.synthesis.recording import local_target
from pipeline.synthesis.speaking.makers import TextSpeaker
from pipeline.synthesis.speaking.parts import open_parts
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.texts import Text
from pipeline.synthesis.spoken_file import SpokenFile, write_spoken
from pipeline.tasks.tts.reading import Problem
from pipeline.work.runtime import kept_threads


def speak_text(config: SpeakConfig) -> SpokenFile:
    """Speak a text and write it: 16 bits, the vocoder's rate.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens than the tts writes.
        DatasetError: There is no finished tts.
        SettingsError: A path or a setting does not fit, or the text cannot be spoken.
    """
    assert config.text is not None
    target = local_target(config.output, "text")
    parts = open_parts(config)
    # A line of a file and the text alone have other draws only where their ids differ.
    text = Text(utterance_id="text", text=config.text.strip())
    with kept_threads(config.threads_per_worker):
        speaker = TextSpeaker(parts, config, "cpu")
        began = time.perf_counter()
        found = speaker.write([text], _refuse)
        ((_, waveform),) = speaker.voice.speak([each.said for each in found], parts.columns)
        took = time.perf_counter() - began
    spec = parts.saved.spec
    layers = dict.fromkeys(int(column.removeprefix("layer_").split("_q")[0]) for column in parts.columns)
    return write_spoken(
        target,
        waveform,
        sample_rate=spec.sample_rate,
        hop_length=spec.hop_length,
        layers=tuple(layers),
        took=took,
        text=text.text,
    )


def _refuse(text: Text, problem: Problem) -> None:
    raise SettingsError(f"--text cannot be spoken: {problem[1]}")
