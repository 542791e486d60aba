-- Active tasks whose lease has lapsed (spec/asynq.md 3.4, ListLeaseExpired), at most 100, oldest first.
-- KEYS  1 lease ZSET   2 active LIST; the tasks' HASHes are of the same slot
-- ARGV  1 ms by which a lease of others must have lapsed   2 what the tasks' keys begin with
-- Returns  {id, message, "ours" or "others", how often its owner was lost, "alone" if it ran alone or "", id, ...}
-- Entries without a task are removed. Active tasks whose lease was lost get a new one, for the living to renew.
local lease, active = KEYS[1], KEYS[2]
local grace, prefix = tonumber(ARGV[1]), ARGV[2]
-- @include "clock"
-- @include "ours"
local reply = {}

local function look_at(id, score)
  local task = redis.pcall("HMGET", prefix .. id, "msg", LOST, OWNER, ALONE)
  if not task[1] then
    redis.call("LREM", active, -1, id)
    redis.call("ZREM", lease, id)
    redis.call("DEL", prefix .. id)
  elseif is_ours(score) or score * 1000 + grace <= now_ms then
    local was_alone = task[3] and task[3] == task[4] and "alone" or ""
    local whose = is_ours(score) and "ours" or "others"
    for _, word in ipairs({ id, task[1], whose, task[2] or "0", was_alone }) do
      reply[#reply + 1] = word
    end
  end
end

for page = 0, 9 do -- leases of others that are still in their grace come among the others
  local found = redis.call("ZRANGEBYSCORE", lease, "-inf", now_ms / 1000, "WITHSCORES", "LIMIT", page * 100, 100)
  for index = 1, #found, 2 do
    look_at(found[index], tonumber(found[index + 1]))
  end
  if #found < 200 or #reply >= 500 then
    break
  end
end
if redis.call("LLEN", active) > redis.call("ZCARD", lease) then
  for _, id in ipairs(redis.call("LRANGE", active, -1000, -1)) do
    if not redis.call("ZSCORE", lease, id) then
      local ends = owner_of(prefix .. id) and lease_end(now_ms + grace) or now + grace / 1000
      redis.call("ZADD", lease, ends, id)
    end
  end
end
return reply
