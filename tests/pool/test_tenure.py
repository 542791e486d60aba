"""Deadlines: whatever gets lost or comes late, a node trusts no worker longer than its lease holds on the server."""

from __future__ import annotations

import math
import sys
import threading
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pulsewire._core.failovers import PATIENCE, REVALIDATION, UNREPLICATED
from pulsewire.pool.options import LEAST_TTL, NodeOptions
from pulsewire.pool.tenure import Tenure

TTL = 3.0
TICK = 1 / 1024
"""What all times of a history are multiples of: sums of them are exact."""


def test_deadline_is_counted_from_before_the_request() -> None:
    """The lease began when the server carried it out, which was later."""
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    assert tenure.workers == ("w",)
    assert tenure.deadline("w") == 103.0
    tenure.renewed(["w"], [], 101.0)
    assert tenure.deadline("w") == 104.0


def test_unknown_worker_has_no_time() -> None:
    assert Tenure(TTL).deadline("stranger") == -math.inf


def test_worker_lapses_a_margin_before_its_deadline() -> None:
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    assert tenure.lapsed(102.4, 0.5) == []
    assert tenure.lapsed(102.5, 0.5) == ["w"]
    assert tenure.next_check(100.0, 0.5) == 2.5
    assert tenure.next_check(110.0, 0.5) == 0.0


def test_without_workers_there_is_time() -> None:
    tenure = Tenure(TTL)
    assert tenure.lapsed(1e9, 1.0) == []
    assert tenure.next_check(5.0, 1.0) == TTL


def test_lost_worker_lapses_at_once_and_stays_lost() -> None:
    """Although the reply to an earlier renewal comes after that (protocol 2.1)."""
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    tenure.enrolled("v", 100.0)
    tenure.renewed(["w", "v"], ["w"], 101.0)
    assert tenure.lapsed(101.0, 0.0) == ["w"]
    tenure.renewed(["w", "v"], [], 102.0)
    assert tenure.lapsed(102.0, 0.0) == ["w"]
    assert tenure.deadline("v") == 105.0


def test_worker_given_up_is_no_concern_whatever_comes_after_it() -> None:
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    tenure.enrolled("v", 101.0)
    tenure.given_up("w")
    tenure.given_up("w")
    tenure.renewed(["w", "v"], [], 102.0)  # it was under way
    assert tenure.workers == ("v",)
    assert tenure.deadline("w") == -math.inf
    assert tenure.lapsed(200.0, 0.0) == ["v"]
    assert tenure.next_check(102.0, 0.0) == TTL


# --- failovers


def test_renewals_of_the_last_seconds_count_for_nothing_at_another_server() -> None:
    """Which need not know them. Those before it must know."""
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    for at in (101.0, 101.5, 102.0, 103.5):
        tenure.renewed(["w"], [], at)
    tenure.moved(101.6)
    assert tenure.deadline("w") == 101.5 + TTL
    assert tenure.lapsed(104.4, 0.0) == []
    assert tenure.lapsed(104.5, 0.0) == ["w"]


def test_worker_that_only_the_old_server_need_know_has_a_moment_to_ask_the_new_one() -> None:
    tenure = Tenure(3 * REVALIDATION)
    tenure.enrolled("w", 100.0)
    tenure.moved(100.5)
    assert tenure.deadline("w") == 100.5 + REVALIDATION
    tenure.renewed(["w"], [], 101.0)
    assert tenure.deadline("w") == 101.0 + 3 * REVALIDATION


def test_move_to_another_server_lengthens_no_deadline() -> None:
    tenure = Tenure(TTL)
    tenure.enrolled("w", 100.0)
    tenure.moved(100.0 + TTL - 0.5)
    assert tenure.deadline("w") == 100.0 + TTL


def test_further_moves_cost_nothing_while_nothing_was_renewed_between_them() -> None:
    """What counts for nothing cannot count for less."""
    tenure = Tenure(30.0)
    tenure.enrolled("w", 100.0)
    for at in (110.0, 120.0):
        tenure.renewed(["w"], [], at)
    tenure.moved(121.0)
    assert tenure.deadline("w") == 140.0
    tenure.moved(122.0)
    assert tenure.deadline("w") == 140.0
    tenure.renewed(["w"], [], 123.0)
    tenure.moved(124.0)
    assert tenure.deadline("w") == 140.0


