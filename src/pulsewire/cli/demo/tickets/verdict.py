"""Decides whether the demo held what it promises. Pure: takes what was written down, returns findings.

Three independent accounts are compared: the publisher's journal, the stream as a reader replays it, and the consumers'
journals. The promise is *at least once*: no ticket lost, and each one handled twice has a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from pulsewire.cli.demo.journal import Handled, Published
from pulsewire.cli.demo.problems import problems

__all__ = ["Evidence", "Reason", "Repeat", "Verdict", "judge"]


class Reason(Enum):
    """Why a ticket was handled more than once."""

    KILLED = "the killed consumer had done the work, and died before it could acknowledge"
    SLOW = "its consumer was silent for longer than the ack grace, so another one took it over"
    UNEXPLAINED = "it was delivered again although nobody had given it up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was written down.

    Attributes:
        wanted: How many tickets the publisher was to publish.
        published: The publisher's journal.
        replayed: Event id and ticket number of each entry, in the order of the stream.
        handled: The journals of all consumers, in any order.
        killed: The consumers that were killed.
        pending: Events that the group still waits for, at the end.
    """

    wanted: int
    published: Sequence[Published]
    replayed: Sequence[tuple[str, str]]
    handled: Sequence[Handled]
    killed: frozenset[str]
    pending: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """A ticket that was handled more than once."""

    event: str
    ticket: str
    times: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the evidence says.

    Attributes:
        problems: What is wrong, each with its culprits. Empty when the promise held.
        published: How many tickets the publisher says it published.
        replayed: How many the stream holds.
        handled: How many different ones were handled.
        lost: Event ids that nobody handled.
        repeats: The tickets handled more than once, and why.
        taken_over: How many different ones were finished by somebody else than who got them first.
        while_publishing: How many had been handled when the last one was published.
    """

    problems: tuple[str, ...]
    published: int
    replayed: int
    handled: int
    lost: tuple[str, ...]
    repeats: tuple[Repeat, ...]
    taken_over: int
    while_publishing: int

    @property
    def holds(self) -> bool:
        """Whether every ticket was handled, and each repetition is explained."""
        return not self.problems


def judge(evidence: Evidence) -> Verdict:
    """Compare the accounts."""
    accounts = _Accounts.of(evidence)
    last_published = max((record.at for record in evidence.published), default=0.0)
    return Verdict(
        problems=tuple(_problems(evidence, accounts)),
        published=len(accounts.published),
        replayed=len(accounts.replayed),
        handled=len(accounts.handled),
        lost=accounts.lost,
        repeats=accounts.repeats,
        taken_over=sum(
            any(record.deliveries > 1 for record in records)
            for records in accounts.handled.values()
        ),
        while_publishing=sum(
            records[0].ended <= last_published for records in accounts.handled.values()
        ),
    )


@dataclass(frozen=True, slots=True)
class _Accounts:
    """The evidence by event id: ticket numbers, and what was handled, earliest first."""

    published: dict[str, str]
    replayed: dict[str, str]
    handled: dict[str, list[Handled]]
    lost: tuple[str, ...]
    repeats: tuple[Repeat, ...]

    @classmethod
    def of(cls, evidence: Evidence) -> _Accounts:
        handled: dict[str, list[Handled]] = defaultdict(list)
        for record in sorted(evidence.handled, key=lambda record: record.started):
            handled[record.event].append(record)
        published = {record.event: record.ticket for record in evidence.published}
        replayed = dict(evidence.replayed)
        return cls(
            published=published,
            replayed=replayed,
            handled=dict(handled),
            lost=tuple(event for event in published | replayed if event not in handled),
            repeats=tuple(
                Repeat(event, records[0].ticket, len(records), _reason(records, evidence.killed))
                for event, records in handled.items()
                if len(records) > 1
            ),
        )


def _problems(evidence: Evidence, accounts: _Accounts) -> Iterable[str]:
    published, replayed, handled = accounts.published, accounts.replayed, accounts.handled
    if len(published) != evidence.wanted:
        yield f"{len(published):,} tickets were published, {evidence.wanted:,} were wanted"
    if len(replayed) != len(evidence.replayed):
        yield f"the replay gave {len(evidence.replayed) - len(replayed):,} events more than once"
    culprits: dict[str, Iterable[str]] = {
        "published, but not in the stream": (event for event in published if event not in replayed),
        "in the stream, but never published": (
            event for event in replayed if event not in published
        ),
        "never handled by anybody": accounts.lost,
        "handled, but neither published nor in the stream": (
            event for event in handled if event not in published and event not in replayed
        ),
        "handled with another ticket number than was published": (
            event
            for event, records in handled.items()
            if any(record.ticket != published.get(event, record.ticket) for record in records)
        ),
        "with another ticket number in the stream than was published": (
            event for event, ticket in replayed.items() if published.get(event, ticket) != ticket
        ),
        "handled more than once without a reason": (
            repeat.event for repeat in accounts.repeats if repeat.reason is Reason.UNEXPLAINED
        ),
    }
    yield from problems("events", culprits)
    if evidence.pending:
        yield f"{evidence.pending:,} events are still pending in the group"


def _reason(records: Sequence[Handled], killed: frozenset[str]) -> Reason:
    *earlier, _ = records
    if any(record.deliveries <= 1 for record in records[1:]):
        return Reason.UNEXPLAINED
    return Reason.KILLED if all(record.consumer in killed for record in earlier) else Reason.SLOW
