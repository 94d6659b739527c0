"""Micro-batches: the same on every worker and in every run, every utterance once an epoch, none of those validated."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from made_tokens import CLOCK, data_settings, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.batches.sides import share
from pipeline.errors import DatasetError
from pipeline.pretraining.model import MASKED, UNMASKED
from pipeline.pretraining.recipe import PretrainRecipe
from pipeline.pretraining.source import TokenSource
from pipeline.training.settings import OptimizerSettings

SECONDS = [0.1, 0.3, *np.linspace(0.4, 2.5, 28).tolist(), 64.0]
POOLS = sum(SECONDS) / 3600 / 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """31 utterances in 8 shards, two of them shorter than ten frames or near it, one of 64 s."""
    root = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(root, SECONDS, columns=("layer_00", "layer_03"), rates=(16_000, 8_000))
    return root


@pytest.fixture
def source(folder):
    """Opens sources of the corpus; three pools an epoch."""
    opened = []

    def open_one(**settings):
        opened.append(TokenSource(data_settings(folder, shuffle_hours=POOLS, **settings)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def epochs(source, count=1, cursor=None):
    """Give the tickets of whole epochs."""
    found = []
    for ticket, after in source.tickets(cursor):
        if after["epoch"] >= count:
            return found
        found.append((ticket, after))


def keys(tickets):
    return [piece.key for ticket in tickets for piece in ticket.pieces]


def plain(ticket):
    """Give what tells tickets apart, tokens left out."""
    return ticket.key, keys([ticket]), ticket.speeds, ticket.num_frames, ticket.training


AUGMENTED = {"speed_range": 0.2, "speed_probability": 0.7}


def test_a_micro_batch_is_the_same_on_two_workers(source):
    one, other = source(**AUGMENTED), source(**AUGMENTED)
    first, second = (list(islice(each.tickets(None), 12)) for each in (one, other))
    assert [plain(ticket) for ticket, _ in first] == [plain(ticket) for ticket, _ in second]
    # The other one loads in another order, with other things in its cache.
    loaded = {ticket.key: other.load(ticket, 7) for ticket, _ in reversed(second)}
    for ticket, _ in first:
        for name, tensor in one.load(ticket, 7).items():
            assert torch.equal(tensor, loaded[ticket.key][name]), name


def test_another_seed_or_step_gives_other_micro_batches(source):
    one, other = source(), source(seed=1)
    tickets = [ticket for ticket, _ in islice(one.tickets(None), 10)]
    assert [plain(ticket) for ticket in tickets] != [plain(ticket) for ticket, _ in islice(other.tickets(None), 10)]
    long = next(ticket for ticket in tickets if ticket.num_frames == 49 and len(ticket.pieces) > 1)
    first, again, later = (one.load(long, step) for step in (3, 3, 4))
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert not torch.equal(first["mask"], later["mask"])
    assert len({row.numpy().tobytes() for row in first["mask"]}) == len(long.pieces)
    reseeded = other.load(long, 3)
    assert not torch.equal(first["mask"], reseeded["mask"])
    assert not torch.equal(first["waveform"], reseeded["waveform"])
    assert not torch.equal(first["waveform"], later["waveform"])


def test_every_utterance_that_is_not_validated_comes_once_an_epoch(source, folder):
    one = source(**AUGMENTED)
    found = epochs(one, 3)
    long_enough = [n for n, seconds in enumerate(SECONDS) if CLOCK.num_frames(int(seconds * 16_000)) >= 10]
    trained = {f"u{n:03d}" for n in long_enough if share(0, f"u{n:03d}") >= 0.25}
    assert 15 < len(trained) < 28
    for epoch in range(3):
        own = Counter(keys(ticket for ticket, _ in found if ticket.key.startswith(f"{epoch}/")))
        assert set(own.values()) == {1}
        assert {key.split("@")[0] for key in own} == trained
    orders = [keys(ticket for ticket, _ in found if ticket.key.startswith(f"{epoch}/")) for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    ticket_keys = [ticket.key for ticket, _ in found]
    assert len(set(ticket_keys)) == len(ticket_keys)
    assert {key.split("/")[1] for key in ticket_keys} == {"0", "1", "2"}


def test_validation_is_always_the_same_and_never_trained_on(source):
    one = source(**AUGMENTED)
    held = one.validation()["validation"]
    assert [plain(ticket) for ticket in held] == [
        plain(ticket) for ticket in source(**AUGMENTED).validation()["validation"]
    ]
    validated = {key.split("@")[0] for key in keys(held)}
    expected = {f"u{n:03d}" for n in range(len(SECONDS)) if share(0, f"u{n:03d}") < 0.25 and SECONDS[n] > 0.25}
    assert validated == expected != set()
    assert validated & {key.split("@")[0] for key in keys(ticket for ticket, _ in epochs(one, 2))} == set()
    assert not any(ticket.training for ticket in held)
    assert {speed for ticket in held for speed in ticket.speeds} == {1.0}


def test_validation_takes_no_more_audio_than_asked_and_can_be_nothing(source):
    settings = {"valid_fraction": 0.9, "crop_seconds": 0.5}
    seconds = [
        sum(
            ticket.num_frames * len(ticket.pieces) / 50
            for ticket in source(valid_minutes=minutes, **settings).validation()["validation"]
        )
        for minutes in (0.02, 10.0)
    ]
    # A shard of four at a time.
    assert seconds[0] < 1.2 + 4 * 0.5 < seconds[1]
    assert source(valid_fraction=0.0).validation() == {}


def test_validation_does_not_depend_on_augmentation_or_on_what_was_loaded(source):
    one, other = source(**AUGMENTED), source()
    for ticket in other.validation()["validation"][::-1]:
        other.load(ticket, 5)
    pairs = zip(one.validation()["validation"], other.validation()["validation"], strict=True)
    for ticket, same in pairs:
        mine, theirs = one.load(ticket, -1), other.load(same, -1)
        assert all(torch.equal(theirs[name], tensor) for name, tensor in mine.items())


@pytest.mark.parametrize("place", [0, 1, 9, 30, 70])
def test_a_cursor_goes_on_exactly_where_it_was(source, place):
    one = source(**AUGMENTED)
    run = list(islice(one.tickets(None), place + 40))
    assert run[-1][1]["epoch"] >= 1
    cursor = run[place][1]
    again = list(islice(source(**AUGMENTED).tickets(cursor), 39))
    assert [plain(ticket) for ticket, _ in again] == [plain(ticket) for ticket, _ in run[place + 1 :]]
    assert [after for _, after in again] == [after for _, after in run[place + 1 :]]


def test_too_short_utterances_are_counted_once_and_left_out(source):
    one = source(valid_fraction=0.0)
    found = epochs(one, 2)
    # 0.1 s has 4 frames, 0.3 s has 14, 0.4 s has 19.
    assert found[-1][1]["too_short"] == 1
    assert "u000@0" not in keys(ticket for ticket, _ in found)
    assert "u001@0" in keys(ticket for ticket, _ in found)
    stricter = source(valid_fraction=0.0, min_frames=16)
    assert epochs(stricter, 2)[-1][1]["too_short"] == 2


@pytest.mark.parametrize("settings", [{"min_frames": 5000}, {"valid_fraction": 0.9999}])
def test_a_corpus_with_nothing_to_train_on_is_refused_and_not_searched_for_ever(source, settings):
    with pytest.raises(DatasetError, match="nothing to train on"):
        next(source(**settings).tickets(None))


def recipe_of(source):
    """Give the recipe whose data these are."""
    how = {"shape": "small", "init": None, "revision": None, "head": "linear", "optimizer": OptimizerSettings()}
    how |= {"dropout": 0.0, "layerdrop": 0.0, "unmasked_weight": 0.0}
    return PretrainRecipe(data=source._settings, num_clusters=(8, 8), **how)


def test_a_micro_batch_has_the_shapes_and_counts_that_the_loop_needs(source):
    one = source(columns=("layer_00", "layer_03"))
    for ticket, _ in islice(one.tickets(None), 10):
        found = one.load(ticket, 0)
        rows, frames = len(ticket.pieces), ticket.num_frames
        assert found["waveform"].shape == (rows, CLOCK.num_samples(frames))
        assert found["waveform"].dtype == torch.float32
        assert found["targets"].shape == (rows, frames, 2)
        assert found["targets"].dtype == torch.int64
        assert torch.equal((found["targets"][..., 0] + 1) % 8, found["targets"][..., 1])
        assert found["mask"].shape == (rows, frames)
        recipe = recipe_of(one)
        counts = recipe.counts("model", found)
        assert counts[MASKED] == found["mask"].numpy().sum()
        assert counts[MASKED] + counts[UNMASKED] == rows * frames
        assert recipe.amount(found) == pytest.approx(rows * CLOCK.num_samples(frames) / 16_000)
        assert rows * CLOCK.num_samples(frames) <= 64_000 or rows == 1
        assert frames <= 49


@pytest.mark.parametrize("speed", [{}, {"speed_range": 0.3, "speed_probability": 1.0}])
def test_targets_are_the_tones_that_the_waveform_has_then(source, speed):
    """The tone in the middle of each frame, by its spectrum, divided by the speed at which it is played."""
    one = source(max_samples=1, **speed)
    right = []
    for ticket, _ in islice(one.tickets(None), 20):
        found = one.load(ticket, 0)
        waveform, targets = found["waveform"][0].numpy(), found["targets"][0, :, 0].numpy()
        frames = np.stack([waveform[t * CLOCK.hop_length :][: CLOCK.receptive_field] for t in range(len(targets))])
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(CLOCK.receptive_field), 4096, axis=1))
        peak = spectrum.argmax(axis=1) * 16_000 / 4096 / ticket.speeds[0]
        right += (np.abs(peak - 250 - 400 * targets) < 100).tolist()
    assert len(right) > 300
    assert np.mean(right) > 0.93


def test_noise_and_rooms_change_the_waveform_and_no_target(folder, tmp_path, source):
    made = write_corpus_of_tones(tmp_path, [0.7, 1.1], seed=9)
    heard = str(tmp_path / "manifest")
    loud = source(noise=heard, noise_probability=1.0, rooms=heard, room_probability=1.0)
    quiet = source(noise=heard, noise_probability=0.0)
    assert len(made) == 2
    ticket, _ = next(loud.tickets(None))
    mine, theirs = loud.load(ticket, 0), quiet.load(ticket, 0)
    assert torch.equal(mine["targets"], theirs["targets"])
    assert torch.equal(mine["mask"], theirs["mask"])
    assert not torch.allclose(mine["waveform"], theirs["waveform"], atol=0.1)
    powers = [found["waveform"].pow(2).mean(dim=1) for found in (mine, theirs)]
    torch.testing.assert_close(powers[0], powers[1], rtol=1e-3, atol=1e-5)
    (held, *_) = loud.validation()["validation"]
    assert torch.equal(loud.load(held, -1)["waveform"], quiet.load(held, -1)["waveform"])


def test_an_utterance_without_frames_is_no_obstacle(tmp_path):
    made = write_corpus_of_tones(tmp_path / "first", [0.6, 0.8])
    made[0] = replace(made[0], tokens=made[0].tokens[:0])
    write_manifest(tmp_path / "manifest", made)
    write_tokens(tmp_path / "tokens", made)
    one = TokenSource(data_settings(tmp_path, valid_fraction=0.0))
    found = epochs(one)
    assert keys(ticket for ticket, _ in found) == ["u001@0"]
    assert found[-1][1]["too_short"] == 1
    one.close()
