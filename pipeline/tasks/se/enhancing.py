"""Clean tokens of noisy ones, of any length: long inputs in overlapping pieces, which join without a seam.

A frame's logits depend on ``context_frames`` to each side and on no more (``blocks/conformer.py``), so a piece that
hears as many frames more on both sides gives the logits of the whole within rounding. Memory follows from the piece:
``piece_frames`` plus twice the context, whatever the input's length.

Letters: T frames, C layers of the input, L target layers, K clusters of a layer.
"""

from collections.abc import Iterator

import torch

from pipeline.batches.overlapping import heard_pieces
from pipeline.tasks.recipe import TaskModel

PIECE_FRAMES = 3000


def enhanced_pieces(
    model: TaskModel, tokens: torch.Tensor, *, piece_frames: int = PIECE_FRAMES
) -> Iterator[list[torch.Tensor]]:
    """Give the logits of one utterance piece by piece.

    Args:
        model: A fuser with an ``SeModel``, in ``eval()``.
        tokens: Integers (T, C), on the device of the model.
        piece_frames: Frames in one piece, its context not counted.

    Yields:
        float32 (frames of the piece, K) of each target layer (L).

    Raises:
        ValueError: A token is none of its codebook's, or ``piece_frames`` is below 1.
    """
    context = int(model.head.context_frames)  # type: ignore[arg-type]
    for cut in heard_pieces(len(tokens), piece_frames, context):
        piece = tokens[cut.heard].unsqueeze(0)
        mask = torch.ones(piece.shape[:2], dtype=torch.bool, device=tokens.device)
        with torch.inference_mode():
            logits = model.head(model.fuser(piece, mask).values, mask)
        yield [each[0, cut.own] for each in logits]


def enhance_tokens(model: TaskModel, tokens: torch.Tensor, *, piece_frames: int = PIECE_FRAMES) -> torch.Tensor:
    """Give the likeliest clean tokens of one utterance of any length, int64 (T, L); see ``enhanced_pieces``."""
    found = [
        torch.stack([each.argmax(dim=-1) for each in logits], dim=-1)
        for logits in enhanced_pieces(model, tokens, piece_frames=piece_frames)
    ]
    if not found:
        return torch.zeros((0, len(model.head.outputs)), dtype=torch.int64, device=tokens.device)  # type: ignore[arg-type]
    return torch.cat(found)
