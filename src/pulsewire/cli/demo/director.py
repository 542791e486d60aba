"""The course of the demo: starts the crew, watches it, kills one, waits for the end, replays and has it judged.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import anyio

import pulsewire
from pulsewire.cli import tickets
from pulsewire.cli.demo.crew import Crew, DemoFailed, Member
from pulsewire.cli.demo.patience import Patience
from pulsewire.cli.demo.plan import Plan
from pulsewire.cli.demo.progress import ConsumerRow, Fate, Progress, Snapshot
from pulsewire.cli.demo.verdict import Evidence, Verdict, judge
from pulsewire.cli.demo.view import View

__all__ = ["Director"]

_TICK = 0.1
"""Seconds between two looks at journals and processes."""
_ASK_EVERY = 0.5
"""Seconds between two questions to the server."""


class Director:
    """Runs one demo.

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
        self.left_behind = 0
        self._plan = plan
        self._stream = stream
        self._crew = crew
        self._publisher_arguments = publisher
        self._consumer_arguments = consumer
        self._progress = Progress(plan.tickets)
        self._rng = random.Random(plan.seed)
        self._publisher: Member | None = None
        self._consumers: dict[int, Member] = {}
        self._may_publish = False
        self._killed: int | None = None
        self._began = time.monotonic()
        self._asked_at = self._began
        self._patience = Patience(plan.patience)

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    @property
    def consumers(self) -> tuple[ConsumerRow, ...]:
        """What each consumer did."""
        return self._progress.rows()

    async def run(self, view: View[Snapshot]) -> Verdict:
        """Run the demo to its end.

        Raises:
            DemoFailed: A process ended unexpectedly, or nothing went on for too long.
        """
        async with self._crew:
            await self._start()
            while not await self._is_done():
                view.show(self._progress.snapshot(self.elapsed))
                await anyio.sleep(_TICK)
            await self._stop()
            view.show(self._progress.snapshot(self.elapsed))
        return await self._replay()

    def _tell(self, news: str) -> None:
        self._progress.tell(self.elapsed, news)

    async def _start(self) -> None:
        self._tell("starting the processes")
        for number in range(1, self._plan.consumers + 1):
            member = await self._crew.hire(f"consumer {number}", self._consumer_arguments)
            self._consumers[number] = member
            self._progress.add_consumer(number, member.pid)
        self._publisher = await self._crew.hire("publisher", self._publisher_arguments)

    async def _is_done(self) -> bool:
        """Make one look at everything, do what is due, and return whether all is handled."""
        publisher = self._read_journals()
        self._check_crew(publisher)
        self._check_progress()
        if not self._may_publish and self._progress.have_all_arrived:
            self._may_publish = True
            self._tell("all consumers have joined, tickets are being published")
            await publisher.say_go()
        if (
            self._plan.kill
            and self._killed is None
            and self._progress.handled_events >= self._plan.killed_at
        ):
            await self._kill_one()
        is_all_handled = self._progress.is_all_handled
        if is_all_handled or time.monotonic() - self._asked_at >= _ASK_EVERY:
            await self._ask()
        return is_all_handled and self._progress.pending == 0 and self._killed_is_settled

    @property
    def _killed_is_settled(self) -> bool:
        return self._killed is not None or not self._plan.kill

    def _read_journals(self) -> Member:
        if self._publisher is None:
            raise AssertionError("the crew is hired before anybody looks at its journals")
        self._progress.from_publisher(self._publisher.journal.read_new())
        for number, member in self._consumers.items():
            self._progress.from_consumer(number, member.journal.read_new())
        return self._publisher

    def _check_crew(self, publisher: Member) -> None:
        if publisher.exit_code:
            raise publisher.failure()
        for number, member in self._consumers.items():
            if member.exit_code is not None and number != self._killed:
                raise member.failure()

    def _check_progress(self) -> None:
        if self._patience.is_over(self._progress.step):
            raise DemoFailed(
                f"nothing went on for {self._plan.patience:.0f} s: "
                f"published {len(self._progress.published):,}, "
                f"handled {self._progress.handled_events:,} of {self._plan.tickets:,}, "
                f"pending {self._progress.pending}, not yet delivered {self._progress.lag}"
            )

    async def _ask(self) -> dict[str, int]:
        """Ask the server how the group stands; return how many events each of its consumers holds."""
        info = await self._stream.info()
        self._asked_at = time.monotonic()
        group = next((group for group in info.groups if group.name == tickets.GROUP), None)
        if group is None:
            return {}
        self._progress.pending, self._progress.lag = group.pending, group.lag
        return {consumer.name: consumer.pending for consumer in group.consumers}

    async def _kill_one(self) -> None:
        held = await self._ask()
        working = [row.number for row in self._progress.rows() if row.fate is Fate.WORKING]
        busy = [number for number in working if held.get(self._progress.name_of(number))]
        self._killed = self._rng.choice(busy or working)
        member = self._consumers[self._killed]
        await member.kill()
        self._progress.set_fate(self._killed, Fate.KILLED)
        self.left_behind = (await self._ask()).get(self._progress.name_of(self._killed), 0)
        self._tell(
            f"killed {member.title} (pid {member.pid}) with SIGKILL after "
            f"{self._progress.handled_events:,} tickets; it held {self.left_behind}"
        )

    async def _stop(self) -> None:
        self._tell("everything is handled, the consumers end")
        working = {
            number: member for number, member in self._consumers.items() if number != self._killed
        }
        for member in working.values():
            member.ask_to_stop()
        for number, member in working.items():
            await member.wait_stopped()
            self._progress.set_fate(number, Fate.STOPPED)
        await self._read_journals().wait_stopped()
        # Once more: what they wrote while they ended counts too.
        self._read_journals()
        await self._ask()

    async def _replay(self) -> Verdict:
        replayed: list[tuple[str, str]] = []
        async with self._stream.reader(start="oldest", follow=False) as reader:
            async for event in reader:
                ticket = tickets.ticket_of(event)
                replayed.append((event.id, ticket.number if ticket else ""))
        killed = (
            frozenset()
            if self._killed is None
            else frozenset({self._progress.name_of(self._killed)})
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
