"""A queue looked at from outside, in one script: how many tasks are where, and what must hold and does not.

The relations are those of asynq (each id in exactly one container, its state names it, active and leased are the same,
every task can be read) and ours besides. They hold between any two scripts, so this may look at any time, also in the
middle of the worst weather. It shares no code with the product but the decoder of messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from pulsewire.testing import Topology

LOOK = """\
local prefix, ours = ARGV[1], ARGV[2]
local function escaped(text)
  return (string.gsub(text, "[%[%]*?\\\\]", "\\\\%0"))
end
local places, complaints, counts, owners, lost = {}, {}, {}, {}, {}
local glob, our_glob = escaped(prefix), escaped(ours)

local function complain(text)
  if #complaints < 10 then
    complaints[#complaints + 1] = text
  end
end

local function note(name, state, ids)
  counts[state] = (counts[state] or 0) + #ids
  for _, id in ipairs(ids) do
    if places[id] then
      complain(id .. " is in " .. name .. ", and in " .. places[id][1])
    end
    places[id] = { name, state }
  end
end

note("pending", "pending", redis.call("LRANGE", prefix .. "pending", 0, -1))
note("active", "active", redis.call("LRANGE", prefix .. "active", 0, -1))
for _, state in ipairs({ "scheduled", "retry", "archived", "completed" }) do
  note(state, state, redis.call("ZRANGE", prefix .. state, 0, -1))
end
local sets = {}
for _, set in ipairs(redis.call("ZRANGE", prefix .. "aggregation_sets", 0, -1)) do
  sets[set] = true
end
local groups = {}
for _, group in ipairs(redis.call("SMEMBERS", prefix .. "groups")) do
  groups[prefix .. "g:" .. group] = true
end
for _, key in ipairs(redis.call("KEYS", glob .. "g:*")) do
  note(key, "aggregating", redis.call("ZRANGE", key, 0, -1))
  if not sets[key] and not groups[key] then
    complain(key .. " has members, and is neither registered nor a set")
  end
end

local leased = redis.call("ZRANGE", prefix .. "lease", 0, -1)
for _, id in ipairs(leased) do
  if not places[id] or places[id][2] ~= "active" then
    complain(id .. " has a lease and is not active")
  end
end
if #leased ~= (counts.active or 0) then
  complain(counts.active .. " are active and " .. #leased .. " have a lease")
end

local tasks, messages = {}, {}
for _, key in ipairs(redis.call("KEYS", glob .. "t:*")) do
  local id = string.sub(key, #prefix + 3)
  tasks[id] = true
  local found = redis.pcall("HMGET", key, "state", "msg", "pulsewire:owner", "pulsewire:lost")
  if found.err then
    complain(id .. " is no hash")
  else
    local place = places[id]
    if not place then
      complain(id .. " is in no container; its state is " .. tostring(found[1]))
    elseif place[2] ~= found[1] then
      complain(id .. " is in " .. place[1] .. "; its state is " .. tostring(found[1]))
    end
    if not found[2] then
      complain(id .. " has no message")
    end
    if found[3] and found[1] ~= "active" then
      complain(id .. " is " .. tostring(found[1]) .. " and has an owner")
    end
    if found[3] then
      owners[id] = found[3]
    end
    if found[4] then
      lost[id] = tonumber(found[4])
    end
  end
end
for id, place in pairs(places) do
  if not tasks[id] then
    complain(id .. " is in " .. place[1] .. " and there is no such task")
  end
end
for _, key in ipairs(redis.call("KEYS", glob .. "unique:*")) do
  local id = redis.call("GET", key)
  if id and not tasks[id] then
    complain(key .. " is held by " .. id .. ", which is no task")
  end
end
local tick = 0
for _, key in ipairs(redis.call("KEYS", our_glob .. "tick:*")) do
  tick = math.max(tick, tonumber(redis.call("GET", key)))
end
return cjson.encode({
  tick = tick,
  counts = counts, owners = owners, lost = lost, complaint = table.concat(complaints, "\\n"),
  processed = tonumber(redis.call("GET", prefix .. "processed") or 0),
  failed = tonumber(redis.call("GET", prefix .. "failed") or 0),
})
"""


def key_of(queue: str, namespace: str, name: str = "") -> str:
    """A key of a queue, or what all of them begin with."""
    return f"{namespace}:asynq:{{{queue}}}:{name}" if namespace else f"asynq:{{{queue}}}:{name}"


class QueueState(msgspec.Struct, frozen=True):
    """What a look has seen.

    Attributes:
        counts: state -> how many tasks have it; states without any may be missing.
        complaint: what must hold and does not, a line each; empty where all is well.
        processed, failed: attempts that have ended, and that have failed.
        owners: id -> the server that runs it.
        lost: id -> how often its server was lost.
        tick: the last one of a periodic task that was enqueued, Unix seconds; 0 where there is none.
    """

    counts: dict[str, int]
    complaint: str
    processed: int
    failed: int
    owners: dict[str, str]
    lost: dict[str, int]
    tick: float

    @property
    def passed(self) -> int:
        """How many tasks there have been, where each is run once and none is kept."""
        return self.live + self.processed

    @property
    def live(self) -> int:
        """Tasks that are to be run still."""
        states = ("pending", "active", "scheduled", "retry", "aggregating")
        return sum(self.counts.get(state, 0) for state in states)


@dataclass(slots=True)
class Watched:
    """Several queues, and every complaint about them so far."""

    topology: Topology
    queues: Sequence[str]
    namespace: str
    complaints: list[str] = field(default_factory=list)
    looks: int = 0

    async def look(self, queue: str) -> QueueState:
        """Look at one of them.

        Raises:
            OSError, TimeoutError, ReplyError: it cannot be looked at now.
        """
        pending, prefix = key_of(queue, self.namespace, "pending"), key_of(queue, self.namespace)
        ours = prefix.replace("asynq:{", "pulsewire:{")
        server = await self.topology.node_of(pending)
        reply = await server.command("EVAL", LOOK, 1, pending, prefix, ours)
        state = msgspec.json.decode(reply.replace(b":[]", b":{}"), type=QueueState)
        self.looks += 1
        if state.complaint:
            self.complaints.append(f"{queue}: {state.complaint}")
        return state

    async def look_at_all(self) -> list[QueueState]:
        """Look at all of them."""
        return [await self.look(queue) for queue in self.queues]
