-- The keys of those that are shown at present, and the others are forgotten (spec/asynq.md 3.5, "List servers").
-- KEYS  1 servers, workers or schedulers ZSET
-- ARGV  1 most of them
-- Returns  {key, ...}, the one that lapses last first
-- @include "clock"
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - 1)
return redis.call("ZREVRANGEBYSCORE", KEYS[1], "+inf", now, "LIMIT", 0, ARGV[1])
