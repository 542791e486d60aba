-- Keep the result of a task that this owner runs (spec/asynq.md 3.3, WriteResult). Never makes a task anew.
-- KEYS  1 HASH of the task   2 lease ZSET
-- ARGV  1 owner   2 result   3 id
-- Returns  "written", or "other": it is not this owner's any more
-- @include "ours"
local score = redis.call("ZSCORE", KEYS[2], ARGV[3])
-- without an entry it was either lost, or the task has left the active ones
local may_be = score and is_ours(tonumber(score)) or not score and redis.pcall("HGET", KEYS[1], "state") == "active"
if not may_be or owner_of(KEYS[1]) ~= ARGV[1] then
  return "other"
end
redis.call("HDEL", KEYS[1], "") -- a script that has begun to write is not refused for want of memory
redis.call("HSET", KEYS[1], "result", ARGV[2])
return "written"
