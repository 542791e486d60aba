"""Commands and scripts of maps, typed: one state change per call. Milliseconds exist only here.

Every write carries a request number: it is repeated until its outcome is known, and happens once (`requests.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from pulsewire._core.clock import SYSTEM_CLOCK
from pulsewire._core.ids import new_ulid
from pulsewire._core.requests import KEPT, Requests
from pulsewire._redis.link import Link
from pulsewire._redis.pipeline import Argument, JoinedConnection, bulk, take_note
from pulsewire._redis.scripts import Script, ms
from pulsewire._redis.translate import ReplyError, Verdict, verdict
from pulsewire.errors import ConnectionLost, OutcomeUnknown, PermissionDenied, ServerError
from pulsewire.rmap.keys import MapKeys
from pulsewire.rmap.turn import Turn, in_shares
from pulsewire.rmap.wire import KIND_FIELD, REVISION_FIELD, MapInfo, decode_revision, encode_key

HALF_MOVED = ("ASK", "TRYAGAIN")
"""A slot of a cluster that is half moved refuses commands over two keys, for as long as moving takes. A write then goes
without its record, and with it the promise that it can be repeated: a lost reply is `OutcomeUnknown` there."""

MOST_PLACES = 8
"""Templates of commands are kept up to so many arguments; longer ones are lists of the caller's length."""
Condition = Literal[b"always", b"absent", b"equal"]
_ALWAYS: Condition = b"always"


def _script(name: str) -> Script:
    return Script.load("pulsewire.rmap", name)


SET, DELETE, CLEAR = _script("set"), _script("delete"), _script("clear")
INC, APPEND, REMOVE = _script("inc"), _script("append"), _script("remove")
FORGET = _script("forget")


class Written(NamedTuple):
    """What a write did.

    Attributes:
        outcome: the word of the script.
        revision: of the map after the change; 0 where nothing was changed.
        existed: whether there was a value before.
        text: the value before, or what the script says it is.
    """

    outcome: bytes
    revision: int
    existed: bool
    text: bytes


class _Write(NamedTuple):
    """A write that is under way."""

    script: Script
    request: int
    arguments: tuple[Argument, ...]
    connection: JoinedConnection


@dataclass(frozen=True, slots=True)
class LifeTime:
    """Seconds after which a map vanishes, 0 for never: from its creation, or from its last change."""

    ttl: float = 0.0
    sliding_ttl: float = 0.0

    def arguments(self) -> tuple[Argument, ...]:
        """For the scripts."""
        return (ms(self.ttl), ms(self.sliding_ttl))


