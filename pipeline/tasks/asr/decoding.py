"""From log-probabilities to texts: greedily, or by a beam with or without a word language model.

Letters: B batch, T frames, V symbols with the blank.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import SettingsError
from pipeline.tasks.asr.settings import DecodingSettings
from pipeline.tasks.asr.text import Alphabet


def greedy(log_probs: torch.Tensor, lengths: torch.Tensor, alphabet: Alphabet) -> list[str]:
    """Take the likeliest symbol of each frame, merge repeats, leave blanks out.

    Args:
        log_probs: (B, T, V).
        lengths: int64 (B,).
        alphabet: V symbols.

    Returns:
        B texts; an utterance of blanks alone gives the empty one.
    """
    best = log_probs.argmax(dim=-1).tolist()
    rows = zip(best, lengths.tolist(), strict=True)
    return [alphabet.decode(number for number, _ in groupby(row[:length])) for row, length in rows]


class BeamDecoder:
    """Beam search by ``ctc-beam-decoder``; without a language model it found nothing that greedy decoding did not."""

    def __init__(self, alphabet: Alphabet, settings: DecodingSettings) -> None:
        """Load the decoder.

        Args:
            alphabet: V symbols.
            settings: Width of the beam, language model and weights.

        Raises:
            SettingsError: The library is not installed, or the language model cannot be read.
        """
        try:
            from ctc_beam_decoder import build_ctcdecoder
        except ImportError as error:
            install = 'pip install "strata-tokens[evaluate]"'
            raise SettingsError(f"a beam needs ctc-beam-decoder; install it with: {install}") from error
        path = settings.language_model
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"there is no language model at {path}; give an ARPA or KenLM file")
        try:
            self._decoder: Any = build_ctcdecoder(
                list(alphabet.symbols), path, alpha=settings.lm_weight, beta=settings.word_bonus
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise SettingsError(f"the beam decoder cannot be made: {error}") from error
        self._alphabet, self._settings = alphabet, settings

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """Give B texts of log-probabilities (B, T, V) and lengths (B,)."""
        rows = log_probs.float().cpu().numpy()
        return [self._decode(row[:length]) for row, length in zip(rows, lengths.tolist(), strict=True)]

    def _decode(self, row: Any) -> str:
        if not len(row):
            return ""
        text: str = self._decoder.decode(
            row,
            beam_width=self._settings.beam_width,
            beam_prune_logp=-self._settings.beam_prune,
            token_min_logp=-self._settings.token_prune,
        )
        return " ".join(text.split())


def decode(
    log_probs: torch.Tensor, lengths: torch.Tensor, alphabet: Alphabet, beam: BeamDecoder | None = None
) -> Sequence[str]:
    """Give B texts, by the beam where there is one, else greedily."""
    return greedy(log_probs, lengths, alphabet) if beam is None else beam(log_probs, lengths)
