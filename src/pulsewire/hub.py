"""The hub: one connection, one namespace, one owner of background tasks; it hands out everything else."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from dataclasses import replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import anyio

from pulsewire._core.checks import check_seconds
from pulsewire._core.codecs import BYTES, TEXT, Codec, check_codec
from pulsewire._core.health import DEFAULT_LIMITS, Health, HealthLimits, examine
from pulsewire._core.hooks import NO_HOOKS, Hooks, guarded
from pulsewire._core.ids import RequestIds, new_ulid
from pulsewire._core.loops import LoopContext, Stop, do_every
from pulsewire._core.requests import KEPT
from pulsewire._core.vitals import EndingSign, Sign
from pulsewire._redis.connect import open_link
from pulsewire._redis.contact import EVERY as KEEP_CONTACT_EVERY
from pulsewire._redis.contact import Contact
from pulsewire._redis.doors import AnyClient
from pulsewire._redis.link import Link, LinkOptions
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.notifier import Notifier
from pulsewire._redis.opening import ServerInfo
from pulsewire._redis.scan import all_keys
from pulsewire.errors import InvalidOption
from pulsewire.pool.crew import Crew
from pulsewire.pool.keys import PoolKeys
from pulsewire.pool.node import Node
from pulsewire.pool.options import (
    DEFAULT_ACK_GRACE,
    DEFAULT_MAX_QUEUED,
    DEFAULT_SHUTDOWN_TTL,
    DEFAULT_WORKER_TTL,
    NodeOptions,
)
from pulsewire.pool.ring import Routing
from pulsewire.pool.store import PoolStore
from pulsewire.rmap.keys import MapKeys
from pulsewire.rmap.map import ReplicatedMap
from pulsewire.rmap.options import DEFAULT_MAX_VALUE, DEFAULT_STALE_AFTER, MapOptions
from pulsewire.streaming.keys import StreamKeys
from pulsewire.streaming.retention import DEFAULT_MAX_LEN, StreamOptions
from pulsewire.streaming.stream import Stream
from pulsewire.streaming.wire import EntryFormat, Fields, PulseFormat
from pulsewire.tasks.apps.binding import connect_with
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.keys import DEFAULT_QUEUE, TaskKeys
from pulsewire.tasks.mux import Handler, Mux
from pulsewire.tasks.retry import default_delay, is_charged
from pulsewire.tasks.scheduling.periodic import DEFAULT_SYNC, PeriodicTaskManager, Provider
from pulsewire.tasks.scheduling.scheduler import (
    DEFAULT_GRACE,
    DEFAULT_HEARTBEAT,
    PostEnqueue,
    PreEnqueue,
    Scheduler,
)
from pulsewire.tasks.serving.options import (
    DEFAULT_CONCURRENCY,
    DEFAULT_LEASE,
    Aggregator,
    ErrorHandler,
    HealthCheck,
    RetryDelay,
    ServerOptions,
)
from pulsewire.tasks.serving.order import check_queues
from pulsewire.tasks.serving.server import TaskServer

T = TypeVar("T")

DEFAULT_WAIT = 30.0
LONGEST_WAIT = KEPT / 2
TOO_LONG = (
    f"must be at most {LONGEST_WAIT:g}: a server remembers for {KEPT:g} s what it was sent, "
    "so what is sent again later may be done twice"
)


class Hub:
    """The object that `connect()` yields. Use it inside its `async with` block, from one event loop only."""

    def __init__(self, link: Link, space: Namespace, hooks: Hooks, logger: logging.Logger) -> None:
        self._link = link
        self._space = space
        self._hooks = hooks
        self._logger = logger
        self._requests = RequestIds()
        self._notifier = Notifier(link)
        self._tasks: TaskClient | None = None
        self._end_measuring: Callable[[], None] | None = None
        self._contact = Contact(link)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Hub at {self.url} namespace={self.namespace!r}>"

    @property
    def namespace(self) -> str:
        """The prefix of all names."""
        return self._space.prefix

    @property
    def url(self) -> str:
        """Where it is connected, without secrets."""
        return self._link.shown

    @property
    def server(self) -> ServerInfo:
        """Kind, version and topology of the server."""
        return self._link.info

    @property
    def tasks(self) -> TaskClient:
        """The client that enqueues tasks and looks at queues."""
        if self._tasks is None:
            self._tasks = TaskClient(self._link, TaskKeys(self._space), self._hooks)
        return self._tasks

    async def _sign_off(self) -> None:
        """Have the servers forget what only this hub needs."""
        self._is_closed = True
        if self._end_measuring is not None:
            self._end_measuring()
        if self._tasks is not None:
            with anyio.CancelScope(shield=True):
                await self._tasks.enqueuer.sign_off()

    def health(self, limits: HealthLimits = DEFAULT_LIMITS) -> Health:
        """How well this process does as a user of Redis, as far as it knows. Nothing is asked over the network.

        Judged by progress: of every background duty of what was taken from this hub, of the renewal of leases, of the
        maps' replicas, of the event loop, and of the ways to the servers. docs/health.md says what it means.

        From the first call on the lag of the event loop is measured, and connections that were lost are opened again
        although nobody needs them, so that the end of an outage is noticed. Call it from the hub's event loop.

        Args:
            limits: beyond which something is a problem.
        """
        vitals = self._link.options.vitals
        if self._end_measuring is None and not self._is_closed:
            self._end_measuring = vitals.lag.begin()
            self._keep_contact()
        signs: list[Sign] = [*vitals.signs(), *self._contact.signs()]
        if self._is_closed:
            signs.append(EndingSign("process", "hub"))
        return examine(signs, vitals.lag.worst, limits)

    def _keep_contact(self) -> None:
        ward = self._link.options.vitals.ward("redis", "")
        context = LoopContext(Stop(), self._hooks, self._logger, ward)
        self._link.tasks.start_soon(
            do_every, "keeping contact", KEEP_CONTACT_EVERY, self._contact.keep_once, context
        )

    async def ping(self) -> float:
        """Seconds of one round trip to a server."""
        started = time.perf_counter()
        await self._link.call("", "PING", repeatable=True)
        return time.perf_counter() - started

    async def time(self) -> float:
        """The server's clock, Unix seconds."""
        return await self._link.time()

    async def streams(self) -> list[str]:
        """Names of all streams of this namespace, sorted. Scans the whole keyspace: for tools, not for hot paths."""
        keys = await all_keys(self._link, StreamKeys.pattern(self._space), "stream")
        names = {StreamKeys.name_of(self._space, key) for key in keys}
        return sorted(names - {StreamKeys.name_of(self._space, "")})

    async def maps(self) -> list[str]:
        """Names of all replicated maps of this namespace, sorted. Scans the whole keyspace: for tools.

        Maps that were destroyed are among them until they are forgotten (`MapInfo.is_destroyed`).
        """
        keys = await all_keys(self._link, MapKeys.pattern(self._space), "hash")
        return sorted({MapKeys.name_of(self._space, key) for key in keys})

    async def pools(self) -> list[str]:
        """Names of all worker pools of this namespace, sorted. Scans the whole keyspace: for tools."""
        keys = await all_keys(self._link, PoolKeys.pattern(self._space), "hash")
        names = {PoolKeys.name_of(self._space, key) for key in keys}
        # else it is a job whose key ends alike
        return sorted(name for name in names if "}" not in name)

    @overload
    def stream(
        self,
        name: str,
        *,
        max_len: int = ...,
        hard_limit: int | None = ...,
        retain: Literal["unacked", "none"] = ...,
        ttl: float | None = ...,
        sliding_ttl: float | None = ...,
        key: str | None = ...,
        idempotency_window: float = ...,
        max_payload: int = ...,
        logger: logging.Logger | None = ...,
    ) -> Stream[bytes]: ...
    @overload
    def stream(
        self,
        name: str,
        *,
        codec: Codec[T],
        max_len: int = ...,
        hard_limit: int | None = ...,
        retain: Literal["unacked", "none"] = ...,
        ttl: float | None = ...,
        sliding_ttl: float | None = ...,
        key: str | None = ...,
        idempotency_window: float = ...,
        max_payload: int = ...,
        logger: logging.Logger | None = ...,
    ) -> Stream[T]: ...
    @overload
    def stream(
        self,
        name: str,
        *,
        codec: Fields,
        max_len: int = ...,
        hard_limit: int | None = ...,
        retain: Literal["unacked", "none"] = ...,
        ttl: float | None = ...,
        sliding_ttl: float | None = ...,
        key: str | None = ...,
        idempotency_window: float = ...,
        max_payload: int = ...,
        logger: logging.Logger | None = ...,
    ) -> Stream[dict[str, Any]]: ...
    def stream(
        self,
        name: str,
        *,
        codec: Any = BYTES,
        max_len: int = DEFAULT_MAX_LEN,
        hard_limit: int | None = None,
        retain: Literal["unacked", "none"] = "unacked",
        ttl: float | None = None,
        sliding_ttl: float | None = None,
        key: str | None = None,
        idempotency_window: float | None = None,
        max_payload: int | None = None,
        logger: logging.Logger | None = None,
    ) -> Stream[Any]:
        """A stream by name. Nothing is sent: the stream comes into being with its first event or sink.

        Args:
            name: 1 to 512 characters, none of space, NUL, * ? [ ].
            codec: for payloads (`BYTES`, `TEXT`, `JSON`, `typed(Model)`), or `FIELDS` for plain Redis entries.
            max_len: about how many events to keep as history; 0 for no trimming.
            hard_limit: length at which `add` raises `StreamFull`; default 100 times `max_len`, at least 100,000;
                0 for none.
            retain: "unacked" keeps beyond `max_len` what a sink has not acknowledged; "none" trims regardless.
            ttl: seconds from its creation after which the stream vanishes.
            sliding_ttl: seconds from the last `add` after which it vanishes.
            key: another Redis key than `pulse:stream:<name>`, for streams of other programs. The namespace applies.
            idempotency_window: seconds for which an idempotency key is remembered, 3600 by default.
            max_payload: bytes of content one event may have, 16 MiB by default.
            logger: for the stream, its readers and its sinks; default `pulsewire.streaming`.

        Raises:
            InvalidName, InvalidOption: something is impossible.
        """
        options = StreamOptions(
            max_len=max_len, hard_limit=hard_limit, retain=retain, ttl=ttl, sliding_ttl=sliding_ttl
        )
        if idempotency_window is not None:
            options = replace(options, idempotency_window=idempotency_window)
        if max_payload is not None:
            options = replace(options, max_payload=max_payload)
        entry_format = cast(
            "EntryFormat[Any]",
            codec if isinstance(codec, Fields) else PulseFormat(check_codec(codec)),
        )
        return Stream(
            self._link,
            self._space,
            name,
            entry_format=entry_format,
            options=options,
            key=key,
            hooks=self._hooks,
            logger=logger or self._logger.getChild("streaming"),
            requests=self._requests,
        )

    @overload
    def map(
        self,
        name: str,
        *,
        ttl: float | None = ...,
        sliding_ttl: float | None = ...,
        max_value: int = ...,
        stale_after: float = ...,
        logger: logging.Logger | None = ...,
    ) -> ReplicatedMap[str]: ...
    @overload
    def map(
        self,
        name: str,
        *,
        codec: Codec[T],
        ttl: float | None = ...,
        sliding_ttl: float | None = ...,
        max_value: int = ...,
        stale_after: float = ...,
        logger: logging.Logger | None = ...,
    ) -> ReplicatedMap[T]: ...
    def map(
        self,
        name: str,
        *,
        codec: Codec[Any] = TEXT,
        ttl: float | None = None,
        sliding_ttl: float | None = None,
        max_value: int = DEFAULT_MAX_VALUE,
        stale_after: float = DEFAULT_STALE_AFTER,
        logger: logging.Logger | None = None,
    ) -> ReplicatedMap[Any]:
        """A replicated map by name. Nothing is sent: join it with `async with`, or just write to it.

        Args:
            name: 1 to 512 characters, none of space, NUL, * ? [ ].
            codec: for values: text by default, or `BYTES`, `JSON`, `typed(Model)`.
            ttl: seconds from its creation after which the map vanishes as a whole, and every replica with it.
            sliding_ttl: seconds from the last change after which it vanishes.
            max_value: bytes one value may have, 1 MiB by default.
            stale_after: seconds without proof of being complete after which `is_stale` is true; at least 1.5.
            logger: default `pulsewire.rmap`.

        Raises:
            InvalidName, InvalidOption: something is impossible.
        """
        options = MapOptions(
            ttl=ttl, sliding_ttl=sliding_ttl, max_value=max_value, stale_after=stale_after
        )
        return ReplicatedMap(
            self._link,
            self._space,
            name,
            codec=check_codec(codec),
            options=options,
            notifier=self._notifier,
            hooks=self._hooks,
            logger=logger or self._logger.getChild("rmap"),
        )

    def node(
        self,
        pool: str,
        *,
        worker_ttl: float = DEFAULT_WORKER_TTL,
        worker_shutdown_ttl: float = DEFAULT_SHUTDOWN_TTL,
        ack_grace: float = DEFAULT_ACK_GRACE,
        max_queued_jobs: int = DEFAULT_MAX_QUEUED,
        client_only: bool = False,
        routing: Routing | None = None,
        max_payload: int | None = None,
        concurrency: int | None = None,
        logger: logging.Logger | None = None,
    ) -> Node:
        """This process's part in a worker pool. Nothing is sent until it is entered with `async with`.

        Args:
            pool: its name: 1 to 512 characters, none of space, NUL, * ? [ ] { }.
            worker_ttl: seconds a worker may be silent before its jobs are given to others; at least 0.5.
            worker_shutdown_ttl: seconds that a handler's `stop`, and leaving the pool, may take.
            ack_grace: `dispatch` waits twice as long for the start of a job.
            max_queued_jobs: jobs of the pool that may wait for their start before `dispatch` raises `PoolFull`.
            client_only: dispatch, stop, notify and look, but run no jobs.
            routing: "rendezvous" (the default), or "jump" as in Go Pulse; the same on every node of the pool. A
                client-only node takes by default what the pool has.
            max_payload: bytes a job's payload may have, 1 MiB by default.
            concurrency: starts, stops and notifications that a worker handles at a time, 100 by default.
            logger: default `pulsewire.pool`.

        Raises:
            InvalidName, InvalidOption: something is impossible.
        """
        options = NodeOptions(
            worker_ttl=worker_ttl,
            worker_shutdown_ttl=worker_shutdown_ttl,
            ack_grace=ack_grace,
            max_queued_jobs=max_queued_jobs,
            client_only=client_only,
            routing=routing,
        )
        if max_payload is not None:
            options = replace(options, max_payload=max_payload)
        if concurrency is not None:
            options = replace(options, concurrency=concurrency)
        keys = PoolKeys(self._space, pool)
        logger = logger or self._logger.getChild("pool")
        crew = Crew(new_ulid(), PoolStore(self._link, keys), options, self._hooks, logger)
        return Node(self._link, crew, self.map(keys.workers_map), self._requests)

    def task_server(
        self,
        handler: Handler | Mux,
        *,
        queues: Mapping[str, int] | Iterable[str] = (DEFAULT_QUEUE,),
        strict: bool = False,
        concurrency: int = DEFAULT_CONCURRENCY,
        lease: float = DEFAULT_LEASE,
        shutdown_timeout: float = 8.0,
        retry_delay: RetryDelay = default_delay,
        is_failure: Callable[[BaseException], bool] = is_charged,
        error_handler: ErrorHandler | None = None,
        base_context: Callable[[], Context] | None = None,
        health_check: HealthCheck | None = None,
        health_check_interval: float = 15.0,
        aggregator: Aggregator | None = None,
        group_grace: float = 60.0,
        group_max_delay: float | None = None,
        group_max_size: int | None = None,
        forward_interval: float = 1.0,
        janitor_interval: float = 8.0,
        janitor_batch: int = 100,
        max_lost: int = 3,
        logger: logging.Logger | None = None,
    ) -> TaskServer:
        """A server of some queues' tasks in this process. Nothing is sent until it is entered with `async with`.

        Args:
            handler: a `Mux`, or one function of a task for all of them: a coroutine function, or a plain one, which is
                run in a thread.
            queues: name -> priority; or names, of equal priority.
            strict: take nothing from a queue while one of a higher priority has tasks.
            concurrency: handlers that run at a time.
            lease: seconds without a renewal after which its tasks are run elsewhere; at least 1.
            shutdown_timeout: seconds that running handlers have at the end, before their tasks go back.
            retry_delay: gives the seconds until the next try, from the number of failures, the error and the task.
            is_failure: whether an error counts as a failed attempt.
            error_handler: told of every attempt that does not succeed.
            base_context: makes the context that a handler runs in.
            health_check: called regularly: with None if the server answers, else with the error.
            health_check_interval: seconds between two checks.
            aggregator: makes one task of the members of a group.
            group_grace: seconds without a new member after which a group is aggregated; at least 1.
            group_max_delay: seconds that the oldest member of a group waits at most.
            group_max_size: number of members at which a group is aggregated.
            forward_interval: seconds between two looks at scheduled tasks, at most.
            janitor_interval: seconds between two looks for tasks whose retention is over.
            janitor_batch: how many of them one script deletes.
            max_lost: a task is archived when this many servers have died while running it.
            logger: default `pulsewire.tasks`.

        Raises:
            InvalidName, InvalidOption: something is impossible.
        """
        options = ServerOptions(
            queues=check_queues(queues),
            strict=strict,
            concurrency=concurrency,
            lease=lease,
            shutdown_timeout=shutdown_timeout,
            retry_delay=retry_delay,
            is_failure=is_failure,
            error_handler=error_handler,
            base_context=base_context,
            health_check=health_check,
            health_check_interval=health_check_interval,
            aggregator=aggregator,
            group_grace=group_grace,
            group_max_delay=group_max_delay,
            group_max_size=group_max_size,
            forward_interval=forward_interval,
            janitor_interval=janitor_interval,
            janitor_batch=janitor_batch,
            max_lost=max_lost,
        )
        logger = logger or self._logger.getChild("tasks")
        return TaskServer(
            self._link,
            self.tasks,
            self._notifier,
            handler,
            options,
            hooks=self._hooks,
            logger=logger,
        )

    def scheduler(
        self,
        *,
        location: tzinfo = UTC,
        heartbeat_interval: float = DEFAULT_HEARTBEAT,
        misfire_grace: float = DEFAULT_GRACE,
        pre_enqueue: PreEnqueue | None = None,
        post_enqueue: PostEnqueue | None = None,
        logger: logging.Logger | None = None,
    ) -> Scheduler:
        """A scheduler, which enqueues periodic tasks. Nothing is sent until it is entered with `async with`.

        Run as many with equal entries as you like, in one program or several: each tick is enqueued once. Ticks that
        were due while no scheduler ran are not made up for.

        Args:
            location: the time zone of specs that name none.
            heartbeat_interval: seconds between two times that inspectors are shown the entries, and the server is asked
                for the time.
            misfire_grace: seconds by which a tick may be enqueued too late because the server could not be reached; at
                most 12 hours. Later ones are dropped. (One that was under way when the connection broke may come later,
                within `wait_for_server`.)
            pre_enqueue: called with the task before each try, also if another scheduler turns out to have been quicker.
            post_enqueue: called as `post_enqueue(info, None)` after an enqueue, as `post_enqueue(None, error)` after a
                failed one. Not called if another scheduler has enqueued it.
            logger: default `pulsewire.tasks`.

        Raises:
            InvalidOption: something is impossible.
        """
        return Scheduler(
            self._link,
            self.tasks,
            location=location,
            heartbeat_interval=heartbeat_interval,
            misfire_grace=misfire_grace,
            pre_enqueue=pre_enqueue,
            post_enqueue=post_enqueue,
            hooks=self._hooks,
            logger=logger or self._logger.getChild("tasks"),
        )

    def periodic_tasks(
        self,
        provider: Provider,
        *,
        sync_interval: float = DEFAULT_SYNC,
        location: tzinfo = UTC,
        heartbeat_interval: float = DEFAULT_HEARTBEAT,
        misfire_grace: float = DEFAULT_GRACE,
        pre_enqueue: PreEnqueue | None = None,
        post_enqueue: PostEnqueue | None = None,
        logger: logging.Logger | None = None,
    ) -> PeriodicTaskManager:
        """A scheduler whose entries come from elsewhere. Nothing is sent until it is entered with `async with`.

        Args:
            provider: returns every `PeriodicTask` that should exist: a coroutine function, or a plain one, which is
                called in a thread. An error of its first call comes out of `async with`; later ones are logged, and the
                entries stay as they are.
            sync_interval: seconds between two calls, +-20%.
            location: see `scheduler`.
            heartbeat_interval: see `scheduler`.
            misfire_grace: see `scheduler`.
            pre_enqueue: see `scheduler`.
            post_enqueue: see `scheduler`.
            logger: see `scheduler`.

        Raises:
            InvalidOption: something is impossible.
        """
        scheduler = self.scheduler(
            location=location,
            heartbeat_interval=heartbeat_interval,
            misfire_grace=misfire_grace,
            pre_enqueue=pre_enqueue,
            post_enqueue=post_enqueue,
            logger=logger,
        )
        return PeriodicTaskManager(
            provider,
            scheduler,
            sync_interval=sync_interval,
            hooks=self._hooks,
            logger=logger or self._logger.getChild("tasks"),
            ward=self._link.options.vitals.ward("tasks", "periodic tasks"),
        )


