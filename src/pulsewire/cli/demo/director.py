"""The course of an act, as far as all acts share it: look at everything until something is so, kill, and stop.

Decides nothing about right and wrong (`verdict.py` of each act), keeps no counts (`progress.py`) and draws nothing
(`view.py`). What happens in which order is up to the director of each act.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import anyio

from pulsewire.cli.demo.crew import Crew, DemoFailed, Member
from pulsewire.cli.demo.journal import Record
from pulsewire.cli.demo.patience import Patience
from pulsewire.cli.demo.view import Shown, View

__all__ = ["Counts", "Director", "Numbers", "Stuck", "Take"]

_TICK = 0.1
"""Seconds between two looks at journals and processes."""

S = TypeVar("S", bound=Shown)
S_co = TypeVar("S_co", bound=Shown, covariant=True)
V = TypeVar("V")

Take = Callable[[Iterable[Record]], None]
"""Takes in what a process wrote."""


class Stuck(DemoFailed):
    """Nothing went on for too long."""


class Numbers(Protocol):
    """What every plan tells."""

    @property
    def seed(self) -> int | None:
        """Makes the choice of victims repeatable."""
        ...

    @property
    def patience(self) -> float:
        """Seconds without any progress after which the demo gives up."""
        ...


class Counts(Protocol[S_co]):
    """What the progress of every act can do."""

    @property
    def step(self) -> object:
        """Changes whenever something went on."""
        ...

    def tell(self, elapsed: float, news: str) -> None:
        """Take note of something that happened."""
        ...

    def snapshot(self, elapsed: float) -> S_co:
        """Return what to show."""
        ...


P = TypeVar("P", bound=Counts[Shown])


class Director(ABC, Generic[P, S, V]):
    """Runs one act once.

    Args:
        plan: Its numbers.
        crew: Starts the processes.
        progress: Counts what is told.
        ask_every: Seconds between two questions to the server.
    """

    def __init__(self, plan: Numbers, crew: Crew, progress: P, *, ask_every: float) -> None:
        self._crew = crew
        self._progress = progress
        self._rng = random.Random(plan.seed)
        self._members: dict[str, Member] = {}
        self._takes: dict[str, Take] = {}
        self._may_end: set[str] = set()
        self._killed: set[str] = set()
        self._ask_every = ask_every
        self._asked_at = 0.0
        self._patience = Patience(plan.patience)
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the act began."""
        return time.monotonic() - self._began

    async def run(self, view: View[S]) -> V:
        """Run the act to its end.

        Raises:
            DemoFailed: A process ended unexpectedly, or nothing went on for too long.
        """
        async with self._crew:
            try:
                return await self._play(view)
            except BaseException:
                await self._break_off()
                raise

    # --- what an act says

    @abstractmethod
    async def _play(self, view: View[S]) -> V:
        """What happens in the act, one thing after the other."""

    @abstractmethod
    def _snapshot(self) -> S:
        """What to show now."""

    @abstractmethod
    def _stand(self) -> str:
        """Where the act stands, for the error that tells that nothing went on."""

    async def _ask(self) -> None:
        """Ask the server what the journals do not tell. Called every `ask_every` seconds."""

    async def _break_off(self) -> None:
        """What to do before the crew is ended, when the act cannot go on."""

    # --- looking

    def _tell(self, news: str) -> None:
        self._progress.tell(self.elapsed, news)

    async def _until(self, view: View[S], is_so: Callable[[], bool]) -> None:
        """Look at everything, and show it, until something is so."""
        while True:
            self._read_journals()
            self._check_crew()
            self._check_progress()
            if time.monotonic() - self._asked_at >= self._ask_every:
                await self._ask_now()
            view.show(self._snapshot())
            if is_so():
                return
            await anyio.sleep(_TICK)

    async def _ask_now(self) -> None:
        await self._ask()
        self._asked_at = time.monotonic()

    def _read_journals(self) -> None:
        for title, member in self._members.items():
            if title not in self._killed:
                self._takes[title](member.journal.read_new())

    def _check_crew(self) -> None:
        for title, member in self._members.items():
            has_ended = member.exit_code is not None and title not in self._killed
            if has_ended and (member.exit_code or title not in self._may_end):
                raise member.failure()

    def _check_progress(self) -> None:
        if self._patience.is_over(self._progress.step):
            raise Stuck(f"nothing went on for {self._patience.seconds:.0f} s: {self._stand()}")

    # --- the processes

    async def _hire(
        self, title: str, arguments: Sequence[str], take: Take, *, may_end: bool = False
    ) -> Member:
        """Start a process.

        Args:
            title: What the user calls it.
            arguments: Of its command line.
            take: Takes in what it writes.
            may_end: Whether it may end by itself, when its work is done.
        """
        member = await self._crew.hire(title, arguments)
        self._members[title], self._takes[title] = member, take
        if may_end:
            self._may_end.add(title)
        return member

    async def _kill(self, title: str) -> float:
        """End a process with SIGKILL, and take in its last lines; returns when it was dead."""
        member = self._members[title]
        await member.kill()
        dead_at = time.monotonic()
        self._takes[title](member.journal.read_new())
        self._killed.add(title)
        return dead_at

    async def _stop(self, *titles: str) -> None:
        """Ask those that live to stop, wait until they have, and take in what they wrote meanwhile."""
        living = [self._members[title] for title in titles if title not in self._killed]
        for member in living:
            member.ask_to_stop()
        await self._wait_stopped(*titles)

    async def _wait_stopped(self, *titles: str) -> None:
        for title in titles:
            if title not in self._killed:
                await self._members[title].wait_stopped()
        self._read_journals()
