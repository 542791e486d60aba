"""A link: what the floors above see of Redis. Commands go to whoever owns their key, and come back with an outcome.

What `call` promises:

* A command that certainly had no effect (never sent, or refused with LOADING, READONLY, TRYAGAIN, MOVED...) is sent
  again, to the right server, with full-jitter pauses, for `wait_for_server` seconds at most.
* A command that was sent and whose reply never came is repeated only if the caller says `repeatable=True`. Otherwise
  `Unsettled` is raised: the caller may find out with `make_sure_dead`, or let it pass on as `OutcomeUnknown`.
* Every other error reply is raised, translated.

`single.py` is the link to one server (alone or behind Sentinel), `cluster.py` the one to many.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from pulsewire._core.backoff import Backoff
from pulsewire._core.clock import SYSTEM_CLOCK, Clock
from pulsewire._core.hooks import NO_HOOKS, Hooks
from pulsewire._core.tasks import OwnedTasks
from pulsewire._core.vitals import Vitals
from pulsewire._redis.doors import Doors, close_doors
from pulsewire._redis.lane import Lane
from pulsewire._redis.opening import HOPELESS, LostConnection, ServerInfo
from pulsewire._redis.pipeline import Argument, Command, JoinedConnection
from pulsewire._redis.scripts import Script
from pulsewire._redis.translate import ReplyError, Verdict, from_reply, verdict
from pulsewire.errors import ConnectionLost, OutcomeUnknown, ServerUnavailable

RETRY_CAP = 1.0
"""Upper bound, seconds, of a pause before a command that the server was not ready for is sent again."""
FREE_REDIRECTIONS = 4
"""Redirections that are followed at once; more in a row mean that the cluster is not settled."""
TOLD_LANE_PATIENCE = 1.0
"""Seconds to wait for a node that a redirection named, before the map is asked again."""


class Unsettled(OutcomeUnknown):
    """A write was under way when its connection died.

    Attributes:
        lost: the connection, for `Link.make_sure_dead`.
    """

    def __init__(self, command: str, reason: str, lost: LostConnection) -> None:
        self.lost = lost
        super().__init__(command, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """How a link behaves.

    Attributes:
        wait_for_server: seconds a command waits for a usable server before `ServerUnavailable`.
        wait_at_first: the same for the first connection, when the address may simply be wrong.
        silence: seconds without a reply after which a connection counts as dead.
        vitals: the register of the hub's background duties.
    """

    wait_for_server: float = 30.0
    wait_at_first: float = 5.0
    silence: float = 4.0
    hooks: Hooks = NO_HOOKS
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("pulsewire.redis"))
    clock: Clock = SYSTEM_CLOCK
    vitals: Vitals = field(default_factory=Vitals)


class Link(ABC):
    """The connection of one hub to its server or servers. An async context manager; owns its background tasks."""

    def __init__(self, shown: str, options: LinkOptions) -> None:
        self.shown = shown
        self.options = options
        self.tasks = OwnedTasks()
        self.own_doors: Doors | None = None  # to close with the link; a twin has such
        self.on_moved: Callable[[], object] = lambda: None
        """Called when the sentinels have announced another master. In a cluster whoever asks finds out by itself."""

    async def __aenter__(self) -> Self:
        await self.tasks.enter()
        try:
            await self._start()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._close()
        try:
            return await self.tasks.leave(kind, error, trace)
        finally:
            if self.own_doors is not None:
                await close_doors(self.own_doors)

    # --- what subclasses say

    @property
    @abstractmethod
    def info(self) -> ServerInfo:
        """What the server said of itself when it was greeted last."""

    @property
    @abstractmethod
    def is_cluster(self) -> bool:
        """Whether keys are spread over several servers."""

    @abstractmethod
    async def _start(self) -> None:
        """Connect for the first time."""

    @abstractmethod
    def _close(self) -> None:
        """Drop all connections."""

    @abstractmethod
    def _lane(self, key: str) -> Lane | None:
        """The lane to the owner of `key`, as far as it is known."""

    @abstractmethod
    async def _open_lane(self, key: str, within: float) -> Lane:
        """The lane to the owner of `key`, connected.

        Raises:
            ServerUnavailable: not within that many seconds.
        """

    @abstractmethod
    def redirect(self, error: ReplyError, lane: Lane) -> Lane | None:
        """Learn from MOVED or ASK. The lane to use for this one command, or None for the owner by the map."""

    @abstractmethod
    def masters(self) -> list[str]:
        """One key-like handle per server that holds keys, for `call_at`."""

    @abstractmethod
    def lanes(self) -> list[Lane]:
        """The lanes to the servers that hold keys, as far as any was needed."""

    async def ask_sentinels(self) -> list[tuple[str, bool | None, str]]:
        """For each sentinel its address, whether it could have a failover decided (None: no answer), and its words."""
        return []

    @abstractmethod
    def server_of(self, key: str) -> object:
        """A name for the server that has the key now, as far as is known: after a failover it is another one.

        It says nothing of a server that is restarted, or replaced behind its address.
        """

    @property
    def may_fail_over(self) -> bool:
        """Whether another server may take the place of one."""
        return self.info.topology != "standalone"

    @abstractmethod
    async def look_around(self) -> None:
        """Find out anew who holds the keys, where that may change."""

    @abstractmethod
    async def call_at(self, master: str, *command: Argument) -> Any:
        """Send a repeatable command to one of `masters()`, whatever its keys."""

    @abstractmethod
    def together(self, keys: Sequence[str]) -> list[list[str]]:
        """`keys` in groups that one command may name together."""

    @abstractmethod
    def twin(self, options: LinkOptions) -> Link:
        """Another link to the same, not entered yet, for an event loop of another thread."""

    # --- what everybody uses

    def call(
        self, key: str, *command: Argument, repeatable: bool = False
    ) -> Coroutine[Any, Any, Any]:
        """`send` for words one by one."""
        return self.send(key, command, repeatable=repeatable)

    async def send(self, key: str, command: Command, *, repeatable: bool = False) -> Any:
        """Send one command to the owner of `key` (`""`: any server), together with the others of this loop turn.

        Args:
            key: decides which server of a cluster.
            command: its words, or the whole of it packed.
            repeatable: doing it twice does no harm.

        Returns:
            The reply, RESP3 types, strings as bytes.

        Raises:
            ServerUnavailable: no usable server within `wait_for_server`; it was not done.
            ConnectionLost: the same, but a repeatable command that may have been done (`was_sent`).
            Unsettled: it was sent, and the reply never came.
            PulsewireError: the server refused it, see `translate.from_reply`.
        """
        lane = self._lane(key)
        if lane is not None:
            connection = lane.connection
            if connection is not None and not connection.is_congested:
                try:
                    return await connection.submit(command)
                except (ReplyError, ConnectionLost) as error:
                    trouble = _Trouble(error, lane, connection)
                return await self._persist(key, command, repeatable=repeatable, trouble=trouble)
        return await self._persist(key, command, repeatable=repeatable, trouble=None)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        repeatable: bool = False,
    ) -> Any:
        """Run a script whose keys share a slot. A server that does not know it is sent its text.

        Raises:
            As `call`.
        """
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        lane = self._lane(keys[0])
        connection = lane.connection if lane is not None else None
        trouble = None
        if lane is not None and connection is not None and not connection.is_congested:
            try:
                return await connection.submit(command)
            except (ReplyError, ConnectionLost) as error:
                trouble = _Trouble(error, lane, connection)
        return await self._persist(
            keys[0], command, repeatable=repeatable, trouble=trouble, text=script.text
        )

    async def time(self, key: str = "") -> float:
        """The clock of the server that has `key` (`""`: of any), Unix seconds."""
        seconds, micros = await self.call(key, "TIME", repeatable=True)
        return int(seconds) + int(micros) / 1e6

    def connection_now(self, key: str) -> JoinedConnection | None:
        """The shared connection to the owner of `key`, if there is one with room. For callers that cannot wait."""
        lane = self._lane(key)
        connection = lane.connection if lane is not None else None
        if connection is None or connection.is_congested or not connection.is_usable:
            return None
        return connection

    async def connection_for(self, key: str) -> JoinedConnection:
        """The shared connection to the owner of `key`, with room. For callers that pipeline in order themselves."""
        clock = self.options.clock
        deadline = clock.monotonic() + self.options.wait_for_server
        while True:
            within = max(deadline - clock.monotonic(), 0.001)
            lane = self._lane(key)
            if lane is None or lane.connection is None:
                lane = await self._open_lane(key, within)
            connection = await lane.ready(within)
            await connection.room()
            if connection.is_usable:  # else it was lost while it had no room
                return connection

    async def lane_for(self, key: str, within: float) -> Lane:
        """The connected lane to the owner of `key`."""
        lane = self._lane(key)
        if lane is not None and lane.connection is not None:
            return lane
        return await self._open_lane(key, within)

    async def resume(
        self,
        key: str,
        command: Command,
        error: ReplyError | ConnectionLost,
        connection: JoinedConnection,
        *,
        repeatable: bool = False,
        text: str | None = None,
    ) -> Any:
        """Go on with a command that was submitted to `connection_for(key)` and met trouble there.

        Where the command is an EVALSHA, `text` is its script's.
        """
        try:
            lane = self._lane(key) or await self._open_lane(key, self.options.wait_for_server)
        except HOPELESS as hopeless:
            if isinstance(error, ConnectionLost) and error.was_sent:
                raise ConnectionLost(self.shown, str(hopeless), was_sent=True) from hopeless
            raise
        trouble = _Trouble(error, lane, connection)
        return await self._persist(key, command, repeatable=repeatable, trouble=trouble, text=text)

    async def make_sure_dead(self, key: str, lost: LostConnection) -> None:
        """Make the server drop a lost connection, so that nothing it still holds unread will ever be carried out.

        A server that was restarted or replaced has no such connection; that is as good.

        Raises:
            PermissionDenied: the ACL forbids CLIENT LIST or CLIENT KILL.
            ServerUnavailable: no usable server.
        """
        await kill_lost(partial(self.call, key, repeatable=True), lost)

    # --- insides

    async def _persist(
        self,
        key: str,
        command: Command,
        *,
        repeatable: bool,
        trouble: _Trouble | None,
        text: str | None = None,
    ) -> Any:
        """Repeat a command until it has an outcome; the slow path of `call`."""
        clock = self.options.clock
        started = clock.monotonic()
        deadline = started + self.options.wait_for_server
        backoff = Backoff(base=0.02, cap=RETRY_CAP)
        may_have_run = False
        while True:
            plan = _Plan(command)
            if trouble is not None:
                may_have_run |= isinstance(trouble.error, ConnectionLost) and trouble.error.was_sent
                plan = self._plan(trouble, command, backoff, repeatable=repeatable, text=text)
                self.options.hooks.command_repeated(_command_name(command), trouble.reason)
                waited = clock.monotonic() - started
                if deadline - clock.monotonic() <= plan.pause:
                    raise self._given_up(
                        waited, trouble.reason, may_have_run=may_have_run
                    ) from trouble.error
                await anyio.sleep(plan.pause)
            try:
                lane, connection = await self._reach(key, plan, deadline)
            except HOPELESS as error:
                if may_have_run:  # what it says of now must not be taken for "nothing was done"
                    raise ConnectionLost(self.shown, str(error), was_sent=True) from error
                raise
            except ServerUnavailable as error:
                if plan.lane is not None and clock.monotonic() < deadline:
                    trouble = None  # the node is not there: ask the owner by the map
                    continue
                waited = clock.monotonic() - started
                raise self._given_up(waited, error.reason, may_have_run=may_have_run) from error
            try:
                if plan.asking:  # in the same write as the command; it holds for the next one only
                    connection.submit_unheard(("ASKING",))
                command = plan.command
                return await connection.submit(command)
            except (ReplyError, ConnectionLost) as error:
                trouble = _Trouble(error, lane, connection)

    def _given_up(self, waited: float, reason: str, *, may_have_run: bool) -> ServerUnavailable:
        """The error of a command that found no usable server in time."""
        if may_have_run:  # only repeatable ones come here then
            return ConnectionLost(self.shown, f"{reason} (for {waited:.1f} s)", was_sent=True)
        return ServerUnavailable(self.shown, waited, reason)

    async def _reach(self, key: str, plan: _Plan, deadline: float) -> tuple[Lane, JoinedConnection]:
        """A connection with room, to where the plan says or to the owner of the key."""
        within = max(deadline - self.options.clock.monotonic(), 0.001)
        if plan.lane is None:
            lane = await self._open_lane(key, within)
        else:
            lane, within = plan.lane, min(within, TOLD_LANE_PATIENCE)
        connection = await lane.ready(within)
        await connection.room()
        return lane, connection

    def _plan(
        self,
        trouble: _Trouble,
        command: Command,
        backoff: Backoff,
        *,
        repeatable: bool,
        text: str | None,
    ) -> _Plan:
        """What to do next about trouble; raises where the answer is to tell the caller."""
        error = trouble.error
        name = _command_name(command)
        if isinstance(error, ConnectionLost):
            if error.was_sent and not repeatable:
                connection = trouble.connection
                lost = LostConnection(connection.address, connection.client_id, connection.name)
                raise Unsettled(name, error.reason, lost) from error
            return _Plan(command, pause=backoff.next_pause())
        what = verdict(error)
        if what is Verdict.LOAD_SCRIPT and text is not None and not isinstance(command, bytes):
            return _Plan(("EVAL", text, *command[2:]), trouble.lane)
        if what is Verdict.REDIRECT:
            pause = backoff.next_pause() if backoff.attempts >= FREE_REDIRECTIONS else 0.0
            backoff.attempts += 1
            lane = self.redirect(error, trouble.lane)
            return _Plan(command, lane, asking=error.code == "ASK", pause=pause)
        if what is Verdict.MOVE_ON:
            trouble.lane.leave(trouble.connection)
            return _Plan(command, pause=backoff.next_pause())
        if what is Verdict.WAIT:
            return _Plan(command, pause=backoff.next_pause())
        raise from_reply(error, name, trouble.lane.address) from error


async def kill_lost(ask: Callable[..., Awaitable[Any]], lost: LostConnection) -> None:
    """Have the server that `ask` asks drop a connection, if it is one of its own."""
    listed = await ask("CLIENT", "LIST", "ID", lost.client_id)
    text = listed.decode() if isinstance(listed, bytes) else str(listed)
    # ids start again after a restart: the name says that it is the same
    if f"name={lost.name} " in text:
        await ask("CLIENT", "KILL", "ID", lost.client_id)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to try next. Without a lane: at the owner of the key."""

    command: Command
    lane: Lane | None = None
    asking: bool = False
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What happened to one try of a command, and where."""

    error: ReplyError | ConnectionLost
    lane: Lane
    connection: JoinedConnection

    @property
    def reason(self) -> str:
        return self.error.text if isinstance(self.error, ReplyError) else self.error.reason


def _command_name(command: Command) -> str:
    """The first word or two, for messages: never a payload."""
    if isinstance(command, bytes):
        return command.split(b"\r\n", 3)[2].decode()
    words = [str(word) for word in command[:2]]
    two = words[0] in ("CLIENT", "XGROUP", "XINFO", "CLUSTER", "SCRIPT", "OBJECT", "MEMORY")
    return " ".join(words) if two else words[0]