def test_move_concerns_every_worker_and_brings_none_back() -> None:
    tenure = Tenure(30.0)
    for worker in ("w", "v", "u"):
        tenure.enrolled(worker, 100.0)
    tenure.given_up("u")
    tenure.renewed(["w", "v"], ["v"], 101.0)
    tenure.moved(102.0)
    assert tenure.deadline("w") == 102.0 + REVALIDATION
    assert tenure.deadline("v") == tenure.deadline("u") == -math.inf


@dataclass(frozen=True)
class Failover:
    """One, at the time 0 on everybody's clock, and what its owner does.

    Attributes:
        ttl: of the lease.
        renewals: seconds from one to the next, as shares of the lease, before the owner hears of the new server.
        heard: when it does.
        asks: seconds after that until it asks the new server, until that carries it out, and until the reply is here.
    """

    ttl: float
    renewals: list[float]
    heard: float
    asks: tuple[float, float, float]

    def takes_over(self, patience: float, looks_from: float) -> tuple[Tenure, float]:
        """What the owner believes when its jobs are taken over, and when they are, if it renews no more than once."""
        tenure, at, ends = Tenure(self.ttl), self.heard - sum(self.renewals) * self.ttl, -math.inf
        tenure.enrolled("w", at)
        for share in [0.0, *self.renewals]:
            at += share * self.ttl
            tenure.renewed(["w"], [], at)
            if at <= 0:
                ends = at + self.ttl
        tenure.moved(self.heard)
        taken_over = max(looks_from + patience, ends)
        asked = self.heard + self.asks[0]
        carried_out = asked + self.asks[1]
        if carried_out < taken_over:
            is_lost = carried_out >= ends
            if not is_lost:
                taken_over = max(looks_from + patience, carried_out + self.ttl)
            if carried_out + self.asks[2] <= taken_over:
                tenure.renewed(["w"], ["w"] if is_lost else [], asked)
        return tenure, taken_over


SHORT = Failover(1.5, [0.33] * 9, 0.9, (0.6, 0.0, 0.0))


def test_without_patience_owners_are_taken_for_dead_after_a_failover() -> None:
    """Which is why there is some."""
    tenure, taken_over = SHORT.takes_over(0.0, looks_from=0.0)
    assert tenure.lapsed(taken_over, 0.0) == []


@given(
    st.builds(
        Failover,
        st.floats(LEAST_TTL, 60.0),
        st.lists(st.floats(0.01, 0.9), min_size=1, max_size=30),
        st.floats(0.0, UNREPLICATED),
        st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0)),
    ),
    st.floats(0.0, 10.0),
)
@example(SHORT, 0.0)
@settings(max_examples=500, deadline=None)
def test_nobody_is_taken_for_dead_who_believes_in_its_lease_whatever_a_failover_has_lost(
    failover: Failover, looks_from: float
) -> None:
    """Late news, late and lost replies; a janitor that looked all the time, or has just begun to (protocol 6.3)."""
    # else the new server does not know it
    assume(sum(failover.renewals) * failover.ttl > failover.heard)
    tenure, taken_over = failover.takes_over(PATIENCE, looks_from)
    assert tenure.lapsed(taken_over + 1e-9, 0.0) == ["w"]


# --- random histories: a server with a clock of its own, a node, and messages between them


@dataclass
class Request:
    """Sent by the node; the server may carry it out once, twice or never, and its reply may get lost."""

    what: str
    workers: tuple[str, ...]
    asked_at: float
    lost: list[str] | None = None


