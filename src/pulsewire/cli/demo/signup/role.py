"""What the processes of the act do: sign up, mail, count, record, confirm, switch a flag; and journal it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec

import pulsewire
from pulsewire import errors
from pulsewire.cli.demo import clearing
from pulsewire.cli.demo.journal import (
    Arrived,
    FlagSeen,
    JournalWriter,
    Ordered,
    Seen,
    SignedUp,
    Switched,
)
from pulsewire.cli.demo.journaled import journaled_run, journaled_tasks
from pulsewire.cli.demo.lifeline import wait_first, while_parent_lives
from pulsewire.cli.demo.signup.cast import (
    COLOURFUL,
    FORM,
    JOB,
    MAIL,
    MAILER,
    PLAIN,
    POOL,
    QUEUE,
    SignUp,
    Welcome,
    fails_of,
    flag_map,
    job_of,
    user_name,
    user_stream,
)
from pulsewire.cli.running import Signals
from pulsewire.pool import Job, Node
from pulsewire.tasks import Mux, Task

__all__ = ["Desk", "mail", "operate", "record", "sign_up", "work"]

_TRY_AGAIN = 0.2
"""Seconds after which the front tries again to sign a user up."""
_RENDERING = 0.15
"""Seconds that a mailer takes for a user."""
_CONFIRMING = 1.5
"""Seconds until a user has confirmed the address."""
_SENDING = 0.05
"""Seconds that the mail server takes."""
_MAILERS_HANDS = 20
"""Events that a mailer works on at a time."""
_WORKERS_HANDS = 20
"""Mails that a worker sends at a time."""
_WELCOME = "email:welcome"
_MAX_RETRY = 5
_RETRY_DELAY = 0.5
"""Seconds; Redis has whole ones, so that it is up to one more."""
_KEPT_FOR = 600.0
"""Seconds for which a task is remembered, so that nobody enqueues it again."""
_PARTING = 4.0
"""Seconds that leaving the pool may take."""

_payload_of = msgspec.json.Encoder().encode
_welcome_of = msgspec.json.Decoder(Welcome).decode


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a process works.

    Attributes:
        journal: Where it writes what it did.
        url: Its server; None is the embedded one.
        namespace: Prefix of every key.
        ttl: Seconds after which the stream and the map go by themselves; None keeps them.
    """

    journal: Path
    url: str | None
    namespace: str
    ttl: float | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A desk that somebody sits at."""

    hub: pulsewire.Hub
    users: pulsewire.Stream[SignUp]
    flags: pulsewire.ReplicatedMap[str]
    journaling: JournalWriter

    def arrive(self, consumer: str = "") -> None:
        """Tell the parent."""
        self.journaling.write(Arrived(pid=os.getpid(), consumer=consumer))


@asynccontextmanager
async def _seated(desk: Desk) -> AsyncIterator[_Place]:
    """Connect, follow the feature flags, and journal their changes."""
    with JournalWriter(desk.journal) as journaling:
        async with (
            pulsewire.connect(desk.url, namespace=desk.namespace) as hub,
            flag_map(hub, desk.ttl) as flags,
            anyio.create_task_group() as following,
        ):
            following.start_soon(_note_changes, flags, journaling)
            yield _Place(hub, user_stream(hub, desk.ttl), flags, journaling)
            following.cancel_scope.cancel()


async def _note_changes(flags: pulsewire.ReplicatedMap[str], journaling: JournalWriter) -> None:
    async for change in flags.changes(initial=True):
        seen = FlagSeen(flag=change.key or "", value=change.new or "", at=time.monotonic())
        journaling.write(seen)


# --- the web front


async def sign_up(desk: Desk, signals: Signals, *, users: int, rate: float) -> int:
    """Sign users up once the parent says go; then wait for SIGTERM."""
    stopped = anyio.Event()

    async def front(go: anyio.Event) -> None:
        async with _seated(desk) as place:
            place.arrive()
            with signals.asking(stopped.set):
                await wait_first(go.wait, stopped.wait)
                if go.is_set():
                    await _sign_up_all(place, users, rate)
                await stopped.wait()

    await while_parent_lives(front)
    return 0


async def _sign_up_all(place: _Place, users: int, rate: float) -> None:
    """Users come at a steady rate, whatever the server is at."""
    began = anyio.current_time()
    async with anyio.create_task_group() as visitors:
        for number in range(1, users + 1):
            await anyio.sleep_until(began + number / rate)
            visitors.start_soon(_sign_up_one, place, user_name(number))


async def _sign_up_one(place: _Place, user: str) -> None:
    """Publish one user. The idempotency key makes it one event, however often it is tried."""
    asked = time.monotonic()
    who = SignUp(user=user, email=f"{user}@example.com")
    event = ""
    while not event:
        try:
            event = await place.users.add("user.created", who, idempotency_key=user)
        except (errors.ServerUnavailable, errors.OutcomeUnknown):
            await anyio.sleep(_TRY_AGAIN)
    place.journaling.write(SignedUp(user=user, event=event, asked=asked, at=time.monotonic()))


# --- the operator


async def operate(desk: Desk, signals: Signals) -> int:
    """Switch the form of the welcome mails once the parent says go, unless somebody else has."""
    stopped = anyio.Event()

    async def switch(go: anyio.Event) -> None:
        async with _seated(desk) as place:
            await place.flags.set_if_absent(FORM, PLAIN)
            place.arrive()
            with signals.asking(stopped.set):
                await wait_first(go.wait, stopped.wait)
                if go.is_set():
                    asked = time.monotonic()
                    await place.flags.test_and_set(FORM, PLAIN, COLOURFUL)
                    at = time.monotonic()
                    switched = Switched(flag=FORM, value=COLOURFUL, asked=asked, at=at)
                    place.journaling.write(switched)
                await stopped.wait()

    await while_parent_lives(switch)
    return 0


# --- the sinks


async def mail(desk: Desk, signals: Signals, *, ack_grace: float) -> int:
    """Order a welcome mail and a confirmation for each user, until SIGTERM."""

    async def consume(_: anyio.Event) -> None:
        async with _seated(desk) as place, place.hub.node(POOL, client_only=True) as node:
            room = _MailRoom(place, node)
            async with place.users.sink(MAILER, start="oldest", ack_grace=ack_grace) as sink:
                place.arrive(sink.consumer)
                with signals.asking(sink.stop):
                    await sink.consume(room.handle, concurrency=_MAILERS_HANDS)

    await while_parent_lives(consume)
    return 0


class _MailRoom:
    """Where a mailer turns events into work. What raises comes again after the ack grace."""

    def __init__(self, place: _Place, node: Node) -> None:
        self._place = place
        self._node = node

    async def handle(self, event: pulsewire.Event[SignUp]) -> None:
        """Order what a user gets. An event that comes twice finds the task there, by its id."""
        began, who = time.monotonic(), event.payload
        await anyio.sleep(_RENDERING)
        is_new = await self._enqueue(who)
        self._place.journaling.write(Ordered(what=MAIL, user=who.user, is_new=is_new))
        is_new = await self._dispatch(who)
        self._place.journaling.write(Ordered(what=JOB, user=who.user, is_new=is_new))
        self._place.journaling.write(_seen(event, began))

    async def _enqueue(self, who: SignUp) -> bool:
        number = int(who.user.rpartition("-")[2])
        try:
            await self._place.hub.tasks.enqueue(
                _WELCOME,
                _payload_of(Welcome(who.email, fails_of(number))),
                queue=QUEUE,
                task_id=who.user,
                max_retry=_MAX_RETRY,
                retention=_KEPT_FOR,
            )
        except errors.TaskIdConflict:
            return False
        return True

    async def _dispatch(self, who: SignUp) -> bool:
        try:
            await self._node.dispatch(job_of(who.user), who.email.encode(), wait=False)
        except errors.JobExists:
            return False
        return True


async def record(desk: Desk, signals: Signals, *, sink_name: str, ack_grace: float) -> int:
    """Write down every user in a sink of its own, until SIGTERM."""

    async def consume(_: anyio.Event) -> None:
        async with (
            _seated(desk) as place,
            place.users.sink(sink_name, start="oldest", ack_grace=ack_grace) as sink,
        ):

            async def handle(event: pulsewire.Event[SignUp]) -> None:
                place.journaling.write(_seen(event, time.monotonic()))

            place.arrive(sink.consumer)
            with signals.asking(sink.stop):
                await sink.consume(handle)

    await while_parent_lives(consume)
    return 0


def _seen(event: pulsewire.Event[SignUp], began: float) -> Seen:
    return Seen(
        user=event.payload.user,
        event=event.id,
        began=began,
        at=time.monotonic(),
        deliveries=event.deliveries,
    )


# --- the e-mail workers


async def work(desk: Desk, signals: Signals, *, worker_ttl: float, lease: float) -> int:
    """Run jobs of the pool and tasks of the queue until SIGTERM. When the parent is gone, remove both."""
    parent_is_gone = anyio.Event()

    async def serve(_: anyio.Event) -> None:
        async with (
            _seated(desk) as place,
            place.hub.node(POOL, worker_ttl=worker_ttl, worker_shutdown_ttl=_PARTING) as node,
        ):
            post = _PostOffice(place)
            await node.add_worker(post.confirm)
            async with place.hub.task_server(
                post.mux,
                queues=(QUEUE,),
                concurrency=_WORKERS_HANDS,
                lease=lease,
                retry_delay=lambda *_: _RETRY_DELAY,
                error_handler=lambda *_: None,  # the journal has it
            ) as server:
                place.arrive()
                with signals.asking(server.stop):
                    await wait_first(server.wait, parent_is_gone.wait)
                if parent_is_gone.is_set():
                    server.stop()
                    await clearing.wait_unused(place.hub, (QUEUE,))
            if parent_is_gone.is_set():  # nobody else would end the jobs and remove the queue
                await clearing.remove_queues(place.hub, (QUEUE,))
                if not node.is_shut_down:
                    await node.shutdown()

    await while_parent_lives(serve, parent_is_gone.set, within=clearing.time_for(lease))
    return 0


class _Greylisted(Exception):
    """The mail server wants the mail again, later."""


class _PostOffice:
    """Where one worker writes to users.

    Attributes:
        mux: The handler of welcome mails, with the journal around it.
    """

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.mux = Mux()
        self.mux.use(journaled_tasks(place.journaling))
        self.mux.add(_WELCOME, self._welcome)

    async def confirm(self, job: Job) -> None:
        """Have a user confirm the address. The job ends when that is done."""
        with journaled_run(self._place.journaling, job):
            await anyio.sleep(_CONFIRMING)

    async def _welcome(self, task: Task) -> str:
        """Send a welcome mail, in the form that the flag says; returns which."""
        form = self._place.flags.get(FORM, PLAIN)
        await anyio.sleep(_SENDING)
        welcome = _welcome_of(task.payload)
        if task.retried < welcome.fails:
            raise _Greylisted(welcome.email)
        return form
