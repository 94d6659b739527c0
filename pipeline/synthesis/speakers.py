"""Who speaks a corpus: one for all of it, or each utterance's own speaker; chosen on the driver, before Ray starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pipeline.audio.loading import Manifest
from pipeline.errors import SettingsError
from pipeline.store.dataset import sha256
from pipeline.vocoder.saved import SavedVocoder
from pipeline.vocoder.speaker_vectors import Speaker, SpeakerVectors, check_encoder, known_speakers, silent_reference
from pipeline.vocoder.spec import VocoderSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Speakers:
    """Who speaks.

    Attributes:
        one: Who speaks all of it; None where each utterance has its own speaker, or the vocoder one voice.
        known: By the name that the manifest gives an utterance; none where one speaks.
        vectors_sha256: SHA-256 of the vectors that are heard; None where the vocoder takes none.
    """

    one: Speaker | None = None
    known: Mapping[str, Speaker] = field(default_factory=dict)
    vectors_sha256: str | None = None


class WhoSpeaks(Protocol):
    """What settings say of who speaks, as those of ``synthesize`` do."""

    @property
    def vocoder(self) -> str | None:
        """The vocoder's folder."""

    @property
    def speaker(self) -> str | None:
        """Who speaks all of it, by name."""

    @property
    def speaker_reference(self) -> str | None:
        """A recording of who speaks all of it."""

    @property
    def manifest(self) -> str | None:
        """Manifest that names each utterance's own speaker."""

    @property
    def threads_per_worker(self) -> int:
        """Compute threads."""


def choose_speakers(config: WhoSpeaks, saved: SavedVocoder) -> Speakers:
    """Choose who speaks, and refuse a speaker who is absent, too many, or unknown.

    Needs torch for ``speaker_reference`` alone.

    Args:
        config: Says who.
        saved: The vocoder.

    Raises:
        AudioDecodeError: The reference cannot be read.
        CorruptDatasetError: The vocoder's mean vectors are damaged.
        SettingsError: Such a speaker cannot be had.
    """
    spec = saved.spec
    assert config.vocoder is not None
    check_reference(config, spec)
    if config.speaker_reference is not None:
        vector = _of_reference(config.speaker_reference, config.threads_per_worker, spec)
        return Speakers(one=vector, vectors_sha256=sha256(vector.tobytes()))
    if spec.settings.speaker_input == "none":
        if config.speaker is not None:
            raise SettingsError("this vocoder has one voice; leave --speaker away")
        return Speakers()
    takes_vectors = spec.settings.speaker_input == "vector"
    if config.speaker is not None:
        _refuse_unknown({config.speaker}, spec, "--speaker")
        one = known_speakers(config.vocoder, spec)[config.speaker]
        return Speakers(one=one, vectors_sha256=sha256(np.asarray(one).tobytes()) if takes_vectors else None)
    if config.manifest is None:
        raise SettingsError(_absent(spec))
    _refuse_unknown(_names(config.manifest), spec, config.manifest)
    return Speakers(known=known_speakers(config.vocoder, spec), vectors_sha256=saved.voices_sha256)


def check_reference(config: WhoSpeaks, spec: VocoderSpec) -> None:
    """Refuse ``speaker_reference`` where the vocoder takes no vectors, or not those of the encoder that is installed.

    Raises:
        SettingsError: So it is.
    """
    if config.speaker_reference is None:
        return
    if spec.settings.speaker_input != "vector":
        what = "has one voice" if spec.settings.speaker_input == "none" else "knows its speakers by name alone"
        raise SettingsError(f"this vocoder {what}; leave --speaker-reference away")
    check_encoder(spec.speaker_encoder)


def _of_reference(file: str, threads: int, spec: VocoderSpec) -> np.ndarray:
    # Not at the top: only a reference needs torch.
    from pipeline.metrics.speech.judge import SAMPLE_RATE
    from pipeline.synthesis.recording import read_recording
    from pipeline.work.runtime import kept_threads

    encode = SpeakerVectors(spec.speaker_encoder)
    with kept_threads(threads):
        vector = encode(read_recording(file, SAMPLE_RATE))
    if not vector.any():
        raise SettingsError(silent_reference(file))
    return vector


def _names(manifest: str) -> set[Any]:
    return {name for _, rows in Manifest(manifest).scan(["speaker"]) for name in rows["speaker"].unique().to_pylist()}


def _absent(spec: VocoderSpec) -> str:
    if spec.settings.speaker_input == "table":
        return f"this vocoder has {len(spec.speakers)} voices; give --speaker, or --manifest for each its own"
    return f"this vocoder needs to be told who speaks; give {_choices(spec)}"


def _choices(spec: VocoderSpec) -> str:
    """Say how a speaker may be given."""
    known = ", ".join(spec.speakers[:5]) + (" and others" if len(spec.speakers) > 5 else "")
    if spec.settings.speaker_input == "table":
        return f"--speaker, one of {known}"
    reference = "--speaker-reference, a recording of who is to speak"
    return f"{reference}, or --speaker, one of {known}" if known else reference


def _refuse_unknown(names: set[Any], spec: VocoderSpec, where: str) -> None:
    if None in names:
        raise SettingsError(f"{where} has utterances without a speaker; give {_choices(spec)}")
    if unknown := sorted(names - set(spec.speakers)):
        raise SettingsError(
            f"{where} has the speaker {unknown[0]}, whom the vocoder does not know; give {_choices(spec)}"
        )
