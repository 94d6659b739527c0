"""What the tasks and the vocoder draw: text with tokens, voices in crops, one speaker left out, hops of samples."""

import numpy as np
import pytest
import torch
from made_tokens import CLOCK, write_corpus_of_tones

from pipeline.audio.loading import Manifest
from pipeline.batches.collate import pad_rows
from pipeline.batches.cropping import crop_piece
from pipeline.batches.pieces import PieceSettings
from pipeline.batches.pools import Pools, PoolSettings
from pipeline.batches.sides import TRAIN, ByColumn, ByHash, leave_one_out
from pipeline.batches.survey import Wanted, survey
from pipeline.batches.utterances import Utterances
from pipeline.seeds import rng

COLUMNS = ("layer_00", "layer_03")
SECONDS = [0.6 + 0.11 * number for number in range(24)]
LABELS = {
    f"u{number:03d}": {
        "text": "abc"[: 1 + number % 3] * 2,
        "speaker": f"s{number % 4}",
        "emotion": ("calm", "sad", "glad")[number % 3],
        "split": "train" if number < 18 else "test",
    }
    for number in range(24)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    write_corpus_of_tones(root, SECONDS, columns=COLUMNS, labels=LABELS)
    return root


def pools_of(folder, sides, labels, **settings):
    pieces = PieceSettings(
        manifest=str(folder / "manifest"), clock=CLOCK, tokens=str(folder / "tokens"), columns=COLUMNS, labels=labels
    )
    given = {"seed": 0, "shuffle_hours": 1.0, "max_samples": 16 * 16_000, "longest": 800}
    return Pools(Utterances(pieces), sides, PoolSettings(**given | settings))


def epoch(pools):
    found = []
    for ticket, after in pools.tickets(None):
        if after["epoch"]:
            return found
        found.append(ticket)


def test_recognition_gets_all_tokens_of_an_utterance_with_all_of_its_text_and_ctc_takes_them(folder):
    sides = ByColumn(column="split", values={TRAIN: ("train",), "test": ("test",)})
    pools = pools_of(folder, sides, ("text", "split"), pad=True, needed=("text",))
    seen = 0
    for ticket in (*epoch(pools), *pools.held_out("test").tickets):
        tokens = pad_rows([piece.tokens for piece in ticket.pieces]).tensors("tokens")
        text = pad_rows([np.array([1 + "abc".index(c) for c in piece.labels["text"]]) for piece in ticket.pieces])
        for row, piece in enumerate(ticket.pieces):
            number = int(piece.utterance_id[1:])
            assert tokens["tokens_lengths"][row] == CLOCK.num_frames(int(SECONDS[number] * 16_000))
            assert text.lengths[row] == len(LABELS[piece.utterance_id]["text"])
        scores = torch.nn.functional.one_hot(tokens["tokens"][..., 0], 8).float().log_softmax(dim=2)
        loss = torch.nn.functional.ctc_loss(
            scores.transpose(0, 1),
            torch.from_numpy(text.values),
            tokens["tokens_lengths"],
            torch.from_numpy(text.lengths),
        )
        assert torch.isfinite(loss)
        seen += len(ticket.pieces)
    assert seen == 24


def speakers_of(folder, sides):
    """Give the speakers of training."""
    _, facts = survey(Manifest(str(folder / "manifest")), sides, Wanted(classes=["speaker"]))
    return facts[TRAIN].values["speaker"]


def test_speaker_recognition_gets_crops_of_one_length_and_class_numbers(folder):
    sides = ByHash(seed=0, shares={"validation": 0.1})
    classes = speakers_of(folder, sides)
    pools = pools_of(folder, sides, ("speaker",), longest=50, min_frames=20, needed=("speaker",))
    for ticket in epoch(pools):
        frames = ticket.num_frames
        rows = [
            crop_piece(piece, None, clock=CLOCK, num_frames=frames, rng=rng(0, "crop", piece.key, 7)).tokens
            for piece in ticket.pieces
        ]
        assert np.stack(rows).shape == (len(ticket.pieces), frames, 2)
        assert frames <= 50
        for piece in ticket.pieces:
            assert classes.number(piece.labels["speaker"]) == int(piece.utterance_id[1:]) % 4


def test_emotions_are_learned_without_the_speaker_who_is_tested(folder):
    speakers = speakers_of(folder, ByHash(seed=0))
    folds = leave_one_out("speaker", speakers.values, rest=ByHash(seed=0, shares={"validation": 0.2}))
    assert len(folds) == 4
    tested = []
    for speaker, sides in folds.items():
        pools = pools_of(folder, sides, ("emotion", "speaker"), pad=True, needed=("emotion",))
        heard = {piece.labels["speaker"] for ticket in epoch(pools) for piece in ticket.pieces}
        assert heard == set(speakers.values) - {speaker}
        tested += [piece.utterance_id for ticket in pools.held_out("test").tickets for piece in ticket.pieces]
    assert sorted(tested) == sorted(LABELS)


def test_a_micro_batch_of_crops_for_a_vocoder_has_one_length_of_frames_and_samples(folder):
    pools = pools_of(folder, ByHash(seed=0), (), longest=28, min_frames=28)
    tickets = epoch(pools)
    assert {ticket.num_frames for ticket in tickets} == {28}
    hops = CLOCK.of_hops
    waveform = np.arange(CLOCK.num_samples(400), dtype=np.float32)
    for ticket in tickets:
        for piece in ticket.pieces:
            found = crop_piece(piece, waveform, clock=hops, num_frames=28, rng=rng(0, piece.key))
            assert found.waveform[0] == 320 * found.first_frame
            assert (found.tokens.shape, found.waveform.shape) == ((28, 2), (8_960,))
    assert sum(len(ticket.pieces) for ticket in tickets) == 24