class MapStore:
    """One map in Redis."""

    def __init__(self, link: Link, keys: MapKeys, life: LifeTime) -> None:
        self.link = link
        self.keys = keys
        self.content = keys.content
        self.is_sharded = link.info.has_sharded_pubsub
        self.channel = keys.updates(sharded=self.is_sharded)
        self._life = life
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        """Begin as a writer the server does not know yet."""
        publish = "SPUBLISH" if self.is_sharded else "PUBLISH"
        self._writer = self.keys.writer(new_ulid())
        self._requests = Requests()
        self._fixed = (self.channel, publish, *self._life.arguments(), ms(KEPT))
        self._templates: dict[tuple[str, int], bytes] = {}
        self._turns: dict[str, Turn] = {}

    # --- writing

    async def set(
        self, key: str, value: bytes, condition: Condition = b"always", test: bytes = b""
    ) -> Written:
        """Store a value if the condition holds. Outcome `stored` or `kept`; `text` is the value found.

        Those that are asked for in one turn of the loop travel together.
        """
        return _found(await self._run_joined(SET, encode_key(key), value, condition, test))

    async def delete(
        self, key: str, condition: Condition = b"always", test: bytes = b""
    ) -> Written:
        """Remove a key if the condition holds. Outcome `deleted` or `kept`; `text` is the value found."""
        return _found(await self._run(DELETE, encode_key(key), condition, test))

    async def clear(self, kind: str, expected: list[bytes]) -> Written:
        """Remove everything, if each key of the list holds the value after it. Outcome `cleared` or `kept`."""
        outcome, revision = await self._run(CLEAR, kind, *expected)
        return Written(outcome, revision, existed=False, text=b"")

    async def inc(self, key: str, by: int) -> Written:
        """Add to a whole number. Outcome `stored` with the number, or `refused` with the reason.

        Those that are asked for in one turn of the loop travel together.
        """
        return _changed(await self._run_joined(INC, encode_key(key), b"%d" % by))

    async def append(
        self, key: str, items: list[bytes], *, only_new: bool, max_size: int
    ) -> Written:
        """Append to a list. Outcome `stored`, `kept` (with the value there), `large` (its size) or `refused`."""
        which = b"new" if only_new else b"all"
        return _changed(await self._run(APPEND, encode_key(key), which, max_size, *items))

    async def remove(self, key: str, items: list[bytes]) -> Written:
        """Remove from a list. Outcome `stored`, `deleted`, `kept` (with the value there) or `refused`."""
        return _changed(await self._run(REMOVE, encode_key(key), *items))

    async def forget(self) -> str:
        """Remove the tombstone of a destroyed map, unless somebody listens. `forgotten`, `kept` or `none`."""
        count = "SHARDNUMSUB" if self.is_sharded else "NUMSUB"
        outcome, _ = await self.link.run(
            FORGET, [self.content], (self.channel, count), repeatable=True
        )
        return str(outcome.decode())

    async def set_many(self, pairs: Sequence[tuple[str, bytes]]) -> list[Written]:
        """`set` for each pair, in this order and in one write."""
        connection = await self.link.connection_for(self.content)
        sets = ((encode_key(key), value, _ALWAYS, b"") for key, value in pairs)
        sent = [self._send(connection, SET, arguments) for arguments in in_shares(sets)]
        written: list[Written] = []
        for done, (write, reply) in enumerate(sent, 1):
            try:
                written += map(_found, await self._bring_home(write, reply))
            except BaseException:
                for other, unheard in sent[done:]:
                    self._doubt(other.request)
                    unheard.add_done_callback(take_note)
                raise
        return written

    async def _run_joined(self, script: Script, *arguments: bytes) -> list[Any]:
        """As `_run`, together with what others ask for in this turn of the loop."""
        connection = await self.link.connection_for(self.content)
        turn = self._turns.get(script.name)
        if turn is None or not turn.is_open or turn.connection is not connection:
            turn = self._turns[script.name] = self._begin_turn(script, connection)
        place, caller = turn.add(arguments, self._loop)
        reply = await caller
        if reply is None:
            reply = (await turn.settled(self._settle_turn))[place]
        return reply

    def _begin_turn(self, script: Script, connection: JoinedConnection) -> Turn:
        turn = Turn(script, connection, self._requests.next())
        connection.submit_late(partial(self._pack_turn, turn), partial(self._heard, turn))
        return turn

    def _pack_turn(self, turn: Turn) -> bytes:
        turn.is_open = False
        if self._turns.get(turn.script.name) is turn:
            del self._turns[turn.script.name]
        return self._pack(turn.script, turn.request, turn.arguments)

    def _heard(self, turn: Turn, reply: Any) -> None:  # noqa: ANN401  # a reply
        if isinstance(reply, (ReplyError, ConnectionLost)):
            if not turn.fail(reply):
                self._doubt(turn.request)
            return
        self._answered(turn.connection, turn.request, _size(reply))
        turn.give(reply)

    async def _settle_turn(self, turn: Turn, trouble: ReplyError | ConnectionLost) -> list[Any]:
        write = _Write(turn.script, turn.request, tuple(turn.arguments), turn.connection)
        return await self._settle(write, trouble)

    async def _run(self, script: Script, *arguments: Argument) -> list[Any]:
        """Carry a write out once, whatever happens to its reply.

        Raises:
            OutcomeUnknown: no server could be asked any more what had become of it.
            ServerUnavailable: it was not carried out.
        """
        connection = await self.link.connection_for(self.content)
        return await self._bring_home(*self._send(connection, script, arguments))

    def _send(
        self, connection: JoinedConnection, script: Script, arguments: tuple[Argument, ...]
    ) -> tuple[_Write, asyncio.Future[Any]]:
        write = _Write(script, self._requests.next(), arguments, connection)
        return write, connection.submit(self._pack(script, write.request, arguments))

    async def _bring_home(self, write: _Write, coming: asyncio.Future[Any]) -> list[Any]:
        """The reply to a write; it is sent again as long as nobody knows whether it was carried out."""
        try:
            reply: list[Any] = await coming
        except (ReplyError, ConnectionLost) as trouble:
            return await self._settle(write, trouble)
        except BaseException:  # cancelled: whether it is carried out, nobody will know
            self._doubt(write.request)
            raise
        self._answered(write.connection, write.request, _size(reply))
        return reply

    async def _settle(self, write: _Write, trouble: ReplyError | ConnectionLost) -> list[Any]:
        """The reply to a write that has met trouble."""
        connection = write.connection
        is_unknown = isinstance(trouble, ReplyError) and verdict(trouble) is Verdict.LOAD_SCRIPT
        if is_unknown and connection.is_usable:
            whole = connection.submit(self._words(write, "EVAL", write.script.text))
            return await self._bring_home(write, whole)
        self._doubt(write.request)
        return await self._send_again(write, trouble)

    def _answered(self, connection: JoinedConnection, request: int, size: int) -> None:
        forgotten = self._requests.answered(request, size, SYSTEM_CLOCK.monotonic())
        if forgotten and connection.is_usable:
            connection.submit_unheard(("HDEL", self._writer, *forgotten))

    def _doubt(self, request: int) -> None:
        self._requests.in_doubt(request, SYSTEM_CLOCK.monotonic())

    async def _send_again(self, write: _Write, trouble: ReplyError | ConnectionLost) -> list[Any]:
        script = write.script
        is_safe = not (isinstance(trouble, ReplyError) and trouble.code in HALF_MOVED)
        command = self._words(write, "EVALSHA", script.sha, has_record=is_safe)
        try:
            reply: list[Any] = await self.link.resume(
                self.content,
                command,
                trouble,
                write.connection,
                repeatable=is_safe,
                text=script.text,
            )
        except ConnectionLost as error:
            if error.was_sent:
                raise OutcomeUnknown(f"{script.name} of a map", error.reason) from error
            raise
        return reply

    def _words(
        self, write: _Write, verb: str, script: str, *, has_record: bool = True
    ) -> tuple[Argument, ...]:
        """A write as it is sent again."""
        keys = (2, self.content, self._writer) if has_record else (1, self.content)
        return (verb, script, *keys, *self._fixed, write.request, *write.arguments)

    def _pack(self, script: Script, request: int, arguments: Sequence[Argument]) -> bytes:
        """The EVALSHA as it travels; what is the same every time is packed once."""
        kind = (script.name, len(arguments))
        template = self._templates.get(kind)
        if template is None:
            words = ("EVALSHA", script.sha, 2, self.content, self._writer, *self._fixed)
            head = b"*%d\r\n%b" % (len(words) + 1 + len(arguments), bulk(*words))
            template = head.replace(b"%", b"%%") + b"$%d\r\n%b\r\n" * (1 + len(arguments))
            if len(arguments) <= MOST_PLACES:
                self._templates[kind] = template
        parts: list[int | bytes] = []
        for word in (request, *arguments):
            data = word if type(word) is bytes else str(word).encode()
            parts += (len(data), data)
        return template % tuple(parts)

    async def sign_off(self) -> None:
        """Have the server forget this writer, unless a write is under way, or a copy of one may still be on its way."""
        if self._is_forgettable():
            connection = await self.link.connection_for(self.content)
            if self._is_forgettable():  # still, for somebody may have begun a write meanwhile
                connection.submit_unheard(("UNLINK", self._writer))
                self._begin()

    def _is_forgettable(self) -> bool:
        """Whether this writer has a record that nobody needs any more."""
        requests = self._requests
        return requests.was_used and not requests.has_open and not requests.has_doubtful

    # --- looking

    async def fetch(self, key: str) -> bytes | None:
        """The value in Redis now."""
        found = await self.link.call(
            self.content, "HGET", self.content, encode_key(key), repeatable=True
        )
        return None if found is None else bytes(found)

    async def info(self) -> MapInfo:
        """Everything the server says of the map."""
        key, call = self.content, self.link.call
        length, (revision, kind), ttl, memory, replicas = await asyncio.gather(
            call(key, "HLEN", key, repeatable=True),
            call(key, "HMGET", key, REVISION_FIELD, KIND_FIELD, repeatable=True),
            call(key, "PTTL", key, repeatable=True),
            self._optional("MEMORY", "USAGE", key),
            self._listeners("SHARDNUMSUB" if self.is_sharded else "NUMSUB"),
        )
        return MapInfo(
            self.keys.name,
            key,
            exists=length > 0,
            entries=length - (revision is not None) - (kind is not None),
            revision=decode_revision(revision),
            last_change=(kind or b"").decode(errors="replace"),
            ttl=ttl / 1000 if ttl >= 0 else None,
            memory_bytes=memory,
            replicas=replicas,
        )

    async def _listeners(self, count: str) -> int:
        reply = await self._optional("PUBSUB", count, self.channel)
        return int(reply[1]) if reply else 0

    async def _optional(self, *command: Argument) -> Any:  # noqa: ANN401  # a reply
        """The reply to a question that a restricted user may not ask."""
        try:
            return await self.link.call(self.content, *command, repeatable=True)
        except (ServerError, PermissionDenied):
            return None


def _size(reply: list[Any]) -> int:
    last = reply[-1]
    if type(last) is list:
        return sum(len(found[-1]) for found in reply)
    return len(last) if type(last) is bytes else 0


def _found(reply: list[Any]) -> Written:
    outcome, revision, existed, text = reply
    return Written(outcome, revision, existed == 1, text)


def _changed(reply: list[Any]) -> Written:
    outcome, revision, text = reply
    return Written(outcome, revision, existed=False, text=_as_bytes(text))


def _as_bytes(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
