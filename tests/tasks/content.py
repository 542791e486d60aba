"""Everything that one queue has in Redis, as values that compare; and values that are known but for the moment.

The name of a key is what follows the queue's prefix (spec/asynq.md 1.1); our own keys begin with `pulsewire:`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pulsewire.tasks.keys import QueueKeys

Content = dict[str, Any]
"""Name of a key -> its value: bytes, list, set, dict of bytes (HASH) or of floats (ZSET)."""


class Kept(NamedTuple):
    """The value of a key with a TTL, and until when it lives, Unix seconds."""

    value: Any
    until: Any


class Between:
    """Equals every number, or text of one, within bounds: whole ones only, or none of them, if that is said."""

    def __init__(self, low: float, high: float, *, whole: bool | None = None) -> None:
        self.low = low
        self.high = high
        self.whole = whole

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Between):
            return (self.low, self.high, self.whole) == (other.low, other.high, other.whole)
        if not isinstance(other, (bytes, int, float)):
            return NotImplemented
        number = float(other)
        if self.whole is not None and number.is_integer() != self.whole:
            return False
        return self.low <= number <= self.high

    __hash__ = None  # type: ignore[assignment]  # what equals many things has none

    def __repr__(self) -> str:
        kind = {None: "", True: " whole", False: " not whole"}[self.whole]
        return f"<{self.low:.3f} to {self.high:.3f}{kind}>"


class Window:
    """Between which two points in time, on the server's clock, something was done."""

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def seconds(self, after: float = 0.0) -> Between:
        """The current second, and so many later."""
        return Between(math.floor(self.low) + after, math.floor(self.high) + after, whole=True)

    def rounded_up(self, after: float = 0.0) -> Between:
        """The first whole second at or beyond a point in time so many seconds later."""
        low, high = (round(when, 3) + after for when in (self.low - 0.001, self.high))
        return Between(math.ceil(low), math.ceil(high), whole=True)

    def lease(self, seconds: float) -> Between:
        """The end of a lease of ours."""
        return Between(self.low + seconds - 0.001, self.high + seconds + 0.001, whole=False)

    def stamp(self) -> Between:
        """Now, in nanoseconds."""
        return Between(self.low * 1e9 - 1e3, self.high * 1e9 + 1e3)

    def exact(self, after: float = 0.0) -> Between:
        """So many seconds later, to the millisecond."""
        return Between(self.low + after - 0.001, self.high + after + 0.001)


_READ = """
local found = {}
for _, pattern in ipairs(ARGV) do
  for _, key in ipairs(redis.call("KEYS", pattern)) do
    local kind, value = redis.call("TYPE", key).ok, nil
    if kind == "string" then value = redis.call("GET", key)
    elseif kind == "list" then value = redis.call("LRANGE", key, 0, -1)
    elseif kind == "set" then value = redis.call("SMEMBERS", key)
    elseif kind == "zset" then value = redis.call("ZRANGE", key, 0, -1, "WITHSCORES")
    elseif kind == "hash" then value = redis.call("HGETALL", key) end
    found[#found + 1] = { key, kind, redis.call("PEXPIRETIME", key), value }
  end
end
return found
"""


async def read_content(send: Callable[..., Awaitable[Any]], keys: QueueKeys) -> Content:
    """All keys of a queue and what they hold, at one moment."""
    ours = keys.requests("").removesuffix("requests:")
    patterns = [_escaped(prefix) + "*" for prefix in (keys.prefix, ours)]
    content: Content = {}
    for key, kind, until, raw in await send("EVAL", _READ, 0, *patterns):
        value = _value(kind.decode(), raw)
        content[_name(text(key), keys.prefix, ours)] = (
            value if until < 0 else Kept(value, until / 1000)
        )
    return content


def changed(before: Content, changes: Mapping[str, Any]) -> Content:
    """A content after changes; None takes a key away."""
    after = {**before, **changes}
    return {name: value for name, value in after.items() if value is not None}


def text(value: bytes) -> str:
    """A member, whatever its bytes."""
    return value.decode(errors="surrogateescape")


def _name(key: str, prefix: str, ours: str) -> str:
    return key.removeprefix(prefix) if key.startswith(prefix) else "pulsewire:" + key[len(ours) :]


def _escaped(prefix: str) -> str:
    return "".join(f"\\{letter}" if letter in "[]*?\\^" else letter for letter in prefix)


def _value(kind: str, raw: Any) -> Any:
    if kind == "string":
        return raw
    if kind == "list":
        return [text(one) for one in raw]
    if kind == "set":
        return {text(one) for one in raw}
    pairs = zip(raw[::2], raw[1::2], strict=True)
    if kind == "zset":
        return {text(member): float(score) for member, score in pairs}
    return {text(field): value for field, value in pairs}
