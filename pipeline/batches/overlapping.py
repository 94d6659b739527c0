"""Long inputs in pieces: each hears frames on both sides, so that the parts join without a seam."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HeardPiece:
    """A piece of a sequence.

    Attributes:
        heard: Its frames and those around them.
        own: Its own frames, counted within those heard.
    """

    heard: slice
    own: slice


def heard_pieces(num_frames: int, piece_frames: int, context: int) -> Iterator[HeardPiece]:
    """Cut a sequence.

    Args:
        num_frames: Its length.
        piece_frames: Frames of a piece, its context not counted; the last one may be shorter.
        context: Frames to each side that what a network gives of a frame may depend on.

    Raises:
        ValueError: ``piece_frames`` is below 1.
    """
    if piece_frames < 1:
        raise ValueError(f"piece_frames must be at least 1, got {piece_frames}")
    for start in range(0, num_frames, piece_frames):
        end = min(start + piece_frames, num_frames)
        first = max(0, start - context)
        yield HeardPiece(heard=slice(first, min(num_frames, end + context)), own=slice(start - first, end - first))