@dataclass
class World:
    """The truth about the leases, beside what the node believes. One clock is ahead of the other, as fast as it."""

    options: NodeOptions
    ahead: float
    now: float = 1000.0
    leases: dict[str, float] = field(default_factory=dict)
    under_way: list[Request] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)
    made: int = 0

    def __post_init__(self) -> None:
        self.tenure = Tenure(self.options.worker_ttl)

    def server_now(self) -> float:
        """By the clock that judges."""
        return self.now + self.ahead

    def ask(self, what: str) -> None:
        """The node sends something."""
        if what == "enrol":
            self.made += 1
            workers: tuple[str, ...] = (f"w{self.made}",)
        else:
            workers = self.tenure.workers
        if workers:
            self.under_way.append(Request(what, workers, self.now))

    def carry_out(self, request: Request) -> None:
        """The server does as it is told, as its scripts do."""
        now, ends = self.server_now(), self.server_now() + self.options.worker_ttl
        if request.what == "enrol":
            self.leases[request.workers[0]] = ends
            request.lost = []
            return
        request.lost = [w for w in request.workers if self.leases.get(w, -math.inf) <= now]
        self.leases |= {worker: ends for worker in request.workers if worker not in request.lost}

    def answer(self, request: Request) -> None:
        """The reply comes in."""
        if request.lost is None:
            self.carry_out(request)
        self.under_way.remove(request)
        if request.what == "enrol":
            self.tenure.enrolled(request.workers[0], request.asked_at)
        else:
            self.tenure.renewed(request.workers, request.lost or [], request.asked_at)

    def give_up_lapsed(self, margin: float) -> None:
        """What the node does when it looks."""
        for worker in self.tenure.lapsed(self.now, margin):
            self.tenure.given_up(worker)
            self.given_up.add(worker)

    def check(self) -> None:
        """No worker is trusted past the end of its lease."""
        lapsed = self.tenure.lapsed(self.now, 0.0)
        trusted = [worker for worker in self.tenure.workers if worker not in lapsed]
        for worker in trusted:
            assert self.leases[worker] > self.server_now()
            assert self.tenure.deadline(worker) + self.ahead <= self.leases[worker]
        assert not self.given_up & set(self.tenure.workers)

    def play(self, dice: Random) -> None:
        """One step."""
        what = dice.choices(
            ["pass", "enrol", "renew", "carry out", "answer", "drop", "look", "forget"],
            [4, 1, 4, 3, 5, 1, 2, 0.2],
        )[0]
        if what == "pass":
            share = dice.choice([0.001, 0.05, 0.15, 0.5, 1.0])
            self.now += int(share * self.options.worker_ttl / TICK) * TICK
        elif what in ("enrol", "renew"):
            self.ask(what)
        elif what == "look":
            self.give_up_lapsed(self.options.margin)
        # buried by a janitor, which it may be only once its lease has lapsed
        elif what == "forget":
            now = self.server_now()
            self.leases = {worker: ends for worker, ends in self.leases.items() if ends > now}
        elif self.under_way:
            request = dice.choice(self.under_way)
            if what == "carry out":  # perhaps again, since the reply was lost on the way
                self.carry_out(request)
            elif what == "answer":
                self.answer(request)
            else:
                self.under_way.remove(request)


@given(
    st.randoms(use_true_random=False),
    st.integers(int(LEAST_TTL / TICK), 10**5).map(lambda ticks: ticks * TICK),
    st.integers(-(10**9), 10**9).map(lambda ticks: ticks * TICK),
    st.integers(1, 150),
)
@settings(max_examples=300, deadline=None)
def test_no_worker_is_trusted_past_the_end_of_its_lease(
    dice: Random, ttl: float, ahead: float, length: int
) -> None:
    """Requests late, doubled, lost and answered out of order; clocks far apart (protocol 2.4)."""
    world = World(NodeOptions(worker_ttl=ttl), ahead)
    for _ in range(length):
        world.play(dice)
        world.check()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5), st.floats(0, 200), st.floats(0, 1))
def test_next_check_comes_when_a_worker_lapses_and_not_before(
    asked: list[float], now: float, margin: float
) -> None:
    """So that the watcher neither spins nor oversleeps."""
    tenure = Tenure(TTL)
    for number, at in enumerate(asked):
        tenure.enrolled(f"w{number}", at)
    pause = tenure.next_check(now, margin)
    assert tenure.lapsed(now + pause + 0.001, margin)
    if pause > 0.001:
        assert not tenure.lapsed(now + pause - 0.001, margin)


def test_enrolment_is_not_lost_while_the_other_thread_renews() -> None:
    """Or a new worker would be taken for one whose lease has lapsed."""
    tenure, is_over = Tenure(TTL), threading.Event()
    asked_at = 0.0

    def renew() -> None:
        while not is_over.is_set():
            tenure.renewed(tenure.workers, [], asked_at)

    patience = sys.getswitchinterval()
    thread = threading.Thread(target=renew)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for number in range(3000):
            tenure.enrolled(f"w{number}", asked_at)
            assert tenure.lapsed(asked_at, 0.0) == []
            tenure.given_up(f"w{number - 3}")
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(patience)
    assert len(tenure.workers) == 3


@pytest.mark.parametrize("ttl", [LEAST_TTL, 3.0, 30.0])
def test_two_renewals_may_fail_before_a_worker_lapses(ttl: float) -> None:
    """Of three in a lease (protocol 2.3)."""
    options = NodeOptions(worker_ttl=ttl)
    tenure = Tenure(ttl)
    tenure.enrolled("w", 0.0)
    third = 3 * options.renew_every - options.margin - 0.001
    assert tenure.lapsed(2 * options.renew_every, options.margin) == []
    assert tenure.lapsed(third, options.margin) == []
