"""The course of the act: starts the crew, has tickets published, kills one consumer, waits for the end, and replays.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pulsewire
from pulsewire.cli import tickets
from pulsewire.cli.demo.crew import Crew
from pulsewire.cli.demo.director import Director
from pulsewire.cli.demo.fate import Fate
from pulsewire.cli.demo.tickets.plan import Plan
from pulsewire.cli.demo.tickets.progress import ConsumerRow, Progress, Snapshot
from pulsewire.cli.demo.tickets.verdict import Evidence, Verdict, judge
from pulsewire.cli.demo.view import View

__all__ = ["TicketsDirector"]

_ASK_EVERY = 0.5
"""Seconds between two questions to the server."""
_PUBLISHER = "publisher"


class TicketsDirector(Director[Progress, Snapshot, Verdict]):
    """Runs the act once.

    Args:
        plan: The numbers.
        stream: The stream of tickets, in the namespace of this demo.
        crew: Starts the processes.
        publisher: Arguments of the publisher's command line.
        consumer: Arguments of each consumer's command line.

    Attributes:
        left_behind: Events that were in the hands of the consumer that was killed.
    """

    def __init__(
        self,
        plan: Plan,
        stream: pulsewire.Stream[Any],
        crew: Crew,
        *,
        publisher: Sequence[str],
        consumer: Sequence[str],
    ) -> None:
        super().__init__(plan, crew, Progress(plan.tickets), ask_every=_ASK_EVERY)
        self.left_behind = 0
        self._plan = plan
        self._stream = stream
        self._publisher_arguments = publisher
        self._consumer_arguments = consumer
        self._consumers: dict[int, str] = {}
        self._victim: int | None = None
        self._held: dict[str, int] = {}

    @property
    def consumers(self) -> tuple[ConsumerRow, ...]:
        """What each consumer did."""
        return self._progress.rows()

    async def _play(self, view: View[Snapshot]) -> Verdict:
        progress = self._progress
        await self._start(view)
        if self._plan.kill:
            await self._until(view, lambda: progress.handled_events >= self._plan.killed_at)
            await self._kill_one()
        await self._until(view, lambda: progress.is_all_handled)
        await self._ask_now()
        await self._until(view, lambda: progress.is_all_handled and progress.pending == 0)
        await self._end(view)
        return await self._replay()

    def _snapshot(self) -> Snapshot:
        return self._progress.snapshot(self.elapsed)

    def _stand(self) -> str:
        progress = self._progress
        return (
            f"published {len(progress.published):,}, "
            f"handled {progress.handled_events:,} of {self._plan.tickets:,}, "
            f"pending {progress.pending}, not yet delivered {progress.lag}"
        )

    async def _ask(self) -> None:
        """Ask the server how the group stands, and how many events each of its consumers holds."""
        info = await self._stream.info()
        group = next((group for group in info.groups if group.name == tickets.GROUP), None)
        if group is not None:
            self._progress.pending, self._progress.lag = group.pending, group.lag
            self._held = {consumer.name: consumer.pending for consumer in group.consumers}

    # --- turns of events

    async def _start(self, view: View[Snapshot]) -> None:
        self._tell("starting the processes")
        progress = self._progress
        for number in range(1, self._plan.consumers + 1):
            self._consumers[number] = title = f"consumer {number}"
            take = partial(progress.from_consumer, number)
            member = await self._hire(title, self._consumer_arguments, take)
            progress.add_consumer(number, member.pid)
        publisher = await self._hire(
            _PUBLISHER, self._publisher_arguments, progress.from_publisher, may_end=True
        )
        await self._until(view, lambda: progress.have_all_arrived)
        self._tell("all consumers have joined, tickets are being published")
        await publisher.say_go()

    async def _kill_one(self) -> None:
        await self._ask_now()
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if self._held_by(number)]
        self._victim = victim = self._rng.choice(busy or working)
        title = self._consumers[victim]
        await self._kill(title)
        self._progress.set_fate(victim, Fate.KILLED)
        await self._ask_now()
        self.left_behind = self._held_by(victim)
        self._tell(
            f"killed {title} (pid {self._members[title].pid}) with SIGKILL after "
            f"{self._progress.handled_events:,} tickets; it held {self.left_behind}"
        )

    def _held_by(self, number: int) -> int:
        return self._held.get(self._progress.name_of(number), 0)

    async def _end(self, view: View[Snapshot]) -> None:
        self._tell("everything is handled, the consumers end")
        await self._stop(*self._consumers.values())
        await self._wait_stopped(_PUBLISHER)
        for number in self._consumers:
            if number != self._victim:
                self._progress.set_fate(number, Fate.STOPPED)
        await self._ask_now()
        view.show(self._snapshot())

    async def _replay(self) -> Verdict:
        replayed: list[tuple[str, str]] = []
        async with self._stream.reader(start="oldest", follow=False) as reader:
            async for event in reader:
                ticket = tickets.ticket_of(event)
                replayed.append((event.id, ticket.number if ticket else ""))
        killed = (
            frozenset()
            if self._victim is None
            else frozenset({self._progress.name_of(self._victim)})
        )
        return judge(
            Evidence(
                wanted=self._plan.tickets,
                published=self._progress.published,
                replayed=replayed,
                handled=self._progress.handled,
                killed=killed,
                pending=self._progress.pending or 0,
            )
        )
