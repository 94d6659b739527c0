"""Pieces of a sequence hear what is around them, and their own frames are all frames, each once."""

import pytest

from pipeline.batches.overlapping import heard_pieces


@pytest.mark.parametrize("piece_frames", [1, 3, 10, 11])
@pytest.mark.parametrize("context", [0, 2, 20])
def test_own_frames_are_all_frames_once_and_hear_the_context_that_there_is(piece_frames, context):
    frames = list(range(10))
    found = []
    for piece in heard_pieces(10, piece_frames, context):
        heard = frames[piece.heard]
        own = heard[piece.own]
        assert len(own) <= piece_frames
        assert heard == [frame for frame in frames if own[0] - context <= frame <= own[-1] + context]
        found += own
    assert found == frames


def test_nothing_has_no_piece_and_pieces_have_a_frame():
    assert list(heard_pieces(0, 5, 2)) == []
    with pytest.raises(ValueError, match="piece_frames must be at least 1, got 0"):
        list(heard_pieces(5, 0, 2))
