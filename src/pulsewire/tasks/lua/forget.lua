-- Completed tasks whose retention is over go (spec/asynq.md 3.4, DeleteExpiredCompleted), at most so many.
-- KEYS  1 completed ZSET   2 archived ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 how many   2 what the tasks' keys begin with
-- Returns  how many
local completed, prefix = KEYS[1], ARGV[2]
-- @include "clock"
-- @include "lock"
-- @include "trim"
local ids = redis.call("ZRANGEBYSCORE", completed, "-inf", now, "LIMIT", 0, ARGV[1])
drop(completed, prefix, ids)
trim(KEYS[2], prefix)
return #ids
