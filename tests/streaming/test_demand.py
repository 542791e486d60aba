"""How much a consumer holds ahead: work spreads evenly, and fast consumers get full batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.streaming.demand import HORIZON, WINDOW, Demand
from pulsewire.streaming.inbox import Inbox
from tests.streaming.virtual_time import run_in_virtual_time

ROUND_TRIP = 0.001


class Consumer:
    """A consumer of a simulated stream: a feed, an inbox and so many workers, as a sink has them."""

    def __init__(self, stream: deque[int], *, workers: int, handler: Callable[[], float]) -> None:
        self.demand = Demand(1000, even=True)
        self.inbox: Inbox[int] = Inbox(self.demand)
        self.handled = 0
        self.most_waiting = 0
        self.tasks = [asyncio.create_task(self.feed(stream))]
        self.tasks += [asyncio.create_task(self.work(handler)) for _ in range(workers)]

    async def feed(self, stream: deque[int]) -> None:
        while stream:
            await self.inbox.wait_room()
            await asyncio.sleep(ROUND_TRIP)
            count = min(max(1, self.inbox.room()), len(stream))
            self.inbox.put([stream.popleft() for _ in range(count)])
        self.inbox.end()

    async def work(self, handler: Callable[[], float]) -> None:
        while await self.inbox.take() is not None:
            await asyncio.sleep(handler())
            self.handled += 1
            self.most_waiting = max(self.most_waiting, len(self.inbox))


def simulate(
    *, consumers: int, events: int, workers: int = 1, handler: float
) -> tuple[list[Consumer], float]:
    """Consumers that start a moment after each other work off a stream; returns them, and when they were done."""

    async def program() -> tuple[list[Consumer], float]:
        stream = deque(range(events))
        team = []
        for _ in range(consumers):
            team.append(Consumer(stream, workers=workers, handler=lambda: handler))
            await asyncio.sleep(0.013)
        for consumer in team:
            await asyncio.gather(*consumer.tasks)
        return team, asyncio.get_running_loop().time()

    return run_in_virtual_time(program())


def test_five_consumers_with_slow_handlers_share_evenly() -> None:
    """3,000 events, 100 ms each: about 600 for everybody, and all are done within the same moments (S11)."""
    team, ended_at = simulate(consumers=5, events=3000, handler=0.1)
    shares = [consumer.handled for consumer in team]
    assert sum(shares) == 3000
    assert all(570 <= share <= 630 for share in shares), shares
    assert ended_at < 3000 * (0.1 + 2 * ROUND_TRIP) / 5 * 1.02


def test_very_slow_handlers_hold_nothing_ahead() -> None:
    """With a handler of two seconds, an event that waits here could be done elsewhere."""
    team, _ = simulate(consumers=3, events=30, handler=2.0)
    assert [consumer.handled for consumer in team] == [10, 10, 10]
    assert all(consumer.most_waiting == 0 for consumer in team)


def test_many_workers_in_lockstep_do_not_hoard() -> None:
    """A hundred handlers that end in the same moment are no sign of a hundred times the speed."""
    team, _ = simulate(consumers=3, events=3000, workers=100, handler=1.0)
    shares = [consumer.handled for consumer in team]
    assert all(900 <= share <= 1100 for share in shares), shares
    assert all(consumer.demand.ahead <= 2 * 100 * HORIZON for consumer in team)


def test_fast_handler_reaches_a_full_batch() -> None:
    """With 20 microseconds an event, a thousand are held ahead, so that the server is asked seldom."""
    demand = Demand(1000, even=True)
    now = 0.0
    while demand.ahead < 1000:
        now += 20e-6
        demand.take(now)
        assert now < 3.0
    assert demand.ahead == 1000


def follow(demand: Demand, count: int, began: float, ended: float) -> int:
    """So many takes in a window, all but the last at its beginning; what is held ahead then."""
    for _ in range(count - 1):
        demand.take(began)
    demand.take(ended)
    return demand.ahead


def test_rate_is_the_mean_of_the_newest_window_and_those_before() -> None:
    """399 a second after nothing are 199.5, of which a tenth is held ahead; after a stall there was nothing again."""
    demand = Demand(1000, even=True)
    assert follow(demand, 399, 0.0, 1.0) == 19
    assert follow(demand, 400, 1.0, 2.0) == 29  # 299.75 a second
    demand.stall()
    assert follow(demand, 399, 7.0, 8.0) == 19


def test_window_that_is_just_long_enough_counts() -> None:
    demand = Demand(1000, even=True)
    assert follow(demand, 50, 0.0, WINDOW - 0.001) == 0
    demand.stall()
    assert follow(demand, 50, 0.0, WINDOW) > 0


@given(st.integers(1, 2000), st.floats(0.001, 5.0))
def test_steady_pace_holds_what_is_worked_off_within_the_horizon(limit: int, pause: float) -> None:
    demand = Demand(limit, even=True)
    for number in range(2000):
        demand.take(number * pause)
    assert demand.ahead <= min(limit, HORIZON / pause * 1.1 + 1)
    assert demand.ahead >= min(limit, int(HORIZON / pause * 0.9) - 1)


@given(st.lists(st.floats(0.0, 1.0), max_size=300), st.integers(1, 50))
def test_no_history_exceeds_the_limit(pauses: list[float], limit: int) -> None:
    demand = Demand(limit, even=True)
    now = 0.0
    for pause in pauses:
        now += pause
        demand.take(now)
        assert 0 <= demand.ahead <= limit


def test_nothing_is_held_ahead_before_the_pace_is_known() -> None:
    """The first worker to come gets one event, not a thousand (S1)."""
    demand = Demand(1000, even=True)
    assert demand.ahead == 0
    demand.take(10.0)
    assert demand.ahead == 0


def test_stall_forgets_the_pace() -> None:
    demand = Demand(1000, even=True)
    for number in range(1000):
        demand.take(number * 0.001)
    assert demand.ahead > 50
    demand.stall()
    assert demand.ahead == 0
    demand.take(100.0)
    assert demand.ahead == 0


def test_reader_holds_its_whole_buffer_ahead() -> None:
    """It shares with nobody."""
    demand = Demand(500, even=False)
    for now in (0.0, 1.0, 50.0):
        assert demand.ahead == 500
        demand.take(now)
    assert demand.ahead == 500
