"""Long inputs in pieces: each hears the frames around it, so that the parts join without a seam.

A vocoder's samples depend on ``context_frames`` to each side and on no more. Memory follows from the piece, and not
from the utterance. Letters: T frames, L layers, S width of a speaker vector.
"""

from collections.abc import Iterator

import torch

from pipeline.vocoder.network import Vocoder

PIECE_FRAMES = 1000


def spoken_pieces(
    vocoder: Vocoder,
    tokens: torch.Tensor,
    present: torch.Tensor | None = None,
    speaker: torch.Tensor | None = None,
    *,
    piece_frames: int = PIECE_FRAMES,
) -> Iterator[torch.Tensor]:
    """Speak one utterance piece by piece.

    Args:
        vocoder: In ``eval()``.
        tokens: Integers (T, L).
        present: bool (L,), the layers that are there; None: all.
        speaker: float (S,), or an int64 scalar; None where the vocoder has one voice.
        piece_frames: Frames in one piece, its context not counted.

    Yields:
        float (hop * frames of the piece), on the device of the tokens; joined they are the whole within rounding.

    Raises:
        ValueError: As ``Vocoder.forward``, or ``piece_frames`` is below 1.
    """
    if piece_frames < 1:
        raise ValueError(f"piece_frames must be at least 1, got {piece_frames}")
    hop, context, total = vocoder.hop_length, vocoder.context_frames, len(tokens)
    voice = None if speaker is None else speaker.unsqueeze(0)
    for start in range(0, total, piece_frames):
        end = min(start + piece_frames, total)
        heard = slice(max(0, start - context), min(total, end + context))
        piece = tokens[heard].unsqueeze(0)
        with torch.inference_mode():
            mask = torch.ones(piece.shape[:2], dtype=torch.bool, device=tokens.device)
            waveform = vocoder(piece, mask, present, voice)[0]
        first = (start - heard.start) * hop
        yield waveform[first : first + (end - start) * hop].clone()


def speak_in_pieces(
    vocoder: Vocoder,
    tokens: torch.Tensor,
    present: torch.Tensor | None = None,
    speaker: torch.Tensor | None = None,
    *,
    piece_frames: int = PIECE_FRAMES,
) -> torch.Tensor:
    """Speak one utterance of any length; as ``spoken_pieces``, joined: float32 (hop * T) on the CPU."""
    waveform = torch.empty(len(tokens) * vocoder.hop_length)
    begin = 0
    for piece in spoken_pieces(vocoder, tokens, present, speaker, piece_frames=piece_frames):
        waveform[begin : begin + len(piece)] = piece
        begin += len(piece)
    return waveform
