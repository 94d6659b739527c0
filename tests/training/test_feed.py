"""Loading beside training: each worker's share of each step in order, a bounded number ahead, faults told, an end."""

import threading
import time

import pytest
import torch
from made_training import NoiseRecipe

from pipeline.training.feed import Feed


class Counting:
    """A source that counts what was loaded, and can wait or fail."""

    def __init__(self, source, wait=None, fault=None):
        self._source, self._wait, self._fault = source, wait, fault
        self.loaded = []

    def tickets(self, cursor):
        return self._source.tickets(cursor)

    def load(self, ticket, step):
        if self._wait is not None and ticket.number >= 3:
            assert self._wait.wait(20)
        self.loaded.append((threading.current_thread().name, ticket.number, step))
        if self._fault is not None and ticket.number == 3:
            raise self._fault
        return self._source.load(ticket, step)


def feed(source=None, **changes):
    given = {"first_step": 0, "num_steps": 4, "cursor": None, "batches_per_step": 3, "rank": 0, "world_size": 1}
    return Feed(source or NoiseRecipe().source(), **{**given, **changes})


def test_steps_come_in_order_with_their_tickets_and_the_cursor_after_them():
    steps = list(feed())
    assert [given.step for given in steps] == [0, 1, 2, 3]
    assert [given.keys for given in steps] == [[f"noise/{3 * s + n}" for n in range(3)] for s in range(4)]
    assert [given.cursor for given in steps] == [{"number": 3 * s + 3} for s in range(4)]
    alone = NoiseRecipe().source()
    for given in steps:
        for number, batch in enumerate(given.batches):
            ticket, _ = next(alone.tickets({"number": 3 * given.step + number}))
            assert torch.equal(batch["x"], alone.load(ticket, given.step)["x"])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_workers_share_each_step_and_agree_on_the_cursor(world_size):
    shares = [list(feed(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step in range(4):
        mine = [given[step] for given in shares]
        assert sorted(key for given in mine for key in given.keys) == sorted(f"noise/{3 * step + n}" for n in range(3))
        assert all(given.batches for given in mine)
        assert len({str(given.cursor) for given in mine}) == 1


def test_a_feed_goes_on_where_a_cursor_says():
    whole, rest = list(feed()), list(feed(first_step=2, cursor={"number": 6}))
    assert [(given.step, given.keys) for given in rest] == [(given.step, given.keys) for given in whole[2:]]


def test_loading_runs_beside_and_a_few_steps_ahead_but_no_more():
    source = Counting(NoiseRecipe().source())
    running = feed(source, num_steps=50, ahead=2)
    steps = iter(running)
    next(steps)
    deadline = time.monotonic() + 20
    while len(source.loaded) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # One taken, two waiting, one in the hands of the thread.
    assert len(source.loaded) == 12
    assert {thread for thread, _, _ in source.loaded} == {"feed-0"}
    running.close()


@pytest.mark.parametrize("loaders", [2, 4])
def test_several_loaders_give_the_steps_of_one_in_order(loaders):
    """Later micro-batches are ready first: every third one is slow."""

    class Uneven(Counting):
        def load(self, ticket, step):
            time.sleep(0.02 * (ticket.number % 3 == 0))
            return super().load(ticket, step)

    source = Uneven(NoiseRecipe().source())
    expected, found = list(feed(num_steps=8)), list(feed(source, num_steps=8, loaders=loaders))
    assert [(given.step, given.keys, given.cursor) for given in found] == [
        (given.step, given.keys, given.cursor) for given in expected
    ]
    for given, wanted in zip(found, expected, strict=True):
        for batch, other in zip(given.batches, wanted.batches, strict=True):
            assert torch.equal(batch["x"], other["x"])
    assert [number for _, number, _ in source.loaded] != sorted(number for _, number, _ in source.loaded)
    assert {thread for thread, _, _ in source.loaded} == {f"feed-{number}" for number in range(loaders)}


def test_several_loaders_load_at_once():
    meeting = threading.Barrier(3, timeout=20)

    class Together(Counting):
        def load(self, ticket, step):
            meeting.wait()
            return super().load(ticket, step)

    assert len(list(feed(Together(NoiseRecipe().source()), loaders=3))) == 4


def test_what_loading_raises_is_raised_where_it_is_waited_for():
    source = Counting(NoiseRecipe().source(), fault=OSError("no such recording"))
    steps = iter(feed(source))
    assert next(steps).step == 0
    with pytest.raises(OSError, match="no such recording"):
        list(steps)


@pytest.mark.parametrize("loading", [True, False])
def test_a_feed_ends_while_it_loads_and_while_it_waits_for_room(loading):
    wait = threading.Event()
    running = feed(Counting(NoiseRecipe().source(), wait if loading else None), num_steps=1000)
    assert next(iter(running)).step == 0
    threading.Timer(0.3, wait.set).start()
    began = time.monotonic()
    running.close()
    assert time.monotonic() - began < 10
    assert [thread for thread in threading.enumerate() if thread.name.startswith("feed")] == []


def test_a_feed_that_never_began_can_be_closed():
    feed().close()
