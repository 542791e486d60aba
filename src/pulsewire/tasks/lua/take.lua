-- Take tasks to run, oldest first (spec/asynq.md 3.3, "Dequeue", for many).
-- A lease of ours never ends at a whole second, and one of Go's always does: that tells them apart.
-- KEYS  1 pending LIST   2 paused STRING   3 active LIST   4 lease ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 how many   2 lease in ms   3 what the tasks' keys begin with   4 owner
-- Returns  {"taken", now in ms, ids without a task, {id, how often its server died, id, ...},
--           id, message, pending since, id, ...}
--          {"paused"}   {"empty"}
local pending, paused, active, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local count, ttl, prefix, owner = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
if redis.call("EXISTS", paused) == 1 then
  return { "paused" }
end
local ids = redis.call("RPOP", pending, count)
if not ids or #ids == 0 then
  return { "empty" }
end
-- @include "clock"
-- @include "ours"
local ends = lease_end(now_ms + ttl)
local reply, taken, leases, gone, lost = { "taken", now_ms, 0, 0 }, {}, {}, {}, {}
for _, id in ipairs(ids) do
  local task = prefix .. id
  local found = redis.pcall("HMGET", task, "msg", "pending_since", LOST)
  if found[1] then
    redis.call("HSET", task, "state", "active", OWNER, owner)
    redis.call("HDEL", task, "pending_since")
    taken[#taken + 1] = id
    leases[#leases + 1] = ends
    leases[#leases + 1] = id
    reply[#reply + 1] = id
    reply[#reply + 1] = found[1]
    reply[#reply + 1] = found[2] or ""
    if found[3] then
      lost[#lost + 1] = id
      lost[#lost + 1] = found[3]
    end
  else
    redis.call("DEL", task) -- a hash without a message, or no hash: it would stand in the way of its id for ever
    gone[#gone + 1] = id
  end
end
if #taken > 0 then
  redis.call("LPUSH", active, unpack(taken))
  redis.call("ZADD", lease, unpack(leases))
end
reply[3], reply[4] = gone, lost
return reply