def connect(
    target: str | AnyClient | None = None,
    *,
    namespace: str = "",
    ephemeral: bool = False,
    home: str | Path | None = None,
    wait_for_server: float = DEFAULT_WAIT,
    logger: logging.Logger | None = None,
    hooks: Hooks = NO_HOOKS,
) -> AbstractAsyncContextManager[Hub]:
    """Connect, and yield a `Hub`: `async with pulsewire.connect(...) as hub`.

    Args:
        target: nothing (then `$PULSEWIRE_URL`, else the embedded server), a URL (`redis://`, `rediss://`,
            `valkey://`, `unix://`, `redis+cluster://h1:p,h2:p`, `redis+sentinel://h1:p,h2:p/service`; options as in
            redis-py), or a client of `redis.asyncio` that you have configured (it stays yours to close).
        namespace: prefix of every key; Go programs use none.
        ephemeral: a private embedded server that keeps nothing.
        home: where the embedded server keeps its data; default `$PULSEWIRE_HOME`, else the user's data folder.
        wait_for_server: seconds that a command waits for a usable server before `ServerUnavailable`, at most 300;
            the first connection waits 5 s at most, since the address may simply be wrong.
        logger: parent of all loggers; default `pulsewire`. Values are in `extra`.
        hooks: facts to count, see `Hooks`.

    Raises:
        InvalidTarget, InvalidName, InvalidOption: the call is wrong.
        ServerUnavailable, AuthenticationFailed, ServerTooOld, EmbeddedServerError: no usable server.
    """
    logger = logger or logging.getLogger("pulsewire")
    if check_seconds("wait_for_server", wait_for_server) > LONGEST_WAIT:
        raise InvalidOption("wait_for_server", wait_for_server, TOO_LONG)
    options = LinkOptions(
        wait_for_server=wait_for_server,
        hooks=guarded(hooks, logger),
        logger=logger.getChild("redis"),
    )
    space = Namespace(namespace)
    return _connected(
        target,
        options,
        space,
        logger,
        ephemeral=ephemeral,
        home=Path(home) if home is not None else None,
    )


@asynccontextmanager
async def _connected(
    target: str | AnyClient | None,
    options: LinkOptions,
    space: Namespace,
    logger: logging.Logger,
    *,
    ephemeral: bool,
    home: Path | None,
) -> AsyncIterator[Hub]:
    async with open_link(target, options, ephemeral=ephemeral, home=home) as link:
        hub = Hub(link, space, options.hooks, logger)
        try:
            yield hub
        finally:
            await hub._sign_off()  # noqa: SLF001  # its other half


connect_with(connect)
