"""Micro-batches of a vocoder: samples belong to their frames, short crops are padded, layers are dropped by key."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_tokens import CLOCK, write_corpus_of_tones
from made_vocoder_training import COLUMNS, vocoder_config

from pipeline.batches.sides import TRAIN, VALIDATION
from pipeline.errors import DatasetError
from pipeline.vocoder.training.source import VocoderSource
from pipeline.vocoder.training.stage import prepare

HOP = 320
# Ends of recordings within a hop: 0, 80 and 319 samples beyond it.
SECONDS = [0.22, 0.31, 0.33, 0.9, 1.3, 1.6, 0.245, 1.519_937_5, *np.linspace(0.25, 2.0, 16).round(4)]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocoder_source")
    made = write_corpus_of_tones(folder, SECONDS, columns=COLUMNS)
    return folder, {one.utterance_id: one for one in made}


def data_of(folder, output, **changes):
    return prepare(vocoder_config(folder, output, **changes)).recipe.data


@pytest.fixture
def opened(speech, tmp_path):
    found = []

    def opened(**changes):
        found.append(VocoderSource(data_of(speech[0], tmp_path / "out", **changes)))
        return found[-1]

    yield opened
    for source in found:
        source.close()


def tickets(source, count):
    return [ticket for ticket, _ in itertools.islice(source.tickets(None), count)]


def rows(source, ticket, step):
    """Give the utterance, tokens and samples of each row without its padding."""
    batch = source.load(ticket, step)
    for place, piece in enumerate(ticket.pieces):
        length = int(batch["frames_lengths"][place])
        yield piece.utterance_id, batch["frames"][place, :length].numpy(), batch["waveform"][place].numpy(), length


def test_the_samples_of_a_crop_are_those_of_its_frames(speech, opened):
    made, source = speech[1], opened()
    heard = set()
    for step, ticket in enumerate(tickets(source, 12)):
        for name, tokens, waveform, length in rows(source, ticket, step):
            recorded = np.rint(made[name].waveform * 32768) / 32768
            # Where the samples are found in the recording says where the crop begins.
            begins = np.lib.stride_tricks.sliding_window_view(recorded, 64)
            first = int(np.abs(begins - waveform[:64]).max(axis=1).argmin())
            assert first % HOP == 0
            assert np.allclose(recorded[first : first + length * HOP], waveform[: length * HOP], atol=5e-5)
            wanted = made[name].tokens[first // HOP :][:length]
            for place in range(len(COLUMNS)):
                assert np.array_equal(tokens[:, place], (wanted + place) % 8)
            heard.add((name, first))
    assert len({first for _, first in heard}) > 5


def test_recordings_of_another_rate_stay_with_their_tokens(tmp_path):
    write_corpus_of_tones(tmp_path, [1.1, 1.7, 2.3, 1.4, 1.9, 2.1], columns=COLUMNS, rates=(22_050, 44_100))
    source, right = VocoderSource(data_of(tmp_path, tmp_path / "out", valid_fraction=0.0, test_fraction=0.0)), []
    for step, ticket in enumerate(tickets(source, 4)):
        for _, tokens, waveform, length in rows(source, ticket, step):
            spectrum = np.abs(np.fft.rfft(waveform[: length * HOP].reshape(length, HOP) * np.hanning(HOP), 4096))
            tone = np.rint((spectrum.argmax(axis=1) * 16_000 / 4096 - 250) / 400)
            right += (tone == tokens[:, 0]).tolist()
    source.close()
    assert np.mean(right) > 0.9


def test_a_short_utterance_is_padded_with_zeros_masked_and_never_repeated(speech, opened):
    made, source = speech[1], opened(valid_fraction=0.0, test_fraction=0.0)
    padded = 0
    for step, ticket in enumerate(tickets(source, 12)):
        batch = source.load(ticket, step)
        assert batch["waveform"].shape == (len(ticket.pieces), HOP * batch["frames"].shape[1])
        for place, piece in enumerate(ticket.pieces):
            length = int(batch["frames_lengths"][place])
            whole = len(made[piece.utterance_id].tokens)
            assert length == min(whole, CLOCK.of_hops.num_frames(8000))
            assert batch["frames_mask"][place].tolist() == [frame < length for frame in range(batch["frames"].shape[1])]
            assert not batch["waveform"][place, length * HOP :].any()
            assert not batch["frames"][place, length:].any()
            padded += length < batch["frames"].shape[1]
    assert padded > 0


def test_an_utterance_of_too_few_frames_is_left_out_and_counted(speech, opened):
    cursor = next(iter(opened(min_frames=15, valid_fraction=0.0, test_fraction=0.0).tickets(None)))[1]
    assert cursor["too_short"] == sum(len(one.tokens) < 15 for one in speech[1].values())


def test_layers_are_dropped_by_utterance_and_step_alone(speech, opened, tmp_path):
    source, again = opened(), opened(batch_seconds=30.0)
    by_key = {}
    for step, ticket in enumerate(tickets(source, 12)):
        batch = source.load(ticket, step)
        assert torch.equal(source.load(ticket, step)["present"], batch["present"])
        assert bool(batch["present"].any(dim=1).all())
        by_key |= {(piece.key, step): present for piece, present in zip(ticket.pieces, batch["present"], strict=True)}
    assert len({tuple(present.tolist()) for present in by_key.values()}) == 7
    other = tickets(again, 1)[0]
    for step in range(12):
        for piece, present in zip(other.pieces, again.load(other, step)["present"], strict=True):
            assert torch.equal(present, by_key.get((piece.key, step), present))
    whole = opened(layer_dropout=False)
    assert bool(whole.load(tickets(whole, 1)[0], 0)["present"].all())


def test_validation_hears_every_layer_of_the_same_crops(speech, opened):
    first, second = opened(), opened()
    found = [source.validation()[VALIDATION] for source in (first, second)]
    assert [ticket.key for ticket in found[0]] == [ticket.key for ticket in found[1]]
    for ours, theirs in zip(*found, strict=True):
        one, other = first.load(ours, -1), second.load(theirs, -1)
        assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
        assert bool(one["present"].all())
        assert not bool(one["judged"])


def test_sides_are_drawn_by_hash_within_the_splits_that_are_used(tmp_path):
    labels = {f"u{number:03d}": {"split": "train" if number % 2 else "dev"} for number in range(40)}
    write_corpus_of_tones(tmp_path, [0.4] * 40, columns=COLUMNS, labels=labels)
    sides = data_of(tmp_path, tmp_path / "out", splits=("train",)).sides
    found = {name: sides.side(name, label) for name, label in labels.items()}
    assert {found[name] for name, label in labels.items() if label["split"] == "dev"} == {None}
    assert {side for side in found.values() if side} == {TRAIN, VALIDATION, "test"}
    seeded = data_of(tmp_path, tmp_path / "out", splits=("train",), split_seed=1).sides
    assert {name: seeded.side(name, label) for name, label in labels.items()} != found
    trained = data_of(tmp_path, tmp_path / "out", splits=("train",), seed=1).sides
    assert {name: trained.side(name, label) for name, label in labels.items()} == found


def test_the_discriminators_have_a_part_from_their_step_on(speech, opened):
    source = opened()
    ticket = tickets(source, 1)[0]
    assert [bool(source.load(ticket, step)["judged"]) for step in range(4)] == [False, False, True, True]


def test_a_recording_of_other_frames_than_its_tokens_is_refused(speech, opened):
    source = opened()
    ticket = tickets(source, 1)[0]
    piece = ticket.pieces[0]
    for frames in (piece.num_frames - 2, piece.num_frames + 2):
        tokens = np.zeros((frames, 3), np.uint16)
        changed = replace(piece, num_frames=frames, tokens=tokens)
        odd = replace(ticket, pieces=(changed,), lengths=(10,), speeds=(1.0,))
        with pytest.raises(DatasetError, match=f"has {frames} tokens, and"):
            source.load(odd, 0)
