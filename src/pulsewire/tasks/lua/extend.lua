-- Renew the leases of tasks that this owner runs, also lapsed ones, as long as nobody else has taken them.
-- KEYS  1 lease ZSET   2.. HASH of each task
-- ARGV  1 owner   2 lease in ms   3 length of what the tasks' keys begin with
-- Returns  {ids that are not this owner's any more}
local lease = KEYS[1]
local owner, ttl, prefix = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- @include "clock"
-- @include "ours"
redis.call("ZREM", lease, "") -- a script that has begun to write is not refused for want of memory
local ends = lease_end(now_ms + ttl)
local lost, renewed = {}, {}
local all = {}
for index = 2, #KEYS do
  all[index - 1] = string.sub(KEYS[index], prefix + 1)
end
local scores = redis.call("ZMSCORE", lease, unpack(all))
for index, id in ipairs(all) do
  local task, score = KEYS[index + 1], scores[index]
  -- without an entry it was either lost, or the task has left the active ones
  local may_be = score and is_ours(tonumber(score)) or not score and redis.pcall("HGET", task, "state") == "active"
  if may_be and owner_of(task) == owner then
    renewed[#renewed + 1] = ends
    renewed[#renewed + 1] = id
  else
    lost[#lost + 1] = id
  end
end
if #renewed > 0 then
  redis.call("ZADD", lease, unpack(renewed))
end
return lost
