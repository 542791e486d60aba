"""The judge of the demo: it must find what is wrong, and must not cry over what at-least-once allows."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.cli.demo.journal import Handled, Published
from pulsewire.cli.demo.tickets.verdict import Evidence, Reason, judge


def handled(
    number: int, consumer: str = "a", *, deliveries: int = 1, started: float | None = None
) -> Handled:
    begin = float(number) if started is None else started
    return Handled(
        event=f"{number}-0",
        ticket=str(number),
        consumer=consumer,
        started=begin,
        ended=begin + 0.5,
        deliveries=deliveries,
    )


def evidence(count: int, *records: Handled, killed: frozenset[str] = frozenset()) -> Evidence:
    """`count` tickets in the stream, each handled once by consumer `a`, and further records."""
    return Evidence(
        wanted=count,
        published=[
            Published(event=f"{number}-0", ticket=str(number), at=number / 2)
            for number in range(count)
        ],
        replayed=[(f"{number}-0", str(number)) for number in range(count)],
        handled=[*(handled(number) for number in range(count)), *records],
        killed=killed,
        pending=0,
    )


def test_a_clean_run_holds() -> None:
    verdict = judge(evidence(10))
    assert verdict.holds
    assert (verdict.published, verdict.replayed, verdict.handled) == (10, 10, 10)
    assert verdict.lost == ()
    assert verdict.repeats == ()
    assert verdict.taken_over == 0


def test_a_ticket_that_nobody_handled_is_lost() -> None:
    whole = evidence(10)
    verdict = judge(
        replace(whole, handled=[record for record in whole.handled if record.event != "3-0"])
    )
    assert verdict.lost == ("3-0",)
    assert verdict.problems == ("1 events never handled by anybody: 3-0",)


def test_a_ticket_missing_from_the_stream_and_unhandled_is_lost_too() -> None:
    whole = evidence(3)
    verdict = judge(replace(whole, replayed=whole.replayed[1:], handled=whole.handled[1:]))
    assert verdict.lost == ("0-0",)
    assert "1 events published, but not in the stream: 0-0" in verdict.problems


def test_many_culprits_are_counted_and_some_are_named() -> None:
    verdict = judge(replace(evidence(100), handled=[]))
    (problem,) = verdict.problems
    assert problem == ("100 events never handled by anybody: 0-0, 1-0, 2-0, 3-0, 4-0, and 95 more")


def test_work_finished_by_the_killed_consumer_and_done_again_is_explained() -> None:
    again = handled(7, "b", deliveries=2, started=20.0)
    verdict = judge(evidence(10, again, killed=frozenset({"a"})))
    assert verdict.holds
    (repeat,) = verdict.repeats
    assert (repeat.event, repeat.ticket, repeat.times, repeat.reason) == (
        "7-0",
        "7",
        2,
        Reason.KILLED,
    )
    assert verdict.taken_over == 1


def test_work_taken_over_from_a_silent_consumer_is_explained() -> None:
    verdict = judge(evidence(10, handled(7, "b", deliveries=2, started=20.0)))
    assert verdict.holds
    assert [repeat.reason for repeat in verdict.repeats] == [Reason.SLOW]


def test_a_third_time_after_a_kill_is_laid_to_the_consumer_that_lived() -> None:
    second = handled(7, "b", deliveries=2, started=20.0)
    third = handled(7, "c", deliveries=3, started=30.0)
    verdict = judge(evidence(10, third, second, killed=frozenset({"a"})))
    assert [(repeat.times, repeat.reason) for repeat in verdict.repeats] == [(3, Reason.SLOW)]


def test_a_repetition_delivered_as_if_it_were_new_is_a_defect() -> None:
    verdict = judge(
        evidence(10, handled(7, "b", deliveries=1, started=20.0), killed=frozenset({"a"}))
    )
    assert not verdict.holds
    assert verdict.problems == ("1 events handled more than once without a reason: 7-0",)


def test_a_ticket_taken_over_and_handled_once_is_no_repetition() -> None:
    whole = evidence(10)
    records = [record for record in whole.handled if record.event != "7-0"]
    verdict = judge(replace(whole, handled=[*records, handled(7, "b", deliveries=2)]))
    assert verdict.holds
    assert verdict.taken_over == 1
    assert verdict.repeats == ()


def test_events_from_nowhere_are_found() -> None:
    whole = evidence(3, handled(8))
    verdict = judge(replace(whole, replayed=[*whole.replayed, ("9-0", "9")]))
    assert "1 events in the stream, but never published: 9-0" in verdict.problems
    assert "1 events handled, but neither published nor in the stream: 8-0" in verdict.problems
    assert "1 events never handled by anybody: 9-0" in verdict.problems


def test_mixed_up_ticket_numbers_are_found() -> None:
    whole = evidence(3)
    mixed_up = [whole.replayed[0], ("1-0", "2"), whole.replayed[2]]
    assert judge(replace(whole, replayed=mixed_up)).problems == (
        "1 events with another ticket number in the stream than was published: 1-0",
    )
    wrong = Handled(event="2-0", ticket="5", consumer="a", started=2.0, ended=2.5, deliveries=1)
    assert judge(replace(whole, handled=[*whole.handled[:2], wrong])).problems == (
        "1 events handled with another ticket number than was published: 2-0",
    )


def test_too_few_tickets_a_double_replay_and_pending_events_are_found() -> None:
    whole = evidence(3)
    verdict = judge(
        replace(whole, wanted=4, replayed=[*whole.replayed, whole.replayed[-1]], pending=2)
    )
    assert verdict.problems == (
        "3 tickets were published, 4 were wanted",
        "the replay gave 1 events more than once",
        "2 events are still pending in the group",
    )


def test_tickets_handled_before_the_last_was_published_are_counted() -> None:
    # Ticket n is published at n/2 and handled at n+0.5, the last of 10 is published at 4.5.
    assert judge(evidence(10)).while_publishing == 5


@given(
    count=st.integers(1, 40),
    killed=st.booleans(),
    missing=st.sets(st.integers(0, 39)),
    again=st.sets(st.integers(0, 39)),
    order=st.randoms(use_true_random=False),
)
def test_any_history_holds_exactly_if_nothing_is_missing(
    count: int,
    killed: bool,
    missing: set[int],
    again: set[int],
    order: random.Random,
) -> None:
    """Whatever is repeated with a reason, and in whatever order journals are read, only losses count."""
    whole = evidence(count, killed=frozenset({"a"} if killed else ()))
    records = [record for record in whole.handled if int(record.ticket) not in missing]
    records += [
        handled(number, "b", deliveries=2, started=100.0) for number in again if number < count
    ]
    order.shuffle(records)
    verdict = judge(replace(whole, handled=records))
    lost = {f"{number}-0" for number in missing - again if number < count}
    assert set(verdict.lost) == lost
    assert verdict.holds == (not lost)
    assert {repeat.event for repeat in verdict.repeats} == {
        f"{number}-0" for number in again - missing if number < count
    }
    assert verdict.handled == count - len(lost)
