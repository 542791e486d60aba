-- The task that a group was aggregated into takes the place of the members, all at once.
-- KEYS  1 set ZSET   2 aggregation_sets ZSET   3 pending LIST   4 scheduled ZSET   5 groups SET   6 HASH of the new task
--       7.. what its plan names by its place; the members' HASHes are of the same slot
-- ARGV  1 what the tasks' keys begin with   2 message   3 plan, see "enqueue"
-- Returns  the word of "enqueue"; what is not enqueued leaves the set as it is.  "lapsed": the set is no more
--          "bundled": it was done before
local set, sets, pending, scheduled, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local prefix, task = ARGV[1], KEYS[6]
-- @include "clock"
-- @include "lock"
-- @include "put"
if tonumber(redis.call("ZSCORE", sets, set) or 0) < now then
  return redis.call("EXISTS", task) == 1 and "bundled" or "lapsed"
end
local id = string.sub(task, #prefix + 1)
local word = put(task, id, ARGV[2], cmsgpack.unpack(ARGV[3]))
if word == "conflict" or word == "duplicate" then
  return word
end
if #fresh > 0 then
  redis.call("LPUSH", pending, id)
end
for _, member in ipairs(redis.call("ZRANGE", set, 0, -1)) do
  local key = prefix .. member
  local held = redis.pcall("HGET", key, "unique_key")
  if type(held) == "string" then
    release(held, member)
  end
  redis.call("UNLINK", key)
end
redis.call("DEL", set)
redis.call("ZREM", sets, set)
return word
