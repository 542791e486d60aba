"""The workers as one node sees them: whom it proposes, whom it suspects, and what it passes over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.pool.ring import Member, Ring
from pulsewire.pool.roster import Roster
from pulsewire.pool.wire import SHUTDOWN_ENTRY, WorkerInfo, encode_worker

KEYS = [f"job-{number}" for number in range(200)]
WORKERS = {
    name: WorkerInfo(name, f"node-{name}", "active", 1.0, "host", 1, started)
    for started, name in enumerate("abcd")
}
Content = dict[str, str]


def content_of(*workers: str, draining: str = "") -> Content:
    """The workers map with these in it."""
    return {
        name: encode_worker(
            replace(WORKERS[name], state="draining" if name in draining else "active")
        )
        for name in workers
    }


def roster_of(*workers: str, draining: str = "") -> Roster:
    """A roster that has seen these."""
    roster = Roster("rendezvous")
    roster.take(content_of(*workers, draining=draining))
    return roster


def owners(roster: Roster) -> set[str]:
    """Who gets any of KEYS."""
    return {roster.owner(key) for key in KEYS}


def test_empty_roster_proposes_nobody() -> None:
    roster = Roster("rendezvous")
    assert roster.owner("k") == ""
    assert roster.shutdown_by == ""
    assert not roster.take({})


def test_all_active_workers_are_proposed_as_the_ring_says() -> None:
    roster = roster_of("a", "b", "c")
    ring = Ring(
        [Member(w.id, w.weight, w.started) for w in WORKERS.values() if w.id != "d"], "jump"
    )
    roster.route_by("jump")
    assert [roster.owner(key) for key in KEYS] == [ring.owner(key) for key in KEYS]
    assert owners(roster) == {"a", "b", "c"}
    assert {roster.owner(key, but="a") for key in KEYS} == {"b", "c"}
    assert roster_of("a").owner("k", but="a") == ""


def test_draining_workers_are_known_and_not_proposed() -> None:
    roster = roster_of("a", "b", "c", draining="b")
    assert set(roster.workers) == {"a", "b", "c"}
    assert owners(roster) == {"a", "c"}
    assert roster_of("a", draining="a").owner("k") == ""


def test_change_is_told_when_keys_go_elsewhere_and_only_then() -> None:
    roster = Roster("rendezvous")
    assert roster.take(content_of("a", "b"))
    assert not roster.take(content_of("b", "a"))
    assert not roster.take({**content_of("a", "b"), "c": "garbage"})
    assert not roster.take({**content_of("a", "b"), SHUTDOWN_ENTRY: "node"})
    assert not roster.take(content_of("a", "b", "c", draining="c"))  # it came and drains already
    assert roster.take(content_of("a", "b", draining="b"))
    assert roster.take(content_of("a", "b"))
    assert roster.take(content_of("a"))


def test_heavier_worker_is_a_change() -> None:
    roster = roster_of("a", "b")
    content = content_of("a", "b")
    content["b"] = encode_worker(replace(WORKERS["b"], weight=2.0))
    assert roster.take(content)


# --- suspicion


def test_suspected_worker_is_not_proposed() -> None:
    roster = roster_of("a", "b", "c")
    assert roster.suspect("b")
    assert owners(roster) == {"a", "c"}
    assert set(roster.workers) == {"a", "b", "c"}


def test_suspicion_is_told_once_and_only_of_known_workers() -> None:
    roster = roster_of("a", "b")
    assert roster.suspect("a")
    assert not roster.suspect("a")
    assert not roster.suspect("stranger")
    assert not roster.suspect("")
    assert owners(roster) == {"b"}


def test_suspicion_of_a_draining_worker_moves_no_keys() -> None:
    roster = roster_of("a", "b", draining="a")
    assert not roster.suspect("a")


def test_suspicion_lasts_through_changes_of_others() -> None:
    roster = roster_of("a", "b")
    roster.suspect("b")
    assert roster.take(content_of("a", "b", "c"))
    assert owners(roster) == {"a", "c"}


def test_worker_that_has_left_is_forgotten_with_its_suspicion() -> None:
    roster = roster_of("a", "b")
    roster.suspect("b")
    assert not roster.take(content_of("a"))
    assert roster.take(content_of("a", "b"))
    assert owners(roster) == {"a", "b"}


def test_all_are_trusted_again_when_nobody_else_is_left() -> None:
    """The server says that some lease holds: the suspicions are older than that."""
    roster = roster_of("a", "b")
    roster.suspect("a")
    roster.suspect("b")
    assert roster.owner("k") == ""
    roster.trust_again()
    assert owners(roster) == {"a", "b"}


# --- what it does not know


@pytest.mark.parametrize("garbage", ["", "{}", "null", "\0", '{"node":"n","weight":0}'])
def test_malformed_entry_is_passed_over_and_named(garbage: str) -> None:
    """Protocol 8."""
    roster = Roster("rendezvous")
    assert roster.take({**content_of("a"), "x": garbage})
    assert roster.malformed == ("x",)
    assert set(roster.workers) == {"a"}
    roster.take(content_of("a"))
    assert list(roster.malformed) == []


def test_who_has_asked_for_the_end_is_no_worker() -> None:
    roster = Roster("rendezvous")
    roster.take({**content_of("a"), SHUTDOWN_ENTRY: "node-9"})
    assert roster.shutdown_by == "node-9"
    assert set(roster.workers) == {"a"}
    assert list(roster.malformed) == []
    roster.take(content_of("a"))
    assert roster.shutdown_by == ""


steps = st.one_of(
    st.tuples(st.just("take"), st.sets(st.sampled_from("abcd")), st.sets(st.sampled_from("abcd"))),
    st.tuples(st.just("suspect"), st.sampled_from("abcd"), st.none()),
    st.tuples(st.just("trust"), st.none(), st.none()),
)


@given(st.lists(steps, max_size=30))
def test_only_known_active_unsuspected_workers_are_proposed(
    history: list[tuple[str, set[str] | str, set[str]]],
) -> None:
    """Whatever happens, and a change is told exactly when somebody is proposed who was not, or no more."""
    roster, known, draining, suspected = Roster("rendezvous"), set[str](), set[str](), set[str]()
    for what, about, drain in history:
        before, told = known - draining - suspected, False
        if what == "take":
            known, draining = set(about), drain
            suspected &= known
            told = roster.take(content_of(*sorted(known), draining="".join(drain)))
        elif what == "suspect":
            assert isinstance(about, str)
            suspected |= {about} & known
            told = roster.suspect(about)
        else:
            suspected.clear()
            roster.trust_again()
        after = known - draining - suspected
        assert owners(roster) == (after or {""})
        assert told == (before != after) or what == "trust"
