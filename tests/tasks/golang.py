"""What Go's asynq does to a queue, as its scripts do it (spec/asynq.md 3.2 to 3.7): for fleets that are half Go.

Times are Go's own clock; here they are given. Messages are made by whoever calls.
"""

from __future__ import annotations

from typing import Any

from tests.tasks.scenes import DAY, Queue

DEQUEUE = """
if redis.call("EXISTS", KEYS[2]) == 1 then return false end
local id = redis.call("RPOPLPUSH", KEYS[1], KEYS[3])
if not id then return false end
local key = ARGV[2] .. id
redis.call("HSET", key, "state", "active")
redis.call("HDEL", key, "pending_since")
redis.call("ZADD", KEYS[4], ARGV[1], id)
return id
"""
LEAVE = """
if redis.call("LREM", KEYS[1], 0, ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
if redis.call("ZREM", KEYS[2], ARGV[1]) == 0 then return redis.error_reply("NOT FOUND") end
"""
DONE = (
    LEAVE
    + """
if redis.call("DEL", KEYS[3]) == 0 then return redis.error_reply("NOT FOUND") end
if redis.call("INCR", KEYS[5]) == 1 then
  redis.call("EXPIREAT", KEYS[5], redis.call("TIME")[1] + 90 * 86400)
end
redis.call("INCR", KEYS[4])
return "OK"
"""
)
RETRY = (
    LEAVE
    + """
redis.call("ZADD", KEYS[4], ARGV[3], ARGV[1])
redis.call("HSET", KEYS[3], "msg", ARGV[2], "state", "retry")
return "OK"
"""
)
REQUEUE = (
    LEAVE
    + """
redis.call("RPUSH", KEYS[4], ARGV[1])
redis.call("HSET", KEYS[3], "state", "pending")
return "OK"
"""
)
RUN = """
local state = redis.call("HGET", KEYS[1], "state")
if not state or state == "active" or state == "pending" then return 0 end
if state == "aggregating" then
  local group = redis.call("HGET", KEYS[1], "group")
  if redis.call("ZREM", ARGV[2] .. "g:" .. group, ARGV[1]) == 0 then return 0 end
  if redis.call("ZCARD", ARGV[2] .. "g:" .. group) == 0 then
    redis.call("SREM", ARGV[2] .. "groups", group)
  end
elseif redis.call("ZREM", ARGV[2] .. state, ARGV[1]) == 0 then return 0 end
redis.call("LPUSH", ARGV[2] .. "pending", ARGV[1])
redis.call("HSET", KEYS[1], "state", "pending")
return 1
"""
DELETE = """
local state = redis.call("HGET", KEYS[1], "state")
if not state or state == "active" then return 0 end
if state == "aggregating" then
  local group = redis.call("HGET", KEYS[1], "group")
  if redis.call("ZREM", ARGV[2] .. "g:" .. group, ARGV[1]) == 0 then return 0 end
  if redis.call("ZCARD", ARGV[2] .. "g:" .. group) == 0 then
    redis.call("SREM", ARGV[2] .. "groups", group)
  end
elseif state == "pending" then redis.call("LREM", ARGV[2] .. "pending", 0, ARGV[1])
elseif redis.call("ZREM", ARGV[2] .. state, ARGV[1]) == 0 then return 0 end
local lock = redis.call("HGET", KEYS[1], "unique_key")
if lock and lock ~= "" and redis.call("GET", lock) == ARGV[1] then redis.call("DEL", lock) end
redis.call("DEL", KEYS[1])
return 1
"""


class Go:
    """A Go server and a Go inspector on a queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._keys = queue.keys

    async def _eval(self, script: str, keys: list[str], *arguments: Any) -> Any:
        return await self._queue.send("EVAL", script, len(keys), *keys, *arguments)

    async def dequeue(self, lease: int) -> str | None:
        """The next task; its lease ends at a whole second."""
        keys = self._keys
        names = [keys.pending, keys.paused, keys.active, keys.lease]
        found = await self._eval(DEQUEUE, names, lease, keys.tasks)
        return None if found is None else str(found.decode())

    async def done(self, task_id: str) -> None:
        """It has succeeded."""
        keys = self._keys
        names = [keys.active, keys.lease, keys.task(task_id), keys.processed]
        await self._eval(DONE, [*names, keys.processed_on(DAY)], task_id)

    async def retry(self, task_id: str, message: bytes, at: int) -> None:
        """It has failed, or its lease has lapsed; not counted here."""
        keys = self._keys
        names = [keys.active, keys.lease, keys.task(task_id), keys.retry]
        await self._eval(RETRY, names, task_id, message, at)

    async def requeue(self, task_id: str) -> None:
        """Its server ends."""
        keys = self._keys
        names = [keys.active, keys.lease, keys.task(task_id), keys.pending]
        await self._eval(REQUEUE, names, task_id)

    async def extend(self, task_id: str, lease: int) -> None:
        """A heartbeat."""
        await self._queue.send("ZADD", self._keys.lease, "XX", lease, task_id)

    async def run(self, task_id: str) -> bool:
        """`asynq task run`."""
        keys = self._keys
        return bool(await self._eval(RUN, [keys.task(task_id)], task_id, keys.prefix))

    async def delete(self, task_id: str) -> bool:
        """`asynq task delete`."""
        keys = self._keys
        return bool(await self._eval(DELETE, [keys.task(task_id)], task_id, keys.prefix))
