"""A loaded vocoder that speaks utterances of any length: batched by length, long ones in pieces.

What it is given decides the batches, and nothing else does: the same utterances give the same samples on any worker.
Letters: T frames, L layers, S samples.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.fusion.laying import lay_tokens
from pipeline.vocoder.pieces import speak_in_pieces, with_predicted_durations
from pipeline.vocoder.saved import load_vocoder
from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.spec import VocoderSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What is to be spoken.

    Attributes:
        tokens: int64 (T, L), the layers in the order of the vocoder; those of absent layers are never looked at.
        speaker: An id, or a float vector; None where the vocoder has one voice.
    """

    tokens: np.ndarray
    speaker: "int | np.ndarray | None" = None


class Voice:
    """A loaded vocoder; threads that share it take turns, a batch or an utterance in pieces at a time.

    Args:
        uri: Its folder.
        device: A torch device.
        settings: Sizes of batches and pieces.

    Attributes:
        spec: What the vocoder is made for.
    """

    def __init__(self, uri: str, device: str, settings: SpeakingSettings) -> None:
        self._vocoder = load_vocoder(uri, device=device)
        self.spec: VocoderSpec = self._vocoder.spec
        self._device = device
        self._turn = threading.Lock()
        frame_rate = self.spec.sample_rate / self.spec.hop_length
        self._batch_frames = max(1, int(settings.batch_seconds * frame_rate))
        self._piece_frames = max(1, int(settings.piece_seconds * frame_rate))

    def speak(self, utterances: Sequence[Said], columns: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Speak utterances, short ones first.

        Args:
            utterances: Each of one frame or more.
            columns: The layers to hear.

        Yields:
            The place of an utterance and its waveform, float32 (hop * T); in the order in which they are spoken.

        Raises:
            SettingsError: The vocoder does not know such a set of layers.
            ValueError: The speaker is absent or too many, or a token is none of its codebook's.
        """
        present = torch.tensor(self.spec.present(columns), device=self._device)
        for places in self.batches([len(each.tokens) for each in utterances]):
            held = [utterances[place] for place in places]
            with self._turn:
                spoken = self._spoken(held, present)
            yield from zip(places, spoken, strict=True)

    def timed(self, utterance: Said, columns: Sequence[str]) -> Said:
        """Let each run of equal tokens last as long as the vocoder predicts; see ``with_predicted_durations``.

        Raises:
            SettingsError: The vocoder has no duration predictor, or does not know such a set of layers.
        """
        self.spec.check_durations()
        present = torch.tensor(self.spec.present(columns), device=self._device)
        tokens = torch.from_numpy(utterance.tokens).to(self._device)
        speaker = self._speakers([utterance])
        with self._turn:
            found = with_predicted_durations(
                self._vocoder, tokens, present, None if speaker is None else speaker[0], piece_frames=self._piece_frames
            )
        return Said(tokens=found.cpu().numpy(), speaker=utterance.speaker)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Group utterances of about equal length: the padded frames of a group are at most those of a batch.

        Args:
            lengths: Frames of each; one that is longer than a piece is alone.

        Returns:
            Places of each group, from short to long.
        """
        groups: list[list[int]] = []
        for place in sorted(range(len(lengths)), key=lambda place: (lengths[place], place)):
            length = lengths[place]
            fits = groups and length <= self._piece_frames and (len(groups[-1]) + 1) * length <= self._batch_frames
            if fits:
                groups[-1].append(place)
            else:
                groups.append([place])
        return groups

    def _spoken(self, held: Sequence[Said], present: torch.Tensor) -> list[np.ndarray]:
        if len(held) == 1:
            tokens = torch.from_numpy(held[0].tokens).to(self._device)
            speaker = self._speakers(held)
            one = None if speaker is None else speaker[0]
            return [speak_in_pieces(self._vocoder, tokens, present, one, piece_frames=self._piece_frames).numpy()]
        lengths = [len(each.tokens) for each in held]
        tokens = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each.tokens) for each in held], batch_first=True)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
        with torch.inference_mode():
            found = self._vocoder(tokens.to(self._device), mask.to(self._device), present, self._speakers(held)).cpu()
        hop = self.spec.hop_length
        return [row[: length * hop].numpy() for row, length in zip(found, lengths, strict=True)]

    def _speakers(self, held: Sequence[Said]) -> torch.Tensor | None:
        speakers = [each.speaker for each in held]
        if any(speaker is None for speaker in speakers):
            return None
        return torch.as_tensor(np.stack([np.asarray(speaker) for speaker in speakers])).to(self._device)


def stacked(tokens: Mapping[str, np.ndarray], spec: VocoderSpec, columns: Sequence[str]) -> np.ndarray:
    """Lay tokens out as the vocoder takes them.

    Args:
        tokens: Integers (T,) by column.
        spec: Of the vocoder.
        columns: The layers to hear; the others are 0.

    Returns:
        int64 (T, L).

    Raises:
        ValueError: Layers differ in length, there is no frame, or an id is none of its codebook's; the message is one
            sentence.
    """
    found = lay_tokens(tokens, spec.fuser, columns)
    if not len(found):
        raise ValueError("there is no frame to speak")
    return found
