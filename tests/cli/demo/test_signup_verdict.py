"""The judge of the sign-up flow: it finds each way to lose something, and explains what at-least-once allows."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.cli.demo.attempts import Attempt
from pulsewire.cli.demo.journal import FlagSeen, Ordered, Outcome, Seen, SignedUp, Switched
from pulsewire.cli.demo.runs import Run
from pulsewire.cli.demo.signup.cast import (
    COLOURFUL,
    FORM,
    JOB,
    MAIL,
    PLAIN,
    QUEUE,
    SINKS,
    job_of,
    user_name,
)
from pulsewire.cli.demo.signup.progress import Done
from pulsewire.cli.demo.signup.verdict import (
    Outage,
    Reason,
    SignUpEvidence,
    judge_sign_up,
)

USERS = 6
PROCESSES = ("mailer 1", "mailer 2", "analytics", "audit", "worker 1", "worker 2", "web")
CONSUMERS = {"mailer": "mailer 1", "analytics": "analytics", "audit": "audit"}
SWITCHED_AT = 3.5
"""Between the third and the fourth user."""


def done(number: int, process: str, *, at: float | None = None, deliveries: int = 1) -> Done:
    """User `number` signs up at second `number`, and is seen half a second later."""
    end = number + 0.5 if at is None else at
    return Done(
        process=process,
        seen=Seen(
            user=user_name(number),
            event=f"{number}-0",
            began=end - 0.1,
            at=end,
            deliveries=deliveries,
        ),
    )


def attempt(number: int, **changed: Any) -> Attempt:
    """The mail to user `number` goes out 0.6 to 0.7 seconds after the sign-up."""
    sent = Attempt(
        task=user_name(number),
        task_type="email:welcome",
        queue=QUEUE,
        server=1,
        retried=0,
        began=number + 0.6,
        ended=number + 0.7,
        outcome=Outcome.DONE,
        result=PLAIN if number + 0.6 < SWITCHED_AT else COLOURFUL,
    )
    return replace(sent, **changed)


def run(number: int, **changed: Any) -> Run:
    """The job of user `number` runs from 0.6 to 0.9 seconds after the sign-up."""
    ran = Run(
        job=job_of(user_name(number)),
        node=1,
        token=number,
        began=number + 0.6,
        ended=number + 0.9,
        is_done=True,
    )
    return replace(ran, **changed)


def seen(value: str, at: float) -> FlagSeen:
    return FlagSeen(flag=FORM, value=value, at=at)


def evidence() -> SignUpEvidence:
    """Everything went well, and nobody was killed."""
    numbers = range(1, USERS + 1)
    users = [user_name(number) for number in numbers]
    return SignUpEvidence(
        wanted=USERS,
        signed_up=[
            SignedUp(
                user=user_name(number), event=f"{number}-0", asked=number - 0.01, at=float(number)
            )
            for number in numbers
        ],
        done={
            sink: [done(number, process) for number in numbers]
            for sink, process in CONSUMERS.items()
        },
        ordered=[
            Ordered(what=what, user=user, is_new=True) for user in users for what in (MAIL, JOB)
        ],
        attempts=[attempt(number) for number in numbers],
        runs=[run(number) for number in numbers],
        flags={
            process: [seen(PLAIN, 0.1), seen(COLOURFUL, SWITCHED_AT + 0.02)]
            for process in PROCESSES
        },
        switched=Switched(flag=FORM, value=COLOURFUL, asked=SWITCHED_AT, at=SWITCHED_AT + 0.01),
        killed={},
        outage=None,
        lease=2.0,
        left={"jobs are left in pool email-pool": 0},
    )


def with_done(
    whole: SignUpEvidence, sink: str, records: Sequence[Done]
) -> Mapping[str, Sequence[Done]]:
    return {**whole.done, sink: records}


def test_a_clean_run_holds() -> None:
    verdict = judge_sign_up(evidence())
    assert verdict.problems == ()
    assert verdict.holds
    assert verdict.signed_up == verdict.mailed == verdict.confirmed == USERS
    assert verdict.handled == dict.fromkeys(SINKS, USERS)
    assert verdict.lost == ()
    assert verdict.repeats == ()
    assert verdict.forms == {PLAIN: 2, COLOURFUL: 4}
    assert (verdict.reached, round(verdict.spread, 3)) == (len(PROCESSES), 0.02)
    assert verdict.in_flight == {}
    assert round(verdict.slowest, 3) == 0.01


# --- each way to fail


def losing_a_user() -> SignUpEvidence:
    whole = evidence()
    return replace(whole, signed_up=whole.signed_up[:-1])


def without(sink: str) -> SignUpEvidence:
    whole = evidence()
    return replace(whole, done=with_done(whole, sink, whole.done[sink][1:]))


def changed(**changes: Any) -> SignUpEvidence:
    return replace(evidence(), **changes)


def added(**more: Any) -> SignUpEvidence:
    whole = evidence()
    longer: dict[str, Any] = {name: [*getattr(whole, name), *new] for name, new in more.items()}
    return replace(whole, **longer)


def of_flags(**flags: list[FlagSeen]) -> SignUpEvidence:
    whole = evidence()
    return replace(whole, flags={**whole.flags, **flags})


FAILURES: dict[str, tuple[SignUpEvidence, str]] = {
    "a user too few": (losing_a_user(), "5 users have signed up, 6 were to"),
    "a user twice": (
        added(signed_up=[SignedUp(user=user_name(1), event="1-0", asked=8.0, at=8.1)]),
        "1 users signed up more than once: user-00001",
    ),
    **{
        f"not seen by {sink}": (without(sink), f"1 users never seen by {sink}: user-00001")
        for sink in SINKS
    },
    "seen from nowhere": (
        changed(done=with_done(evidence(), "audit", [*evidence().done["audit"], done(9, "audit")])),
        "1 users seen by audit, and nobody has signed them up: user-00009",
    ),
    "another event": (
        changed(
            done=with_done(
                evidence(),
                "audit",
                [
                    *evidence().done["audit"][1:],
                    Done(
                        process="audit",
                        seen=Seen(user=user_name(1), event="7-7", began=1.4, at=1.5, deliveries=1),
                    ),
                ],
            )
        ),
        "1 users seen with another event than they had signed up with: user-00001",
    ),
    "no task": (
        changed(ordered=[one for one in evidence().ordered if one.what == JOB]),
        "6 users without a task for their welcome mail: ",
    ),
    "no job": (
        changed(ordered=[one for one in evidence().ordered if one.what == MAIL]),
        "6 users without a job for their confirmation: ",
    ),
    "not mailed": (
        changed(attempts=evidence().attempts[1:]),
        "1 users never mailed: user-00001",
    ),
    "only refused": (
        changed(attempts=[attempt(1, outcome=Outcome.FAILED), *evidence().attempts[1:]]),
        "1 users never mailed: user-00001",
    ),
    "mailed from nowhere": (
        added(attempts=[attempt(9)]),
        "1 users mailed, and nobody has signed them up: user-00009",
    ),
    "not confirmed": (
        changed(runs=evidence().runs[1:]),
        "1 users whose job has not come to its end: user-00001",
    ),
    "stopped in the middle": (
        changed(runs=[run(1, is_done=False), *evidence().runs[1:]]),
        "1 users whose job has not come to its end: user-00001",
    ),
    "a job from nowhere": (
        added(runs=[run(9)]),
        "1 users whose job ran, and nobody has signed them up: user-00009",
    ),
    "two owners": (
        added(runs=[run(1, node=2, token=99, began=1.7)]),
        "1 jobs ran at two workers at the same moment: user-00001",
    ),
    "a smaller token": (
        added(runs=[run(2, node=2, token=1, began=9.0, ended=9.3)]),
        "1 jobs ran later with a token that was not larger: user-00002",
    ),
    "seen again as if it were new": (
        changed(
            done=with_done(
                evidence(), "audit", [*evidence().done["audit"], done(1, "audit", at=9.0)]
            )
        ),
        "1 users for whom something was done twice without a reason: user-00001 (sign-up at audit)",
    ),
    "mailed again": (
        added(attempts=[attempt(1, server=2, began=9.0, ended=9.1, result=COLOURFUL)]),
        "1 users for whom something was done twice without a reason: user-00001 (welcome mail)",
    ),
    "a retry that was not charged": (
        changed(
            attempts=[
                attempt(1, outcome=Outcome.FAILED),
                attempt(1, began=9.0, ended=9.1, result=COLOURFUL),
                *evidence().attempts[1:],
            ]
        ),
        "1 users for whom something was done twice without a reason: user-00001 (welcome mail)",
    ),
    "a job again": (
        added(runs=[run(1, node=2, token=99, began=9.0, ended=9.3)]),
        "1 users for whom something was done twice without a reason: user-00001 (confirmation job)",
    ),
    "nothing switched": (changed(switched=None), "nobody has switched the feature flag"),
    "a process that does not know": (
        of_flags(audit=[seen(PLAIN, 0.1)]),
        "1 processes never saw the feature flag switched: audit",
    ),
    "a process that went back": (
        of_flags(audit=[seen(COLOURFUL, 3.6), seen(PLAIN, 3.7)]),
        "1 processes had the feature flag at another value at the end: audit",
    ),
    "a mail in the old form": (
        changed(attempts=[*evidence().attempts[:-1], attempt(6, result=PLAIN)]),
        "1 mails in the old form: user-00006",
    ),
    "something left": (
        changed(left={"jobs are left in pool email-pool": 2}),
        "2 jobs are left in pool email-pool",
    ),
}


@pytest.mark.parametrize("way", FAILURES)
def test_each_way_to_fail_is_found(way: str) -> None:
    whole, problem = FAILURES[way]
    verdict = judge_sign_up(whole)
    assert not verdict.holds
    assert any(found.startswith(problem) for found in verdict.problems), verdict.problems


def test_a_loss_is_one_whatever_was_not_done() -> None:
    whole = replace(without("audit"), attempts=evidence().attempts[:-1], runs=evidence().runs[:-1])
    assert judge_sign_up(whole).lost == ("user-00001", "user-00006")


# --- what may happen, and why


def reasons(whole: SignUpEvidence) -> list[tuple[str, str, Reason]]:
    verdict = judge_sign_up(whole)
    assert verdict.holds, verdict.problems
    return [(repeat.what, repeat.first, repeat.reason) for repeat in verdict.repeats]


def seen_again(at: float) -> SignUpEvidence:
    """User 1, whom `mailer 1` has handled at 1.5, comes to `mailer 2`."""
    whole = evidence()
    again = done(1, "mailer 2", at=at, deliveries=2)
    return replace(whole, done=with_done(whole, "mailer", [*whole.done["mailer"], again]))


def test_an_event_that_was_not_acknowledged_at_a_kill_comes_again() -> None:
    whole = replace(seen_again(3.0), killed={"mailer 1": 1.6})
    assert reasons(whole) == [("sign-up at mailer", "mailer 1", Reason.KILLED)]
    assert judge_sign_up(whole).repeats[0].why == "mailer 1 was killed with it in its hands"


def test_an_event_handled_long_before_the_kill_is_laid_to_silence() -> None:
    whole = replace(seen_again(9.0), killed={"mailer 1": 7.0})
    assert reasons(whole) == [("sign-up at mailer", "mailer 1", Reason.SILENT)]


def test_an_event_whose_ack_was_in_flight_when_the_server_died_comes_again() -> None:
    whole = replace(seen_again(4.0), outage=Outage(1.55, 1.8))
    assert reasons(whole) == [("sign-up at mailer", "mailer 1", Reason.SERVER)]


def test_a_job_dispatched_again_with_its_event_may_run_again() -> None:
    whole = replace(seen_again(4.0), killed={"mailer 1": 1.6})
    whole = replace(whole, runs=[*whole.runs, run(1, node=2, token=99, began=4.1, ended=4.4)])
    assert reasons(whole) == [
        ("sign-up at mailer", "mailer 1", Reason.KILLED),
        (JOB, "worker 1", Reason.REPEATED),
    ]


def test_a_job_taken_over_after_a_kill_is_explained() -> None:
    cut = run(1, ended=1.65, is_done=False)
    again = run(1, node=2, token=99, began=4.0, ended=4.3)
    whole = changed(runs=[cut, *evidence().runs[1:], again], killed={"worker 1": 1.65})
    assert reasons(whole) == [(JOB, "worker 1", Reason.KILLED)]


def test_a_job_that_a_silent_node_gave_up_is_explained() -> None:
    cut = run(1, ended=1.65, is_done=False)
    again = run(1, node=2, token=99, began=4.0, ended=4.3)
    assert reasons(changed(runs=[cut, *evidence().runs[1:], again])) == [
        (JOB, "worker 1", Reason.SILENT)
    ]


@pytest.mark.parametrize(
    ("first", "killed", "outage", "reason"),
    [
        # Cut by the kill; ended just before it; ended while the server was away; silent for its lease; given up.
        (attempt(1, outcome=None, ended=1.65), {"worker 1": 1.65}, None, Reason.KILLED),
        (attempt(1), {"worker 1": 1.75}, None, Reason.KILLED),
        (attempt(1), {}, Outage(1.68, 1.9), Reason.SERVER),
        (attempt(1, ended=4.0), {}, None, Reason.SILENT),
        (attempt(1, outcome=Outcome.STOPPED), {}, None, Reason.SILENT),
    ],
)
def test_a_mail_sent_again_is_explained(
    first: Attempt, killed: Mapping[str, float], outage: Outage | None, reason: Reason
) -> None:
    again = attempt(1, server=2, began=8.0, ended=8.1, result=COLOURFUL)
    whole = changed(attempts=[first, *evidence().attempts[1:], again], killed=killed, outage=outage)
    assert reasons(whole) == [(MAIL, "worker 1", reason)]


def test_a_refused_mail_that_is_sent_again_is_no_repetition() -> None:
    refused = attempt(1, outcome=Outcome.FAILED)
    again = attempt(1, retried=1, began=8.0, ended=8.1, result=COLOURFUL)
    whole = changed(attempts=[refused, *evidence().attempts[1:], again])
    assert reasons(whole) == []
    assert judge_sign_up(whole).retried == 1


def test_a_process_that_was_dead_when_the_flag_was_switched_need_not_know() -> None:
    whole = replace(
        of_flags(**{"mailer 2": [seen(PLAIN, 0.1)]}), killed={"mailer 2": SWITCHED_AT - 1}
    )
    assert judge_sign_up(whole).holds
    later = replace(whole, killed={"mailer 2": SWITCHED_AT + 1})
    assert judge_sign_up(later).problems == (
        "1 processes never saw the feature flag switched: mailer 2",
    )


def test_what_was_in_flight_when_the_server_died_is_counted() -> None:
    verdict = judge_sign_up(changed(outage=Outage(2.65, 2.9)))
    assert verdict.in_flight == {"sign-ups": 0, "events": 0, "mails": 1, "jobs": 1}
    verdict = judge_sign_up(changed(outage=Outage(2.995, 3.2)))
    assert verdict.in_flight == {"sign-ups": 1, "events": 0, "mails": 0, "jobs": 0}


@given(
    missing=st.sets(st.integers(1, USERS)),
    again=st.sets(st.integers(1, USERS)),
    sink=st.sampled_from(SINKS),
    order=st.randoms(use_true_random=False),
)
def test_any_history_of_a_sink_holds_exactly_if_nobody_is_missing(
    missing: set[int], again: set[int], sink: str, order: random.Random
) -> None:
    """Whatever is handed out again with a reason, and in whatever order journals are read, only losses count."""
    whole = evidence()
    process = CONSUMERS[sink]
    records = [
        *(done(number, process) for number in range(1, USERS + 1) if number not in missing),
        *(done(number, process, at=20.0, deliveries=2) for number in again),
    ]
    order.shuffle(records)
    verdict = judge_sign_up(replace(whole, done=with_done(whole, sink, records)))
    lost = {user_name(number) for number in missing - again}
    assert set(verdict.lost) == lost
    assert verdict.holds == (not lost)
    assert {repeat.user for repeat in verdict.repeats} == {
        user_name(number) for number in again - missing
    }
