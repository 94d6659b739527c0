"""The vocoder: tokens of any set of layers in, a waveform out.

Letters: B batch, T frames, L layers, H width of a fused frame, S width of a speaker vector.
"""

from dataclasses import dataclass

import torch
from torch.nn.utils import parametrize

from pipeline.fusion.fuser import Fused, build_fuser
from pipeline.vocoder.duration import DurationPredictor
from pipeline.vocoder.front_end import LearnedAbsence, SpeakerTable, SpeakerVector
from pipeline.vocoder.generators.hifigan import HifiganGenerator
from pipeline.vocoder.generators.istft import IstftGenerator
from pipeline.vocoder.generators.masking import needed
from pipeline.vocoder.spec import VocoderSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """What a vocoder gives.

    Attributes:
        waveform: float (B, hop * T); exactly 0 in padding.
        weights: float32 (B, T, L), how much each layer was heard; None for fusion concat.
    """

    waveform: torch.Tensor
    weights: torch.Tensor | None


class Vocoder(torch.nn.Module):
    """Speaks tokens of the layers that are present.

    Absent layers have weight 0 and their ids are never looked at; with ``absent_layers`` learned they have a weight,
    and their ids are not looked at either. An utterance in a batch and alone is the same within rounding.

    Args:
        spec: What it is made for.

    Attributes:
        spec: What it is made for.
        sample_rate: Of the waveform, Hz.
        hop_length: Samples per frame.
        context_frames: Frames to each side that a frame's samples may depend on: see ``speak_in_pieces``.
    """

    def __init__(self, spec: VocoderSpec) -> None:
        super().__init__()
        settings = spec.settings
        fuser = build_fuser(spec.fuser)
        self.spec, self.sample_rate, self.hop_length = spec, spec.sample_rate, spec.hop_length
        self.fuser = LearnedAbsence(fuser) if settings.absent_layers == "learned" else fuser
        self.speaker: SpeakerVector | SpeakerTable | None = None
        if settings.speaker_input == "vector":
            self.speaker = SpeakerVector(settings.speaker_dim, fuser.dim)
        elif settings.speaker_input == "table":
            self.speaker = SpeakerTable(len(spec.speakers), fuser.dim)
        self.duration: DurationPredictor | None = None
        if settings.duration_predictor:
            self.duration = DurationPredictor(fuser.dim, settings.duration_channels, settings.duration_dropout)
        self.generator: HifiganGenerator | IstftGenerator
        if settings.arch == "hifigan":
            self.generator = HifiganGenerator(fuser.dim, settings)
        else:
            self.generator = IstftGenerator(fuser.dim, settings, spec.hop_length)
        self.context_frames = self.generator.context_frames

    def forward(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        present: torch.Tensor | None = None,
        speaker: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Speak a batch.

        Args:
            tokens: Integers (B, T, L), the layers in the order of the spec; those of absent layers may be anything.
            mask: bool (B, T), True in real frames; padding stands at the end.
            present: bool (L,) or (B, L), the layers that are there; None: all.
            speaker: float (B, S), or int64 (B,) for a table of speakers; None where the vocoder has one voice.

        Returns:
            float (B, hop * T); exactly 0 in padding.

        Raises:
            ValueError: Shapes do not fit, a row has no layer, a token is none of its codebook's, or the speaker is
                absent or too many.
        """
        return self.speak(tokens, mask, present, speaker).waveform

    def speak(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        present: torch.Tensor | None = None,
        speaker: torch.Tensor | None = None,
    ) -> Spoken:
        """Speak a batch, and say how; as ``forward``."""
        fused = self._fused(tokens, mask, present, speaker)
        return Spoken(waveform=self.generator(fused.values, needed(mask)), weights=fused.weights)

    def log_durations(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        present: torch.Tensor | None = None,
        speaker: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict how long runs of equal tokens last.

        Args:
            tokens: Integers (B, T, L), one step per run: see ``runs_of``.
            mask: As in ``forward``, of runs.
            present: As in ``forward``.
            speaker: As in ``forward``.

        Returns:
            The log of frames, float (B, T), 0 in padding.

        Raises:
            ValueError: As ``forward``, or the vocoder was trained without durations.
        """
        if self.duration is None:
            raise ValueError("this vocoder was trained without durations; give tokens of every frame")
        durations: torch.Tensor = self.duration(self._fused(tokens, mask, present, speaker).values, needed(mask))
        return durations

    def _fused(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        present: torch.Tensor | None,
        speaker: torch.Tensor | None,
    ) -> Fused:
        fused: Fused = self.fuser(tokens, mask, present)
        if (self.speaker is None) != (speaker is None):
            raise ValueError(
                "this vocoder has one voice, and was given a speaker"
                if self.speaker is None
                else f"this vocoder needs a speaker: speaker_input is {self.spec.settings.speaker_input}"
            )
        if self.speaker is None:
            return fused
        voiced = fused.values + self.speaker(speaker).unsqueeze(1)
        return Fused(values=voiced.masked_fill(~mask.unsqueeze(-1), 0.0), weights=fused.weights)

    def fold_weight_norm(self) -> None:
        """Write each normalised weight as the one tensor it gives: faster, equal within rounding, no more trained so.

        Changes the names in ``state_dict()`` to plain ones; a second call changes nothing.
        """
        for part in self.modules():
            if parametrize.is_parametrized(part, "weight"):
                parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def build_vocoder(spec: VocoderSpec) -> Vocoder:
    """Make a new vocoder; random weights come from torch's generator, which the caller seeds.

    Raises:
        CodebookMismatchError: The codebooks, where embeddings begin as centroids, are not those of the tokens.
        SettingsError: The centroids have another width, or a saved fuser does not fit.
    """
    return Vocoder(spec)
