"""The counts of the running sign-up flow, how they look, and the end in words."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.journal import (
    Arrived,
    Bundled,
    FlagSeen,
    JobBegan,
    JobOver,
    Ordered,
    Outcome,
    Seen,
    SignedUp,
    Switched,
    TaskBegan,
    TaskOver,
)
from pulsewire.cli.demo.plan_error import PlanError
from pulsewire.cli.demo.queue_counts import QueueCounts
from pulsewire.cli.demo.signup import summary
from pulsewire.cli.demo.signup.cast import (
    COLOURFUL,
    FORM,
    JOB,
    MAIL,
    MAILERS,
    PLAIN,
    QUEUE,
    SINKS,
    WORKERS,
    fails_of,
    job_of,
    user_name,
    user_of,
)
from pulsewire.cli.demo.signup.plan import SignUpPlan
from pulsewire.cli.demo.signup.progress import SignUpProgress
from pulsewire.cli.demo.signup.snapshot import SinkCounts
from pulsewire.cli.demo.signup.verdict import Reason, Repeat, SignUpVerdict
from pulsewire.cli.demo.signup.view import picture, plain_line
from pulsewire.cli.demo.view import View

TITLES = ("operator", *MAILERS, "analytics", "audit", *WORKERS, "web")
ADA, BOB = user_name(1), user_name(2)


@pytest.fixture
def progress() -> SignUpProgress:
    """Two users wanted; everybody has arrived, and knows the flag."""
    progress = SignUpProgress(2)
    for pid, title in enumerate(TITLES, 11):
        worker = WORKERS.index(title) + 1 if title in WORKERS else None
        progress.add(title, pid, worker)
        assert not progress.have_all_arrived
        progress.take(title, [Arrived(pid=pid, consumer=f"consumer-{pid}")])
        progress.take(title, [FlagSeen(flag=FORM, value=PLAIN, at=0.1)])
    assert progress.have_all_arrived
    return progress


def sign_up(progress: SignUpProgress, *users: str) -> None:
    progress.take(
        "web", [SignedUp(user=user, event=f"{user}-0", asked=1.0, at=1.1) for user in users]
    )


def see(progress: SignUpProgress, process: str, *users: str) -> None:
    progress.take(
        process,
        [Seen(user=user, event=f"{user}-0", began=1.2, at=1.3, deliveries=1) for user in users],
    )


def order(progress: SignUpProgress, *users: str) -> None:
    records = [Ordered(what=what, user=user, is_new=True) for user in users for what in (MAIL, JOB)]
    progress.take(MAILERS[0], records)


def begin(progress: SignUpProgress, worker: str, user: str, attempt: int = 1) -> None:
    """A worker begins with the job and the mail of a user."""
    task = TaskBegan(
        attempt=attempt, task=user, task_type="email:welcome", queue=QUEUE, retried=0, at=2.0
    )
    progress.take(worker, [JobBegan(job=job_of(user), token=attempt, at=2.0), task])


def end(
    progress: SignUpProgress, worker: str, user: str, attempt: int = 1, *, outcome: Outcome
) -> None:
    mail = TaskOver(attempt=attempt, outcome=outcome, result=PLAIN, at=2.1)
    job = JobOver(job=job_of(user), token=attempt, at=2.5, is_done=True)
    progress.take(worker, [mail, job])


def test_all_is_done_when_every_user_was_seen_mailed_and_has_confirmed(
    progress: SignUpProgress,
) -> None:
    sign_up(progress, ADA, BOB)
    order(progress, ADA, BOB)
    see(progress, "mailer 1", ADA)
    see(progress, "mailer 2", BOB)
    for sink in ("analytics", "audit"):
        see(progress, sink, ADA, BOB)
    for attempt, user in enumerate((ADA, BOB), 1):
        begin(progress, WORKERS[0], user, attempt)
    assert not progress.is_all_done
    assert progress.load_of(WORKERS[0]) == (2, 2)
    end(progress, WORKERS[0], ADA, 1, outcome=Outcome.DONE)
    end(progress, WORKERS[0], BOB, 2, outcome=Outcome.FAILED)
    assert not progress.is_all_done
    begin(progress, WORKERS[1], BOB, 3)
    end(progress, WORKERS[1], BOB, 3, outcome=Outcome.DONE)
    assert progress.is_all_done
    assert progress.mailed == 2
    shown = progress.snapshot(5.0)
    assert (shown.signed_up, shown.mailed, shown.confirmed, shown.refused) == (2, 2, 2, 1)
    assert (shown.jobs, shown.waiting) == (0, 0)
    assert [(row.name, row.handled) for row in shown.sinks] == [(sink, 2) for sink in SINKS]


@pytest.mark.parametrize("sink", ["mailer 1", "analytics", "audit"])
def test_a_user_whom_one_sink_has_not_seen_is_waited_for(
    progress: SignUpProgress, sink: str
) -> None:
    sign_up(progress, ADA, BOB)
    for process in ("mailer 1", "analytics", "audit"):
        see(progress, process, *((ADA,) if process == sink else (ADA, BOB)))
    for attempt, user in enumerate((ADA, BOB), 1):
        begin(progress, WORKERS[0], user, attempt)
        end(progress, WORKERS[0], user, attempt, outcome=Outcome.DONE)
    assert not progress.is_all_done
    see(progress, sink, BOB)
    assert progress.is_all_done


def test_what_a_killed_worker_had_is_cut_and_waits(progress: SignUpProgress) -> None:
    sign_up(progress, ADA)
    order(progress, ADA)
    begin(progress, WORKERS[0], ADA)
    assert progress.died(WORKERS[0], 2.05) == (1, 1)
    assert progress.died("mailer 1", 2.06) == (0, 0)
    (run,), (attempt,) = progress.runs, progress.attempts
    assert (run.ended, run.is_done, attempt.ended, attempt.outcome) == (2.05, False, 2.05, None)
    shown = progress.snapshot(3.0)
    assert (shown.jobs, shown.waiting) == (0, 1)
    fates = {row.title: row.fate for row in shown.processes}
    assert fates[WORKERS[0]] is fates["mailer 1"] is Fate.KILLED
    progress.stopped(WORKERS[0])
    progress.stopped("audit")
    fates = {row.title: row.fate for row in progress.rows()}
    assert (fates[WORKERS[0]], fates["audit"]) == (Fate.KILLED, Fate.STOPPED)


def test_a_flag_is_everywhere_when_all_that_live_know_it(progress: SignUpProgress) -> None:
    progress.died("mailer 1", 1.0)
    progress.take("operator", [Switched(flag=FORM, value=COLOURFUL, asked=2.0, at=2.1)])
    living = [title for title in TITLES if title != "mailer 1"]
    for reached, title in enumerate(living):
        assert not progress.is_flag_everywhere
        assert progress.snapshot(2.0).reached == reached
        progress.take(title, [FlagSeen(flag=FORM, value=COLOURFUL, at=2.1)])
    assert progress.is_flag_everywhere
    shown = progress.snapshot(3.0)
    assert (shown.form, shown.reached, shown.living) == (f"{FORM} = {COLOURFUL}", 7, 7)
    assert [seen.value for seen in progress.flags["web"]] == [PLAIN, COLOURFUL]


def test_nothing_is_left_when_the_server_says_so(progress: SignUpProgress) -> None:
    assert not progress.is_nothing_left
    for sink in SINKS:
        progress.set_sink(sink, SinkCounts(pending=0, lag=0))
    progress.set_sink("of somebody else", SinkCounts(pending=7, lag=0))
    progress.queue = QueueCounts(retry=1)
    assert not progress.is_nothing_left
    progress.queue = QueueCounts(completed=2)
    assert progress.is_nothing_left
    progress.is_away = True
    assert not progress.is_nothing_left
    progress.is_away = False
    progress.set_sink("audit", SinkCounts(pending=1, lag=0))
    assert not progress.is_nothing_left


def test_each_thing_that_goes_on_is_a_step(progress: SignUpProgress) -> None:
    steps = [progress.step]
    sign_up(progress, ADA)
    steps.append(progress.step)
    see(progress, "audit", ADA)
    steps.append(progress.step)
    begin(progress, WORKERS[0], ADA)
    end(progress, WORKERS[0], ADA, outcome=Outcome.DONE)
    steps.append(progress.step)
    assert len(set(steps)) == len(steps)
    see(progress, "audit", ADA)  # once more
    assert progress.step == steps[-1]


def test_a_record_from_elsewhere_is_a_defect(progress: SignUpProgress) -> None:
    with pytest.raises(AssertionError, match="nobody writes this"):
        progress.take(WORKERS[0], [Bundled(task="digest", members=())])


# --- how it looks


def shown_at(progress: SignUpProgress, elapsed: float) -> tuple[str, str]:
    """The picture and the plain line."""
    snapshot = progress.snapshot(elapsed)
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    console.print(picture(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), plain_line(snapshot)


def test_the_view_shows_all_four_blocks(progress: SignUpProgress) -> None:
    sign_up(progress, ADA)
    order(progress, ADA)
    see(progress, "mailer 2", ADA)
    begin(progress, WORKERS[1], ADA)
    progress.tell(1.5, "something has happened")
    before, _ = shown_at(progress, 2.0)
    assert "queue welcome" not in before  # nobody was asked yet
    progress.set_sink("mailer", SinkCounts(pending=1, lag=3))
    progress.queue = QueueCounts(pending=4, active=1, retry=5)
    view, line = shown_at(progress, 3.0)
    for text in (
        *(
            "stream users",
            "mailer     1  0/s  pending 1  lag 3",
            "audit      0  0/s  pending -  lag -",
        ),
        *("map feature-flags", "welcome.form = plain", "at 8 of 8 processes"),
        *("pool email-pool", "running 1", "owns 1 jobs, sends 1 mails"),
        *("queue welcome", "pending 4, active 1, retry 5"),
        "  1.5 s  something has happened",
    ):
        assert text in view, text
    assert "Redis is away" not in view + line
    assert line.startswith("  3.0 s  signed up 1/2 (50%)")
    assert "mailer 1  analytics 0  audit 0  welcome.form = plain at 8/8  jobs 1" in line
    assert line.endswith("retry 5  mailed 0")
    progress.is_away = True
    view, line = shown_at(progress, 4.0)
    assert "Redis is away" in view
    assert line.endswith("Redis is away")


def test_without_a_terminal_news_come_once_and_lines_each_second(progress: SignUpProgress) -> None:
    printed = io.StringIO()
    progress.tell(0.1, "something has happened")
    with View(picture, plain_line, Console(file=printed, width=40)) as view:
        for elapsed in (0.5, 1.2, 1.5, 2.3):
            view.show(progress.snapshot(elapsed))
    lines = printed.getvalue().splitlines()
    assert [line[:7] for line in lines] == ["  0.1 s", "  1.2 s", "  2.3 s"]


# --- the end in words


def verdict(*problems: str, **changed: Any) -> SignUpVerdict:
    values: dict[str, Any] = {
        "signed_up": 1200,
        "handled": dict.fromkeys(SINKS, 1200),
        "mailed": 1200,
        "retried": 210,
        "confirmed": 1200,
        "lost": (),
        "repeats": (),
        "forms": {PLAIN: 500, COLOURFUL: 700},
        "reached": 7,
        "spread": 0.004,
        "in_flight": {"sign-ups": 1, "events": 6},
        "slowest": 0.4671,
    }
    return SignUpVerdict(problems=problems, **{**values, **changed})


def test_each_line_of_the_check_has_its_number() -> None:
    repeats = [Repeat(JOB, user_name(n), "worker 2", Reason.KILLED) for n in range(1, 6)]
    repeats.append(Repeat(MAIL, ADA, "worker 1", Reason.SERVER))
    found = list(summary.findings(verdict(repeats=tuple(repeats)), seconds=41.0))
    lines = {finding.what: finding.result for finding in found}
    assert len(lines) == len(found)
    assert lines["seen by audit"] == "1,200"
    assert lines["users lost on the way"] == "0"
    assert lines[f"{FORM} switched"] == "7 processes within 4.0 ms; mails: 700 colourful, 500 plain"
    assert lines["in flight when Redis was killed"] == "1 sign-ups, 6 events"
    assert lines["longest wait to sign up"] == "467.1 ms"
    assert lines["begun or done twice"] == "6"
    assert lines[f"  {JOB}: 5"] == (
        "worker 2 was killed with it in its hands (user-00001, user-00002, user-00003, and 2 more)"
    )
    assert lines[f"  {MAIL}: 1"] == "it was in flight when Redis was killed (user-00001)"
    assert lines["time"] == "41.0 s"


def test_a_server_that_was_not_killed_is_not_spoken_of() -> None:
    found = summary.findings(verdict(in_flight={}), seconds=41.0)
    assert "in flight when Redis was killed" not in {finding.what for finding in found}


def test_the_end_says_whether_it_holds(
    progress: SignUpProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.died(WORKERS[0], 3.0)
    summary.show(verdict(), progress.rows(), seconds=41.0)
    printed = capsys.readouterr()
    assert "It holds" in printed.out
    assert "worker 1    16  0 jobs, 0 mails sent, 0 refused  killed" in printed.out
    assert printed.err == ""
    summary.show(verdict("3 users never mailed: user-00001"), progress.rows(), seconds=41.0)
    printed = capsys.readouterr()
    assert "It holds" not in printed.out
    assert printed.err == "error: 3 users never mailed: user-00001\n"


# --- the numbers


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"users": 19}, "--users"),
        ({"ack_grace": 0.0}, "--ack-grace"),
        ({"worker_ttl": 0.4}, "--worker-ttl"),
        ({"lease": 0.9}, "--lease"),
    ],
)
def test_impossible_numbers_are_refused(options: dict[str, Any], culprit: str) -> None:
    with pytest.raises(PlanError) as refused:
        SignUpPlan(**options)
    assert refused.value.option == culprit


def test_many_users_take_no_longer_than_some_and_few_come_quickly() -> None:
    assert SignUpPlan(users=7200).rate == 6 * SignUpPlan(users=1200).rate
    assert SignUpPlan(users=20).rate == SignUpPlan(users=40).rate
    assert SignUpPlan(users=20).part(0.01) == 1
    assert SignUpPlan(lease=20.0).patience > SignUpPlan().patience > 20.0


def test_some_mails_are_refused_once_and_a_few_twice() -> None:
    fails = [fails_of(number) for number in range(1, 41)]
    assert (fails.count(0), fails.count(1), fails.count(2)) == (34, 5, 1)


def test_a_job_is_its_users() -> None:
    assert user_of(job_of(ADA)) == ADA
