"""Tokens for texts, step by step: several texts at once, each of which stops by itself.

A step sees the keys and values of those before it, which are kept: its cost does not grow with what it would take to
compute them again, O(T) per step and not O(T^2). ``Recomputed`` computes all again, to compare.

Letters: B batch, S steps, L layers, H width, T frames of a text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from pipeline.export.ids.patterns import undelay
from pipeline.fusion.fuser import Fuser
from pipeline.tasks.recipe import TaskModel
from pipeline.tasks.tts.choosing import Draws, choose, drawing
from pipeline.tasks.tts.model import TEXT_END, TtsModel, Written
from pipeline.tasks.tts.settings import GenerationSettings, check_guidance
from pipeline.tasks.tts.task import TtsTask

_LEAST_SECONDS, _TIMES_USUAL, _MOST_SECONDS = 2.0, 3.0, 60.0
"""How long a text may take where nothing is said: so much and so many times what texts of its length usually take, and
at most so much: a line of a megabyte, which is no sentence, costs a minute of speech and not a day."""


@dataclass(frozen=True, kw_only=True)
class ReadText:
    """A text to speak.

    Attributes:
        key: What tells it from others; its draws depend on it.
        symbols: With the end, as ``TtsTask.symbols`` gives them.
        speaker: Place of who speaks among those of training; None where nobody is named.
        most_frames: Frames past which it is given up.
    """

    key: str
    symbols: tuple[int, ...]
    speaker: int | None
    most_frames: int


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenTokens:
    """What was written for a text.

    Attributes:
        tokens: int64 (T, L); where it did not stop, the frames until it was given up.
        stopped: Whether it stopped by itself.
    """

    tokens: np.ndarray
    stopped: bool


def most_frames(task: TtsTask, symbols: int, settings: GenerationSettings, frame_rate: float) -> int:
    """Say how many frames a text of so many symbols may have."""
    if settings.max_seconds is not None:
        return max(1, int(settings.max_seconds * frame_rate))
    usual = symbols * task.frames_per_symbol
    return int(min(_LEAST_SECONDS * frame_rate + _TIMES_USUAL * usual, _MOST_SECONDS * frame_rate))


class Steps(Protocol):
    """Gives step after step."""

    def step(self, fused: torch.Tensor | None) -> Written:
        """Give the next step, of the fused one before, (B, H); None in the first."""

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""


class Cached:
    """Steps that keep keys and values."""

    def __init__(
        self, head: TtsModel, text: torch.Tensor, text_mask: torch.Tensor, speakers: torch.Tensor | None
    ) -> None:
        self._head, self._state = head, head.start(text, text_mask, speakers)

    def step(self, fused: torch.Tensor | None) -> Written:
        """Give the next step."""
        return self._head.step(fused, self._state)

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""
        self._state.keep_rows(index)


class Recomputed:
    """Steps that compute all before them again, as training does: slow, and the reference."""

    def __init__(
        self, head: TtsModel, text: torch.Tensor, text_mask: torch.Tensor, speakers: torch.Tensor | None
    ) -> None:
        self._head, self._given = head, [text, text_mask, *([] if speakers is None else [speakers])]
        self._fused: list[torch.Tensor] = []

    def step(self, fused: torch.Tensor | None) -> Written:
        """Give the next step."""
        self._fused += [] if fused is None else [fused]
        # The step's own tokens are not known yet, and are not looked at.
        width = self._head.input.in_features
        rows = [*self._fused, torch.zeros(len(self._given[0]), width, device=self._given[0].device)]
        steps = torch.stack(rows, dim=1)
        mask = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device)
        found = self._head(steps, mask, *self._given)
        return Written(logits=[each[:, -1:] for each in found.logits], stop=found.stop[:, -1:], attention=None)

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""
        self._given = [each[index] for each in self._given]
        self._fused = [each[index] for each in self._fused]


class Guided:
    """Steps drawn to what the text asks for, away from what is likely without it.

    Logits are those without a text, and ``guidance`` times what the text adds to them. When it stops, the text says.
    Source: Ho and Salimans 2022, Classifier-Free Diffusion Guidance, arXiv 2207.12598, equation 6.
    """

    def __init__(self, told: Steps, untold: Steps, guidance: float) -> None:
        self._told, self._untold, self._guidance = told, untold, guidance

    def step(self, fused: torch.Tensor | None) -> Written:
        """Give the next step."""
        told, untold = self._told.step(fused), self._untold.step(fused)
        pairs = zip(untold.logits, told.logits, strict=True)
        logits = [without.lerp(with_text, self._guidance) for without, with_text in pairs]
        return Written(logits=logits, stop=told.stop, attention=told.attention)

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""
        self._told.keep_rows(index)
        self._untold.keep_rows(index)


class Writer:
    """A trained network at work on texts."""

    def __init__(
        self, model: TaskModel, task: TtsTask, settings: GenerationSettings, device: str, *, cached: bool = True
    ) -> None:
        """Take the network.

        Args:
            model: In evaluation mode.
            task: What it was trained for.
            settings: How tokens are chosen.
            device: A torch device.
            cached: Whether keys and values are kept; the tokens are the same.

        Raises:
            SettingsError: It cannot be guided.
        """
        check_guidance(settings, task.settings.text_dropout)
        self._model, self._task, self._settings = model.to(device), task, settings
        self._device, self._cached = device, cached

    def write(self, texts: Sequence[ReadText]) -> Iterator[tuple[int, WrittenTokens]]:
        """Write tokens, short texts first.

        Yields:
            The place of a text, and its tokens.
        """
        places = sorted(range(len(texts)), key=lambda place: (len(texts[place].symbols), place))
        for first in range(0, len(places), self._settings.texts_per_batch):
            group = places[first : first + self._settings.texts_per_batch]
            yield from zip(group, self._together([texts[place] for place in group]), strict=True)

    @torch.inference_mode()
    def _together(self, texts: Sequence[ReadText]) -> list[WrittenTokens]:
        fuser: Fuser = self._model.fuser  # type: ignore[assignment]
        steps, draws = self._begun(texts), drawing(self._settings, [t.key for t in texts], len(self._task.columns))
        rows = _Rows(texts, self._task.delays)
        fused: torch.Tensor | None = None
        while True:
            written = steps.step(fused)
            tokens = choose([each[:, 0] for each in written.logits], self._settings, draws)
            present = rows.take(tokens.cpu().numpy(), (written.stop[:, 0] > 0).tolist())
            going = rows.going()
            if not going:
                return rows.found()
            here = torch.from_numpy(present).to(self._device)
            # Rows that ended are computed along until half of them have: then the others go on in a smaller batch.
            if 2 * len(going) <= len(tokens):
                index = torch.tensor(going, device=self._device)
                tokens, here = tokens[index], here[index]
                _keep(steps, draws, rows, going, index)
            mask = torch.ones(len(tokens), 1, dtype=torch.bool, device=self._device)
            told = here.unsqueeze(1) if any(self._task.delays) else None
            fused = fuser(tokens.unsqueeze(1), mask, told).values[:, 0]

    def _begun(self, texts: Sequence[ReadText]) -> Steps:
        longest = max(len(text.symbols) for text in texts)
        rows = [[*text.symbols, *[0] * (longest - len(text.symbols))] for text in texts]
        lengths = torch.tensor([[len(text.symbols)] for text in texts])
        mask = torch.arange(longest) < lengths
        named = [text.speaker for text in texts if text.speaker is not None]
        speakers = torch.tensor(named, device=self._device) if named else None
        head: TtsModel = self._model.head  # type: ignore[assignment]
        kind = Cached if self._cached else Recomputed
        told = kind(head, torch.tensor(rows, device=self._device), mask.to(self._device), speakers)
        if self._settings.guidance == 1:
            return told
        ends = torch.full((len(texts), 1), TEXT_END, device=self._device)
        return Guided(
            told, kind(head, ends, torch.ones_like(ends, dtype=torch.bool), speakers), self._settings.guidance
        )


def _keep(steps: Steps, draws: Draws | None, rows: "_Rows", going: list[int], index: torch.Tensor) -> None:
    steps.keep_rows(index)
    rows.keep(going)
    if draws is not None:
        draws.keep_rows(going)


class _Rows:
    """What was written so far, and which texts go on."""

    def __init__(self, texts: Sequence[ReadText], delays: Sequence[int]) -> None:
        self._texts, self._delays = texts, np.array(delays)
        self._here = list(range(len(texts)))
        self._tokens: list[list[np.ndarray]] = [[] for _ in texts]
        self._frames: list[int | None] = [None] * len(texts)
        self._given_up = [False] * len(texts)
        self._step = 0

    def take(self, tokens_BL: np.ndarray, stops: Sequence[bool]) -> np.ndarray:
        """Take the tokens of a step and what is said of stopping.

        Returns:
            Which layers have a token, bool (B, L); all of a text that ended, to which nobody listens.
        """
        present_BL = np.ones(tokens_BL.shape, bool)
        for row, place in enumerate(self._here):
            if self._ended(place):
                continue
            frames = self._step - self._delays
            if self._frames[place] is None and stops[row]:
                self._frames[place] = self._step + 1
            end = self._frames[place]
            present_BL[row] = (frames >= 0) & (frames < (self._step + 1 if end is None else end))
            self._tokens[place].append(np.where(present_BL[row], tokens_BL[row], 0))
            self._given_up[place] = end is None and self._step + 1 >= self._texts[place].most_frames
        self._step += 1
        return present_BL

    def _ended(self, place: int) -> bool:
        frames = self._frames[place]
        written = len(self._tokens[place])
        return self._given_up[place] or (frames is not None and written >= frames + int(self._delays.max()))

    def going(self) -> list[int]:
        """Give the rows of the batch that go on."""
        return [row for row, place in enumerate(self._here) if not self._ended(place)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some rows of the batch."""
        self._here = [self._here[row] for row in rows]

    def found(self) -> list[WrittenTokens]:
        """Give what was written for all texts."""
        return [self._one(place) for place in range(len(self._texts))]

    def _one(self, place: int) -> WrittenTokens:
        steps = np.stack(self._tokens[place]).astype(np.int64)
        stopped = self._frames[place] is not None and not self._given_up[place]
        whole = stopped and self._delays.any()
        return WrittenTokens(tokens=undelay(steps, self._delays.tolist()) if whole else steps, stopped=stopped)
