"""A replicated map: reads from memory, writes through the server. The public face; the work is in `following.py`."""

from __future__ import annotations

import logging
from collections.abc import (
    Awaitable,
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar, cast, overload

import anyio

from pulsewire._core.codecs import Codec
from pulsewire._core.hooks import Hooks
from pulsewire._core.loops import LoopContext, Stop, keep_doing
from pulsewire._core.tasks import OwnedTasks
from pulsewire._core.vitals import AgeSign
from pulsewire._redis.link import Link
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.notifier import Notifier
from pulsewire.errors import (
    Closed,
    DecodeError,
    InvalidOption,
    NotJoined,
    PayloadTooLarge,
    PulsewireError,
    ReplicaBehind,
    ValueConflict,
)
from pulsewire.rmap.following import Follower, MapStatistics
from pulsewire.rmap.keys import MapKeys
from pulsewire.rmap.loading import Loader
from pulsewire.rmap.options import MapOptions
from pulsewire.rmap.replica import STEP_BACK
from pulsewire.rmap.store import LifeTime, MapStore, Written
from pulsewire.rmap.watching import Changes
from pulsewire.rmap.wire import (
    MapInfo,
    Removed,
    TestAndDelete,
    TestAndSet,
    check_key,
    decode_list,
    encode_key,
)

T = TypeVar("T")
D = TypeVar("D")

DEFAULT_SYNC_TIMEOUT = 30.0
GOODBYE = 0.5
"""Seconds that closing may take to tidy up at the server."""
MANY = 500
_INT64 = 2**63
_ABSENT: Any = object()


class ReplicatedMap(Mapping[str, T], Generic[T]):
    """A map that every process reads from its own memory. Get one from `Hub.map`, and join it with `async with`.

    Reads never touch the network; what they show is at most `stale_for` seconds behind the server. Each write is one
    atomic step on the server and returns what the server says. It reaches this replica as it reaches all others: a
    moment later (`set_and_wait` waits for that). Writing needs no joining.

    Values may be shared between readers: treat them as constants.
    """

    __hash__ = object.__hash__

    def __init__(
        self,
        link: Link,
        space: Namespace,
        name: str,
        *,
        codec: Codec[T],
        options: MapOptions,
        notifier: Notifier,
        hooks: Hooks,
        logger: logging.Logger,
    ) -> None:
        self.name = name
        self.options = options
        life = LifeTime(options.ttl or 0.0, options.sliding_ttl or 0.0)
        self._store = MapStore(link, MapKeys(space, name), life)
        self._codec = codec
        self._notifier = notifier
        self._link = link
        self._hooks = hooks
        self._logger = logger
        has_ttl = options.ttl is not None or options.sliding_ttl is not None
        self._follower = Follower(self._store, notifier, codec, hooks, logger, has_ttl=has_ttl)
        self._replica = self._follower.replica
        self._replica.content = _NotJoined(name)
        self._tasks = OwnedTasks()
        self._stop = Stop()
        self._loader = Loader[T](self._tasks, self._store_loaded)
        self._is_joined = False
        self._is_closed = False
        self._unwatch: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        if not self._is_joined:
            return f"<ReplicatedMap {self.name!r} not joined>"
        state = "closed" if self._is_closed else f"stale_for={self.stale_for:.1f}"
        return f"<ReplicatedMap {self.name!r} keys={len(self)} revision={self.revision} {state}>"

    async def __aenter__(self) -> Self:
        """Join: subscribe, take a snapshot, and follow from then on.

        Raises:
            ServerUnavailable, PermissionDenied, ServerError: the map cannot be read.
        """
        if self._is_joined:
            reason = "was joined before (get a new one from the hub): this one"
            raise Closed(f"map {self.name!r} {reason}")
        self._replica.content = {}
        self._is_joined = True
        await self._tasks.enter()
        try:
            await self._follower.join(self._link.options.wait_for_server)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        vitals = self._link.options.vitals
        ward = vitals.ward("maps", f"map {self.name}")
        context = LoopContext(self._stop, self._hooks, self._logger, ward)
        self._unwatch = vitals.ask(self._signs)
        self._tasks.start_soon(
            keep_doing, f"follow map {self.name}", self._follower.follow_once, context
        )
        self._logger.debug("map joined", extra={"map": self.name, "revision": self.revision})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Stop following. The content stays readable as it is; writes are refused from now on."""
        self._is_closed = True
        self._unwatch()
        self._stop.set()
        self._follower.close()
        try:
            return await self._tasks.leave(kind, error, trace)
        finally:
            await self._sign_off()
            self._logger.debug("map closed", extra={"map": self.name})

    async def _sign_off(self) -> None:
        with anyio.move_on_after(GOODBYE, shield=True):
            try:
                await self._store.sign_off()
                if self._follower.goodbye is not None:
                    await self._follower.goodbye  # from then on `forget` does not count us
            except PulsewireError:
                return  # what it would have removed has a time to live

    # --- reading, from memory

    def __getitem__(self, key: str) -> T:
        try:
            return self._replica.content[key]
        except KeyError:
            self._check_readable(key)
            raise

    @overload
    def get(self, key: str, default: None = None, /) -> T | None: ...
    @overload
    def get(self, key: str, default: T | D, /) -> T | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        """The value of a key, or `default` when it is absent.

        Raises:
            DecodeError: there is a value, and the codec cannot decode it.
        """
        value = self._replica.content.get(key, _ABSENT)
        if value is _ABSENT:
            self._check_readable(key)
            return default
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._replica.content

    def __len__(self) -> int:
        return len(self._replica.content)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._replica.content))

    def snapshot(self) -> dict[str, T]:
        """A copy of everything, of one revision."""
        return self._replica.content.copy()

    def keys(self) -> KeysView[str]:
        """The keys, of one revision."""
        return self.snapshot().keys()

    def values(self) -> ValuesView[T]:
        """The values, of one revision."""
        return self.snapshot().values()

    def items(self) -> ItemsView[str, T]:
        """Keys and values, of one revision."""
        return self.snapshot().items()

    @property
    def unreadable(self) -> frozenset[str]:
        """Keys whose value the codec cannot decode: they do not count as keys, and reading them raises DecodeError."""
        return frozenset(self._replica.unreadable)

    def _check_readable(self, key: str) -> None:
        if (value := self._replica.unreadable.get(key)) is not None:
            raise value.error

    def values_of(self, key: str) -> list[str] | None:
        """The items of a list value (a JSON array of strings, or text with commas); None when the key is absent."""
        if (unreadable := self._replica.unreadable.get(key)) is not None:
            return decode_list(unreadable.stored)
        if key not in self:
            return None
        return decode_list(self._codec.encode(self[key]))

    # --- how sure that is

    @property
    def revision(self) -> int:
        """The revision of what is read. It grows by one with each change of the map."""
        return self._replica.revision

    @property
    def stale_for(self) -> float:
        """Seconds since the replica was last known to be complete: about 1 at most in good weather.

        Infinite before the map is joined. It grows while the server cannot be reached.
        """
        return self._follower.stale_for

    @property
    def is_stale(self) -> bool:
        """Whether `stale_for` is above the `stale_after` that was given."""
        return self.stale_for > self.options.stale_after

    def _signs(self) -> Iterator[AgeSign]:
        limit = self.options.stale_after
        yield AgeSign("maps", f"map {self.name}", "replica", self.stale_for, limit, limit)

    @property
    def ready(self) -> bool:
        """Whether the map is followed, and no notice is known to be missing."""
        return self._follower.is_in_step

    async def wait_for_revision(self, revision: int, *, timeout: float | None = None) -> None:
        """Wait until the replica has reached a revision.

        Args:
            revision: such as `MapInfo.revision`, or that of a change seen elsewhere.
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            ReplicaBehind: not in time.
            NotJoined, Closed: the map is not followed here.
        """
        self._check_followed()
        await self._follower.wait_for(revision, timeout)

    def changes(self, *, initial: bool = False) -> Changes[T]:
        """Watch: `async for change in map.changes()`. Watching begins with this call.

        A slow watcher sees changes of one key joined, and never a wrong final value; of what is joined, a reset or a
        delete is still seen. What happened while the server could not be reached is seen on return. The iterator ends
        when the map is closed.

        Args:
            initial: first tell what is there already, as sets.
        """
        self._check_followed()
        return self._follower.watch(initial=initial)

    def statistics(self) -> MapStatistics:
        """What has happened since it was joined."""
        return self._follower.statistics()

    # --- writing, through the server

    async def set(self, key: str, value: T) -> T | None:
        """Store a value. Returns the one before, None if there was none.

        Raises:
            InvalidName, PayloadTooLarge, TypeError: the call is wrong; nothing was written.
            ServerUnavailable, ServerFull, PermissionDenied: nothing was written.
            OutcomeUnknown: it was sent, and the server was away before it could be asked what had become of it.
        """
        return self._old(await self._set(key, value))

    async def set_and_wait(
        self, key: str, value: T, *, timeout: float = DEFAULT_SYNC_TIMEOUT
    ) -> T | None:
        """Store a value, and wait until this replica has it. Returns the one before.

        Raises:
            ReplicaBehind: it was written, and did not arrive here in time.
            As `set`.
        """
        self._check_followed()
        written = await self._set(key, value)
        await self._follower.wait_for(written.revision, timeout)
        return self._old(written)

    async def set_many(self, values: Mapping[str, T]) -> None:
        """Store many values, each a change of its own, several hundred in a write.

        Raises:
            As `set`; those before the one that failed were stored.
        """
        encoded = [(check_key(key), self._encode(value)) for key, value in values.items()]
        self._check_open()
        for start in range(0, len(encoded), MANY):
            had = self._replica.revision
            for written in await self._store.set_many(encoded[start : start + MANY]):
                self._note(written, had)

    async def set_if_absent(self, key: str, value: T) -> bool:
        """Store a value unless the key is there already. True when it was stored."""
        data = self._encode(value)
        written = await self._write(self._store.set, check_key(key), data, b"absent")
        return written.revision > 0

    async def test_and_set(self, key: str, test: T, value: T) -> TestAndSet[T]:
        """Store a value if the key holds `test` (compare and swap). The result is true when it was stored.

        An absent key matches nothing.
        """
        data, expected = self._encode(value), self._encode(test)
        written = await self._write(self._store.set, check_key(key), data, b"equal", expected)
        return TestAndSet(self._old(written), written.existed, written.revision > 0)

    async def inc(self, key: str, by: int = 1) -> int:
        """Add to a whole number and return it; an absent key counts as 0.

        Raises:
            ValueConflict: the value is not a whole number, or the sum has more than 64 bits; nothing was written.
        """
        if not isinstance(by, int) or isinstance(by, bool) or not -_INT64 <= by < _INT64:
            raise InvalidOption("by", by, "a whole number of 64 bits is needed")
        written = await self._write(self._store.inc, check_key(key), by)
        if written.outcome == b"refused":
            reason = written.text.decode(errors="replace").removeprefix("ERR ")
            raise ValueConflict(self.name, key, "inc", reason)
        return int(written.text)

    async def append_values(self, key: str, *items: str) -> list[str]:
        """Append to the list that a key holds, and return it. Without items: the list as it is.

        Raises:
            ValueConflict: the value is JSON, but not an array of strings; nothing was written.
            PayloadTooLarge: the list would be larger than `max_value`; nothing was written.
        """
        return await self._append(key, items, only_new=False)

    async def append_unique_values(self, key: str, *items: str) -> list[str]:
        """Append those items that the list does not have yet, and return it.

        Raises:
            As `append_values`.
        """
        return await self._append(key, items, only_new=True)

    async def remove_values(self, key: str, *items: str) -> Removed:
        """Remove every occurrence of these items from a list. A list that becomes empty goes with its key.

        Raises:
            ValueConflict: the value is JSON, but not an array of strings; nothing was written.
        """
        written = await self._write(self._store.remove, check_key(key), _encode_items(items))
        self._check_list(written, key, "remove_values")
        return Removed(_listed(written), written.revision > 0)

    async def delete(self, key: str) -> T | None:
        """Remove a key. Returns the value it had, None if it was absent."""
        return self._old(await self._write(self._store.delete, check_key(key)))

    async def test_and_delete(self, key: str, test: T) -> TestAndDelete[T]:
        """Remove a key if it holds `test`. The result is true when it was removed."""
        expected = self._encode(test)
        written = await self._write(self._store.delete, check_key(key), b"equal", expected)
        return TestAndDelete(self._old(written), written.existed, written.revision > 0)

    async def reset(self) -> None:
        """Remove all keys. Revisions go on. Works on a closed map, too, as in Go Pulse."""
        await self._clear("reset", {})

    async def test_and_reset(self, expected: Mapping[str, T]) -> bool:
        """Remove all keys if each one of `expected` holds its value. True when that was so; always when it is empty."""
        self._check_open()
        return await self._clear("reset", expected)

    async def destroy(self) -> None:
        """Remove all keys for good. Two fields stay, so that revisions go on if the name is used again: see `forget`.

        Works on a closed map, too, as in Go Pulse.
        """
        await self._clear("destroy", {})

    async def forget(self) -> bool:
        """Remove what `destroy` has left, unless somebody listens to the map. True when it was removed.

        Go programs that have the map open without listening (their connection is down at that moment) would ignore its
        changes until its revisions have passed the old ones.
        """
        return await self._store.forget() == "forgotten"

    # --- looking at the server

    async def fetch(self, key: str) -> T | None:
        """The value on the server now; None when the key is absent. One round trip; needs no joining.

        Raises:
            DecodeError: the codec cannot decode it.
        """
        stored = await self._store.fetch(check_key(key))
        if stored is None:
            return None
        try:
            return self._codec.decode(stored)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError("value", str(error)) from error

    async def info(self) -> MapInfo:
        """What the server says about the map."""
        return await self._store.info()

    # --- for caches

    async def get_or_load(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        """The value of a key; if it is absent, what `load` returns, stored for everyone.

        `load` runs once in this process, however many ask meanwhile. Storing goes on in the background: when it fails,
        the value is returned nevertheless, and the failure is logged and told to the hooks.

        Raises:
            Whatever `load` raises; everyone who waits for it gets it.
            DecodeError: there is a value, and the codec cannot decode it.
            InvalidName, PayloadTooLarge, TypeError: it cannot be stored under that key, or not at all.
        """
        self._check_followed()
        there = self.get(check_key(key), _ABSENT)
        if there is not _ABSENT:
            return cast("T", there)

        async def load_checked() -> T:
            value = await load()
            self._encode(value)
            return value

        return await self._loader.load(key, load_checked)

    async def _store_loaded(self, key: str, value: T) -> None:
        try:
            written = await self._write(self._store.set, key, self._encode(value), b"absent")
            if written.revision:
                await self._follower.wait_for(written.revision, DEFAULT_SYNC_TIMEOUT)
        except ReplicaBehind:
            return  # it is stored
        except PulsewireError as error:
            self._hooks.map_load_unstored(self.name, key, error)
            said = {"map": self.name, "key": key, "why": str(error)}
            self._logger.warning("a loaded value could not be stored in a map", extra=said)

    # --- insides

    async def _set(self, key: str, value: T) -> Written:
        return await self._write(self._store.set, check_key(key), self._encode(value))

    async def _append(self, key: str, items: Sequence[str], *, only_new: bool) -> list[str]:
        name = "append_unique_values" if only_new else "append_values"
        limit, encoded = self.options.max_value, _encode_items(items)
        written = await self._write(
            self._store.append, check_key(key), encoded, only_new=only_new, max_size=limit
        )
        if written.outcome == b"large":
            raise PayloadTooLarge(int(written.text), limit, f"map {self.name!r}", "max_value")
        self._check_list(written, key, name)
        return _listed(written)

    def _check_list(self, written: Written, key: str, operation: str) -> None:
        if written.outcome == b"refused":
            raise ValueConflict(self.name, key, operation, written.text.decode())

    async def _clear(self, kind: str, expected: Mapping[str, T]) -> bool:
        pairs = [
            data
            for key, value in expected.items()
            for data in (encode_key(check_key(key)), self._encode(value))
        ]
        had = self._replica.revision
        return self._note(await self._store.clear(kind, pairs), had).revision > 0

    async def _write(
        self,
        write: Callable[..., Awaitable[Written]],
        *args: Any,  # noqa: ANN401  # those of `write`
        **options: Any,  # noqa: ANN401  # likewise
    ) -> Written:
        """Do it, unless the map is closed."""
        self._check_open()
        had = self._replica.revision
        return self._note(await write(*args, **options), had)

    def _note(self, written: Written, had: int) -> Written:
        """A change must have a later revision than the one known before it was sent; else the server lost data."""
        if 0 < written.revision <= had and not self._is_closed:
            self._follower.resync(STEP_BACK)
        return written

    def _encode(self, value: T) -> bytes:
        data = self._codec.encode(value)
        limit = self.options.max_value
        if len(data) > limit:
            raise PayloadTooLarge(len(data), limit, f"map {self.name!r}", "max_value")
        return data

    def _old(self, written: Written) -> T | None:
        """The value before. One that cannot be decoded is as good as none: the write itself has succeeded."""
        if not written.existed:
            return None
        try:
            return self._codec.decode(written.text)
        except Exception:  # noqa: BLE001  # a user's codec
            return None

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"map {self.name!r}")

    def _check_followed(self) -> None:
        if not self._is_joined:
            raise NotJoined(self.name)
        self._check_open()


def _encode_items(items: Sequence[str]) -> list[bytes]:
    encoded = []
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"the items of a list are str, not {type(item).__name__}")
        try:
            encoded.append(item.encode())
        except UnicodeEncodeError as error:
            raise TypeError(f"this item cannot be written as UTF-8: {error}") from error
    return encoded


def _listed(written: Written) -> list[str]:
    return decode_list(written.text) if written.text else []


class _NotJoined(dict[str, Any]):
    """The content of a map that was not joined: whoever reads it learns so, and reading a joined one costs nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def _refuse(self, *_: object) -> NoReturn:
        raise NotJoined(self._name)

    __getitem__ = __contains__ = __iter__ = __len__ = get = copy = _refuse
