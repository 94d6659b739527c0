"""What is judged of each utterance: the vocoder from each set of layers, beside the original and what frames it.

Conditions: ``original``, the recording itself; ``griffin_lim``, speech from the log-mel spectrum of the original
without a network; each set of layers; ``other``, the recording of another utterance of about the same length, cut to
what both have: the floor. Letters: S samples, T frames, L layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.errors import SettingsError
from pipeline.evaluation.speech.utterances import Judged
from pipeline.metrics.speech.griffin_lim import griffin_lim
from pipeline.metrics.speech.judge import Pair
from pipeline.vocoder.network import Vocoder
from pipeline.vocoder.speaker_vectors import Speaker, SpeakerVectors

ORIGINAL, GRIFFIN_LIM, OTHER = "original", "griffin_lim", "other"


@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """An utterance as every condition has it.

    Attributes:
        judged: The utterance.
        waveforms: float32 (S,) by condition, ``other`` left out.
        weights: float32 (T, L) of the first set, how much each layer was heard; None for fusion concat.
    """

    judged: Judged
    waveforms: Mapping[str, np.ndarray]
    weights: np.ndarray | None


class Speaking:
    """Speaks utterances with a vocoder from sets of layers.

    Args:
        vocoder: In ``eval()``.
        sets: Columns by name of the set.
        columns: Those that utterances come with.
        known: Speakers that the vocoder knows by name; none for one voice.
        speaker: Who of them speaks all utterances; None: each its own speaker.
        vectors: Gives the vector of each utterance's own recording, where speakers are vectors and none speaks all.

    Attributes:
        columns: The layers of the vocoder (L), in the order of its weights.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        sets: Mapping[str, Sequence[str]],
        columns: Sequence[str],
        *,
        known: Mapping[str, Speaker],
        speaker: str | None,
        vectors: SpeakerVectors | None,
    ) -> None:
        self._vocoder, self._given = vocoder, list(columns)
        self._known, self._speaker, self._vectors = known, speaker, vectors
        self.columns = vocoder.spec.columns
        self._present = {name: torch.tensor(vocoder.spec.present(chosen)) for name, chosen in sets.items()}

    def __call__(self, judged: Judged) -> Spoken:
        """Speak one utterance from every set.

        Raises:
            SettingsError: Its speaker is none of the vocoder's.
        """
        device = next(self._vocoder.parameters()).device
        tokens = self._tokens(judged.piece.tokens).to(device)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
        speaker = self._who(judged)
        waveforms = {ORIGINAL: judged.waveform, GRIFFIN_LIM: griffin_lim(judged.waveform)}
        weights: list[torch.Tensor | None] = []
        with torch.inference_mode():
            for name, present in self._present.items():
                found = self._vocoder.speak(tokens, mask, present.to(device), speaker)
                waveforms[name] = found.waveform[0].float().cpu().numpy()
                weights.append(found.weights)
        first = weights[0]
        return Spoken(judged=judged, waveforms=waveforms, weights=None if first is None else first[0].cpu().numpy())

    def _tokens(self, tokens_TL: np.ndarray) -> torch.Tensor:
        found = np.zeros((1, len(tokens_TL), len(self.columns)), np.int64)
        found[0][:, [self.columns.index(column) for column in self._given]] = tokens_TL
        return torch.from_numpy(found)

    def _who(self, judged: Judged) -> torch.Tensor | None:
        device = next(self._vocoder.parameters()).device
        if self._vectors is not None:
            return torch.from_numpy(self._vectors(judged.waveform))[None].to(device)
        if not self._known:
            return None
        name = self._speaker if self._speaker is not None else judged.piece.labels["speaker"]
        if name is None or name not in self._known:
            raise SettingsError(
                f"{judged.piece.utterance_id} is of the speaker {name}, whom the vocoder does not know; give "
                f"--speaker, one of {', '.join(list(self._known)[:5])}"
            )
        return torch.as_tensor(np.asarray(self._known[name]))[None].to(device)


def pairs_of(spoken: Spoken) -> Iterator[Pair]:
    """Give what judges hear of an utterance, a pair per condition."""
    judged = spoken.judged
    pair = Pair(
        utterance_id=judged.piece.utterance_id,
        condition=ORIGINAL,
        generated=judged.waveform,
        reference=judged.waveform,
        text=judged.piece.labels["text"],
    )
    for condition, waveform in spoken.waveforms.items():
        yield replace(pair, condition=condition, generated=waveform)
    if judged.other is not None:
        both = min(len(judged.waveform), len(judged.other))
        yield replace(pair, condition=OTHER, generated=judged.other[:both], reference=judged.waveform[:both])
