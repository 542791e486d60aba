-- A place in a semaphore (spec/asynq.md 6.9). A task that has one already keeps it, until its new time: it asks again
-- when the reply was lost, or when its server died.
-- KEYS  1 semaphore ZSET
-- ARGV  1 id of the task   2 when its place lapses, s   3 how many places
-- Returns  "acquired", or "full"
-- @include "clock"
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", "(" .. now)
if not redis.call("ZSCORE", KEYS[1], ARGV[1]) and redis.call("ZCARD", KEYS[1]) >= tonumber(ARGV[3]) then
  return "full"
end
redis.call("ZADD", KEYS[1], ARGV[2], ARGV[1])
return "acquired"
