-- Note that a task is about to run alone in its server, so that it is the reason if the server dies.
-- KEYS  1 HASH of the task
-- ARGV  1 owner
-- Returns  "noted", or "other": it is not this owner's any more
-- @include "ours"
if owner_of(KEYS[1]) ~= ARGV[1] then
  return "other"
end
redis.call("HSET", KEYS[1], ALONE, ARGV[1])
return "noted"
