"""The course of the act: users sign up, and meanwhile a mailer, the server and a worker are killed, a flag is switched.

Decides nothing about right and wrong (`verdict.py`), keeps no counts (`progress.py`) and draws nothing (`view.py`).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio

import pulsewire
from pulsewire import errors
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.crew import Crew, DemoFailed
from pulsewire.cli.demo.director import Director, Stuck
from pulsewire.cli.demo.queue_counts import counts_of
from pulsewire.cli.demo.signup.cast import (
    COLOURFUL,
    FORM,
    MAILER,
    MAILERS,
    OPERATOR,
    POOL,
    QUEUE,
    SINKS,
    WEB,
    WORKERS,
    user_stream,
)
from pulsewire.cli.demo.signup.plan import SignUpPlan
from pulsewire.cli.demo.signup.progress import SignUpProgress
from pulsewire.cli.demo.signup.snapshot import ProcessRow, SignUpSnapshot, SinkCounts
from pulsewire.cli.demo.signup.verdict import (
    Outage,
    SignUpEvidence,
    SignUpVerdict,
    judge_sign_up,
)
from pulsewire.cli.demo.view import View

__all__ = ["ServerPid", "SignUpDirector"]

_ASK_EVERY = 0.5
"""Seconds between two questions to the server."""
_ASK_WITHIN = 1.0
"""Seconds after which it is away."""
_BACK_WITHIN = 30.0
"""Seconds within which the server must answer again when it was killed."""
_LOOK_AGAIN = 0.01
"""Seconds between two looks whether there is a new one."""

# What happens when which part of the users has signed up.
_KILL_MAILER_AT = 0.2
_SWITCH_AT = 0.4
_KILL_SERVER_AT = 0.55
_KILL_WORKER_AT = 0.75

ServerPid = Callable[[], Awaitable[int | None]]
"""Returns the process of the server; None while there is none."""


class SignUpDirector(Director[SignUpProgress, SignUpSnapshot, SignUpVerdict]):
    """Runs the act once.

    Args:
        plan: The numbers.
        hub: In the namespace of this demo.
        crew: Starts the processes.
        parts: Name of each process -> arguments of its command line, in the order in which they are started.
        server_pid: Says which process the server is; None when it is not ours to kill.
    """

    def __init__(
        self,
        plan: SignUpPlan,
        hub: pulsewire.Hub,
        crew: Crew,
        *,
        parts: Mapping[str, Sequence[str]],
        server_pid: ServerPid | None,
    ) -> None:
        super().__init__(plan, crew, SignUpProgress(plan.users), ask_every=_ASK_EVERY)
        self._plan = plan
        self._hub = hub
        self._parts = parts
        self._server_pid = server_pid
        self._users = user_stream(hub, None)
        self._held: dict[str, int] = {}
        self._killed_at: dict[str, float] = {}
        self._outage: Outage | None = None

    @property
    def processes(self) -> tuple[ProcessRow, ...]:
        """What each process did."""
        return self._progress.rows()

    async def _play(self, view: View[SignUpSnapshot]) -> SignUpVerdict:
        progress, part = self._progress, self._plan.part
        await self._start(view)
        if self._plan.kill:
            await self._until(view, lambda: len(progress.signed_up) >= part(_KILL_MAILER_AT))
            await self._kill_mailer(view)
        await self._until(view, lambda: len(progress.signed_up) >= part(_SWITCH_AT))
        await self._switch(view)
        if self._plan.kill and self._server_pid is not None:
            await self._until(view, lambda: len(progress.signed_up) >= part(_KILL_SERVER_AT))
            await self._kill_server(self._server_pid)
        if self._plan.kill:
            await self._until(view, lambda: len(progress.signed_up) >= part(_KILL_WORKER_AT))
            await self._kill_worker(view)
        await self._wait_all_done(view)
        await self._end(view)
        return judge_sign_up(await self._evidence())

    async def _break_off(self) -> None:
        await self._crew.stop_all()  # a worker that ends in order leaves less to clear up

    def _snapshot(self) -> SignUpSnapshot:
        return self._progress.snapshot(self.elapsed)

    def _stand(self) -> str:
        shown = self._snapshot()
        sinks = ", ".join(f"{row.name} {row.handled:,}" for row in shown.sinks)
        return (
            f"signed up {shown.signed_up:,} of {shown.wanted:,}, seen by {sinks}, "
            f"mailed {shown.mailed:,}, confirmed {shown.confirmed:,}"
        )

    async def _ask(self) -> None:
        """Ask the server how the sinks and the queue stand. While it is away, the old answers count."""
        self._progress.is_away = True
        with anyio.move_on_after(_ASK_WITHIN):
            try:
                info = await self._users.info()
                queue = await clearing.info_of(self._hub, QUEUE)
            except errors.ServerUnavailable:
                return
            self._progress.is_away = False
            for group in info.groups:
                counts = SinkCounts(pending=group.pending, lag=group.lag)
                self._progress.set_sink(group.name, counts)
                if group.name == MAILER:
                    self._held = {one.name: one.pending for one in group.consumers}
            self._progress.queue = counts_of(queue)

    # --- turns of events

    async def _start(self, view: View[SignUpSnapshot]) -> None:
        self._tell("starting the processes")
        for title, arguments in self._parts.items():
            member = await self._hire(title, arguments, partial(self._progress.take, title))
            worker = WORKERS.index(title) + 1 if title in WORKERS else None
            self._progress.add(title, member.pid, worker)
        await self._until(view, lambda: self._progress.have_all_arrived)
        self._tell(f"all {len(self._parts)} processes work, users sign up")
        await self._members[WEB].say_go()

    async def _kill_mailer(self, view: View[SignUpSnapshot]) -> None:
        def busy() -> list[str]:
            return [title for title in MAILERS if self._held_by(title)]

        # Of a few users, all may have come and gone meanwhile.
        await self._until(view, lambda: bool(busy()) or self._progress.has_everybody_signed_up)
        title = self._rng.choice(busy() or MAILERS)
        await self._kill_member(title)
        await self._ask_now()
        self._tell(
            f"killed {title} (pid {self._members[title].pid}) with SIGKILL after "
            f"{len(self._progress.signed_up):,} sign-ups; it held {self._held_by(title):,} events"
        )

    async def _switch(self, view: View[SignUpSnapshot]) -> None:
        await self._members[OPERATOR].say_go()
        await self._until(view, lambda: self._progress.is_flag_everywhere)
        self._tell(
            f"the operator has switched {FORM} to {COLOURFUL}: "
            f"{self._snapshot().living} processes know it"
        )

    async def _kill_server(self, server_pid: ServerPid) -> None:
        pid = await server_pid()
        if pid is None:
            raise DemoFailed("the embedded server does not run")
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with anyio.move_on_after(_BACK_WITHIN):
            await self._wait_back(server_pid, pid)
            self._outage = Outage(killed_at, time.monotonic())
        if self._outage is None:
            raise DemoFailed(f"the server was killed, and is not back after {_BACK_WITHIN:.0f} s")
        self._tell(
            f"killed the server (pid {pid}) with SIGKILL after {len(self._progress.signed_up):,} sign-ups; "
            f"its keeper has started it again, it answered after {self._outage.ended - killed_at:.2f} s"
        )

    async def _wait_back(self, server_pid: ServerPid, killed: int) -> None:
        """Wait until another process is the server, and answers."""
        pid: int | None = killed
        while pid is None or pid == killed:
            await anyio.sleep(_LOOK_AGAIN)
            pid = await server_pid()
        await self._hub.ping()

    async def _kill_worker(self, view: View[SignUpSnapshot]) -> None:
        progress = self._progress

        def busy() -> list[str]:
            return [title for title in WORKERS if sum(progress.load_of(title))]

        await self._until(view, lambda: bool(busy()) or progress.is_all_done)
        title = self._rng.choice(busy() or WORKERS)
        jobs, mails = await self._kill_member(title)
        self._tell(
            f"killed {title} (pid {self._members[title].pid}) with SIGKILL after "
            f"{len(progress.signed_up):,} sign-ups; it ran {jobs:,} jobs and sent {mails:,} mails"
        )

    async def _kill_member(self, title: str) -> tuple[int, int]:
        self._killed_at[title] = await self._kill(title)
        return self._progress.died(title, self._killed_at[title])

    def _held_by(self, title: str) -> int:
        return self._held.get(self._progress.consumer_of(title), 0)

    # --- the end

    async def _wait_all_done(self, view: View[SignUpSnapshot]) -> None:
        try:
            await self._until(view, lambda: self._progress.is_all_done)
            self._tell("everybody was seen, mailed and has confirmed; the processes end")
            await self._ask_now()
            await self._until(view, lambda: self._progress.is_nothing_left)
        except Stuck as stuck:
            # Something is missing for good: the verdict says for whom.
            self._tell(str(stuck))

    async def _end(self, view: View[SignUpSnapshot]) -> None:
        await self._stop(*self._parts)
        for title in self._parts:
            self._progress.stopped(title)
        await self._ask_now()
        view.show(self._snapshot())

    async def _evidence(self) -> SignUpEvidence:
        progress = self._progress
        return SignUpEvidence(
            wanted=self._plan.users,
            signed_up=progress.signed_up,
            done=progress.done,
            ordered=progress.ordered,
            attempts=progress.attempts,
            runs=progress.runs,
            flags=progress.flags,
            switched=progress.switched,
            killed=self._killed_at,
            outage=self._outage,
            lease=self._plan.lease,
            left=await self._left(),
        )

    async def _left(self) -> dict[str, int]:
        """What Redis has although nobody works any more."""
        info = await self._users.info()
        pending = {group.name: group.pending for group in info.groups}
        queue = await clearing.info_of(self._hub, QUEUE)
        async with self._hub.node(POOL, client_only=True) as client:
            jobs = await client.jobs()
        left = {f"events are still pending in sink {sink}": pending.get(sink, 0) for sink in SINKS}
        counts = counts_of(queue)
        return {
            **left,
            f"tasks are left in queue {QUEUE}": counts.to_do,
            f"tasks of queue {QUEUE} were given up": counts.archived,
            f"jobs are left in pool {POOL}": len(jobs),
        }
