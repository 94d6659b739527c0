"""Long inputs in pieces: each hears the frames around it, so that the parts join without a seam.

A vocoder's samples depend on ``context_frames`` to each side and on no more. Memory follows from the piece, and not
from the utterance. Letters: T frames, L layers, S width of a speaker vector.
"""

from collections.abc import Iterator

import torch

from pipeline.batches.overlapping import heard_pieces
from pipeline.vocoder.duration import CONTEXT_RUNS, expand, runs_of, whole_durations
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
    hop = vocoder.hop_length
    voice = None if speaker is None else speaker.unsqueeze(0)
    for each in heard_pieces(len(tokens), piece_frames, vocoder.context_frames):
        piece = tokens[each.heard].unsqueeze(0)
        with torch.inference_mode():
            mask = torch.ones(piece.shape[:2], dtype=torch.bool, device=tokens.device)
            waveform = vocoder(piece, mask, present, voice)[0]
        yield waveform[each.own.start * hop : each.own.stop * hop].clone()


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


def with_predicted_durations(
    vocoder: Vocoder,
    tokens: torch.Tensor,
    present: torch.Tensor | None = None,
    speaker: torch.Tensor | None = None,
    *,
    piece_frames: int = PIECE_FRAMES,
) -> torch.Tensor:
    """Let each run of equal tokens last as long as the vocoder predicts; as ``spoken_pieces``, for durations.

    Args:
        vocoder: In ``eval()``, with a duration predictor.
        tokens: Integers (T, L), of every frame or of each run once: both give the same.
        present: bool (L,), the layers that are there, whose changes end a run; None: all.
        speaker: As in ``spoken_pieces``.
        piece_frames: Runs that are looked at together.

    Returns:
        int64 (T', L), on the device of the tokens.

    Raises:
        ValueError: As ``Vocoder.log_durations``.
    """
    everything = torch.ones((1, len(tokens)), dtype=torch.bool, device=tokens.device)
    runs_UL = runs_of(tokens.unsqueeze(0), everything, present).tokens[0]
    voice = None if speaker is None else speaker.unsqueeze(0)
    lasts = []
    for each in heard_pieces(len(runs_UL), piece_frames, CONTEXT_RUNS):
        piece = runs_UL[each.heard].unsqueeze(0)
        with torch.inference_mode():
            mask = torch.ones(piece.shape[:2], dtype=torch.bool, device=tokens.device)
            found = whole_durations(vocoder.log_durations(piece, mask, present, voice), mask)[0]
        lasts.append(found[each.own])
    every_run = torch.ones((1, len(runs_UL)), dtype=torch.bool, device=tokens.device)
    return expand(runs_UL.unsqueeze(0), torch.cat(lasts).unsqueeze(0), every_run)[0][0]
