-- Active tasks whose lease has lapsed (spec/asynq.md 3.4, ListLeaseExpired), at most 100, oldest first.
-- KEYS  1 lease ZSET   2 active LIST; the tasks' HASHes are of the same slot
-- ARGV  1 ms by which a lease of others must have lapsed   2 what the tasks' keys begin with
-- Returns  {id, message, "ours" or "others", how often its owner was lost, id, ...}
-- Entries without a task are removed.
local lease, active = KEYS[1], KEYS[2]
local grace, prefix = tonumber(ARGV[1]), ARGV[2]
-- @include "clock"
-- @include "ours"
local found = redis.call("ZRANGEBYSCORE", lease, "-inf", now_ms / 1000, "WITHSCORES", "LIMIT", 0, 100)
local reply = {}
for index = 1, #found, 2 do
  local id, score = found[index], tonumber(found[index + 1])
  local task = redis.pcall("HMGET", prefix .. id, "msg", LOST)
  if not task[1] then
    redis.call("LREM", active, -1, id)
    redis.call("ZREM", lease, id)
    redis.call("DEL", prefix .. id)
  elseif is_ours(score) or score * 1000 + grace <= now_ms then
    reply[#reply + 1] = id
    reply[#reply + 1] = task[1]
    reply[#reply + 1] = is_ours(score) and "ours" or "others"
    reply[#reply + 1] = task[2] or "0"
  end
end
return reply
