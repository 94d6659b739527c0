"""What speaks texts: a trained tts and a vocoder of its tokens, and who may speak. Knows no torch."""

from dataclasses import dataclass
from functools import cached_property

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.synthesis.speakers import Speakers, choose_speakers
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.synthesis.speaking.texts import Text
from pipeline.tasks.asr.text import Alphabet
from pipeline.tasks.trained import TrainedTask
from pipeline.tasks.tts.reading import Problem, speaker_problem, text_problem
from pipeline.tasks.tts.settings import check_guidance
from pipeline.tasks.writing import TTS, open_tts, written_lineage
from pipeline.vocoder.choosing import choose_columns
from pipeline.vocoder.saved import VOCODER, SavedVocoder, read_spec
from pipeline.vocoder.speaker_vectors import known_speakers


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A tts, a vocoder, and who speaks.

    Attributes:
        trained: The tts.
        saved: The vocoder.
        columns: The layers to hear.
        speakers: Who speaks, for the vocoder.
        speaker: Who is named for all texts; None where each names its own, or nobody does.
        drops_unknown: Whether characters that the tts never learned are left out.
    """

    trained: TrainedTask
    saved: SavedVocoder
    columns: tuple[str, ...]
    speakers: Speakers
    speaker: str | None
    drops_unknown: bool

    @property
    def known_to_tts(self) -> tuple[str, ...]:
        """Speakers whom the tts tells apart."""
        return tuple(self.trained.spec["speakers"])

    @cached_property
    def alphabet(self) -> Alphabet:
        """What the tts can read."""
        return Alphabet.from_json(self.trained.spec["alphabet"])

    def named(self, text: Text) -> str | None:
        """Say who is named for a text."""
        return text.speaker if self.speaker is None else self.speaker

    def problem(self, text: Text) -> Problem | None:
        """Say why a text cannot be spoken; None where it can."""
        if text.problem is not None:
            return text.problem
        name = self.named(text)
        return (
            text_problem(self.alphabet, text.text, drops_unknown=self.drops_unknown)
            or speaker_problem(self.known_to_tts, name, TTS)
            or speaker_problem(tuple(self.speakers.known), name, VOCODER)
        )


def open_parts(config: SpeakConfig) -> Parts:
    """Open a tts and a vocoder, and refuse those that do not belong together.

    Needs torch for ``speaker_reference`` alone.

    Raises:
        AudioDecodeError: The reference of the speaker cannot be read.
        CodebookMismatchError: The vocoder was trained on other tokens than the tts writes.
        DatasetError: There is no finished tts.
        SettingsError: It is another task, or cannot be guided as asked, or there is no vocoder; the vocoder does not
            know the layers, or never saw such a set; a speaker is too many or unknown.
    """
    assert config.task is not None
    assert config.vocoder is not None
    trained, saved = open_tts(config.task), read_spec(config.vocoder)
    check_guidance(config.generation, trained.spec["tts"].get("text_dropout", 0.0))
    shared = saved.spec.check_tokens(written_lineage(trained))
    clock, spec = trained.clock, saved.spec
    if (clock.sample_rate, clock.hop_length) != (spec.sample_rate, spec.hop_length):
        raise CodebookMismatchError(
            f"the vocoder speaks {spec.hop_length} samples per frame at {spec.sample_rate} Hz, and the tts writes "
            f"frames of {clock.hop_length} at {clock.sample_rate} Hz"
        )
    return Parts(
        trained=trained,
        saved=saved,
        columns=choose_columns(spec, shared, config.layers),
        speakers=_speakers(config, saved, tuple(trained.spec["speakers"])),
        speaker=config.speaker,
        drops_unknown=config.unknown == "drop",
    )


def _speakers(config: SpeakConfig, saved: SavedVocoder, known_to_tts: tuple[str, ...]) -> Speakers:
    """Choose who speaks for the vocoder, and refuse a speaker for all texts whom one of both does not know."""
    assert config.vocoder is not None
    one_voice = saved.spec.settings.speaker_input == "none"
    if config.speaker is not None:
        if one_voice and not known_to_tts:
            raise SettingsError("tts and vocoder have one voice; leave --speaker away")
        if known_to_tts and config.speaker not in known_to_tts:
            told = ", ".join(known_to_tts[:5]) + (" and others" if len(known_to_tts) > 5 else "")
            raise SettingsError(f"--speaker has the speaker {config.speaker}, and the tts knows {told}")
    if config.speaker_reference is not None or (config.speaker is not None and not one_voice):
        return choose_speakers(config, saved)
    if one_voice:
        return Speakers()
    known = known_speakers(config.vocoder, saved.spec)
    if not known:
        raise SettingsError("this vocoder knows no speaker by name; give --speaker-reference, a recording of one")
    return Speakers(known=known, vectors_sha256=saved.voices_sha256)
