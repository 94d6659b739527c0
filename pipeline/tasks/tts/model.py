"""A text becomes the tokens of all layers, frame after frame: one transformer reads, another one writes.

The writer's input in a step is the fused vector of the tokens of the step before. From what it gives, a linear map per
token layer makes the logits of its K tokens, and one more the stop decision.

Source: Tokotron of Mousavi et al. 2024, arXiv 2406.14294 (DASB): sizes, a transformer over characters, one over frames
that looks at it, L token streams in parallel, a gate that stops. Ours differs: the layers of a step are fused as the
project's fuser says (theirs are concatenated; ``--fusion concat`` does so too); places are rotations
(``blocks/rotary.py``) and not added sinusoids; the text is given places of the frames that its symbols last on average,
the position rate of Ping et al. 2018, Deep Voice 3, arXiv 1710.07654, section 3.3, so that text and frames run side by
side from the first step on, however long they are.

Whole texts may be hidden in training, so that the same network says what is likely with a text and without one: Ho and
Salimans 2022, Classifier-Free Diffusion Guidance, arXiv 2207.12598; on tokens of speech, Hussain et al. 2025, Koel-TTS,
arXiv 2502.05236.

Letters: B batch, T steps, L layers, K clusters, H width of a fused frame, N symbols of a text, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.tasks.blocks.rotary import Places, places_at
from pipeline.tasks.tts.attention import GrowingKept, Kept
from pipeline.tasks.tts.settings import TtsSettings
from pipeline.tasks.tts.transformer import ReadingLayer, WritingLayer

TEXT, TEXT_MASK, SPEAKERS = "text", "text_mask", "speakers"
"""Names in a micro-batch: symbols int64 (B, N), bool (B, N), and who speaks int64 (B,), absent where nobody asks."""
TEXT_END = 0
"""Symbol that ends a text, and all that is left of one that is hidden: the one that an alphabet keeps free, of CTC's
blank."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """What is written for each step.

    Attributes:
        logits: Of each layer, (B, T, K_l).
        stop: Logits of "this is the last frame", (B, T).
        attention: Mean weights of the symbols over heads and layers, float32 (B, T, N), 0 for texts that are hidden in
            training; None for single steps.
    """

    logits: Sequence[torch.Tensor]
    stop: torch.Tensor
    attention: torch.Tensor | None


@dataclass(kw_only=True, eq=False)
class WritingState:
    """Where single steps are.

    Attributes:
        texts: Keys and values of the text, for each layer of the writer.
        allowed: bool (B, 1, 1, N), real symbols.
        own: Keys and values of the steps so far, for each layer.
        speaker: What is added to each step, (B, 1, W); None where nobody is named.
        place: Of the next step.
    """

    texts: list[Kept]
    allowed: torch.Tensor
    own: list[GrowingKept]
    speaker: torch.Tensor | None
    place: int = 0

    def keep_rows(self, index: torch.Tensor) -> None:
        """Go on with some rows of the batch."""
        self.texts = [text.rows(index) for text in self.texts]
        self.allowed = self.allowed[index]
        self.speaker = None if self.speaker is None else self.speaker[index]
        for own in self.own:
            own.keep_rows(index)


class TtsModel(torch.nn.Module):
    """A reader of texts and a writer of tokens."""

    further = (TEXT, TEXT_MASK, SPEAKERS)
    """What of a micro-batch ``forward`` takes beside frames, where it is there."""

    def __init__(
        self,
        dim: int,
        settings: TtsSettings,
        *,
        num_symbols: int,
        num_clusters: Sequence[int],
        num_speakers: int,
        frames_per_symbol: float,
    ) -> None:
        """Make the network.

        Args:
            dim: Width of a fused frame (H).
            settings: Sizes.
            num_symbols: Symbols of the alphabet, that of a text's end among them.
            num_clusters: K of each layer (L).
            num_speakers: Speakers that it is told; 0 where nobody is named.
            frames_per_symbol: How long a symbol lasts on average, frames.
        """
        super().__init__()
        width = settings.tts_width
        self.frames_per_symbol, self._head_width = frames_per_symbol, width // settings.tts_heads
        self.symbols = torch.nn.Embedding(num_symbols, width)
        self.reader = torch.nn.ModuleList(ReadingLayer(settings) for _ in range(settings.text_layers))
        self.read_norm = torch.nn.LayerNorm(width)
        self.input = torch.nn.Linear(dim, width)
        self.target_dropout = torch.nn.Dropout(settings.target_dropout)
        self.hidden_frames, self.text_dropout = settings.hidden_frames, settings.text_dropout
        self.dropout = torch.nn.Dropout(settings.tts_dropout)
        self.begin = torch.nn.Parameter(0.02 * torch.randn(width))
        self.speakers = torch.nn.Embedding(num_speakers, width) if num_speakers else None
        self.writer = torch.nn.ModuleList(WritingLayer(settings) for _ in range(settings.token_layers))
        self.written_norm = torch.nn.LayerNorm(width)
        self.outputs = torch.nn.ModuleList(torch.nn.Linear(width, size) for size in num_clusters)
        self.stop = torch.nn.Linear(width, 1)

    def forward(
        self,
        fused: torch.Tensor,
        mask: torch.Tensor,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        speakers: torch.Tensor | None = None,
    ) -> Written:
        """Write each step from the true tokens of the steps before.

        Args:
            fused: (B, T, H); step t sees those before t.
            mask: bool (B, T); what is said of padded steps means nothing.
            text: int64 (B, N), a symbol or more in each row.
            text_mask: bool (B, N), its real symbols.
            speakers: int64 (B,), where the network has a table of them.
        """
        steps = torch.arange(fused.shape[1], device=fused.device)
        inputs = self._partly_hidden(self.target_dropout(self.input(fused[:, :-1])))
        x = torch.cat([self.begin.expand(len(fused), 1, -1).to(inputs.dtype), inputs], dim=1)
        speaker = self._speaker(speakers)
        x = self.dropout(x if speaker is None else x + speaker)
        text, text_mask, hidden = self._partly_untold(text, text_mask)
        before, places = steps[:, None] >= steps, self._places(steps)
        allowed = text_mask[:, None, None]
        attention: torch.Tensor | None = None
        for layer, kept in zip(self.writer, self._texts(text, text_mask), strict=True):
            x, weights = layer(x, places, before, kept, allowed)
            attention = weights if attention is None else attention + weights
        assert attention is not None
        # Nothing says where to look in a text that is hidden.
        return self._written(x, (attention / len(self.writer)).masked_fill(hidden.unsqueeze(-1), 0.0))

    def start(self, text: torch.Tensor, text_mask: torch.Tensor, speakers: torch.Tensor | None) -> WritingState:
        """Read texts, for single steps; see ``forward``."""
        return WritingState(
            texts=self._texts(text, text_mask),
            allowed=text_mask[:, None, None],
            own=[GrowingKept() for _ in self.writer],
            speaker=self._speaker(speakers),
        )

    def step(self, fused: torch.Tensor | None, state: WritingState) -> Written:
        """Write the next step, in evaluation mode.

        Args:
            fused: The step before, (B, H); None in the first step.
            state: Where the steps are; it moves on.

        Returns:
            Of one step (T = 1).
        """
        x = self.begin.expand(len(state.allowed), 1, -1) if fused is None else self.input(fused).unsqueeze(1)
        x = x if state.speaker is None else x + state.speaker
        place = self._places(torch.tensor([state.place], device=x.device))
        for layer, own, text in zip(self.writer, state.own, state.texts, strict=True):
            x = layer.step(x, place, own, text, state.allowed)  # type: ignore[operator]
        state.place += 1
        return self._written(x, None)

    def _texts(self, text: torch.Tensor, text_mask: torch.Tensor) -> list[Kept]:
        """Read texts and give their keys and values for each layer of the writer."""
        x = self.dropout(self.symbols(text))
        numbers = torch.arange(text.shape[1], device=text.device)
        places = self._places(numbers)
        for layer in self.reader:
            x = layer(x, places, text_mask[:, None, None])
        memory = self.read_norm(x)
        frames = self._places(numbers * self.frames_per_symbol)
        return [layer.text.keep(memory, frames) for layer in self.writer]  # type: ignore[union-attr,operator]

    def _partly_hidden(self, inputs: torch.Tensor) -> torch.Tensor:
        """Hide whole frames, in training."""
        if not self.training or not self.hidden_frames:
            return inputs
        hidden = torch.rand(*inputs.shape[:2], 1, device=inputs.device) < self.hidden_frames
        return inputs.masked_fill(hidden, 0.0)

    def _partly_untold(
        self, text: torch.Tensor, text_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hide whole texts, in training: what is left of one is its end. Gives which are hidden, bool (B, 1), too."""
        if not self.training or not self.text_dropout:
            return text, text_mask, torch.zeros(len(text), 1, dtype=torch.bool, device=text.device)
        hidden = torch.rand(len(text), 1, device=text.device) < self.text_dropout
        first = torch.arange(text.shape[1], device=text.device) == 0
        return text.masked_fill(hidden, TEXT_END), text_mask & (first | ~hidden), hidden

    def _places(self, numbers: torch.Tensor) -> Places:
        return places_at(numbers, self._head_width)

    def _speaker(self, speakers: torch.Tensor | None) -> torch.Tensor | None:
        return None if self.speakers is None or speakers is None else self.speakers(speakers).unsqueeze(1)

    def _written(self, x: torch.Tensor, attention: torch.Tensor | None) -> Written:
        x = self.written_norm(x)
        logits = [output(x).float() for output in self.outputs]
        return Written(logits=logits, stop=self.stop(x).squeeze(-1).float(), attention=attention)
