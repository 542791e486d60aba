-- Keep the result of a task that this owner runs (spec/asynq.md 3.3, WriteResult). Never makes a task anew.
-- KEYS  1 HASH of the task
-- ARGV  1 owner   2 result
-- Returns  "written", or "other": it is not this owner's any more
-- @include "ours"
if redis.call("HGET", KEYS[1], OWNER) ~= ARGV[1] then
  return "other"
end
redis.call("HSET", KEYS[1], "result", ARGV[2])
return "written"
