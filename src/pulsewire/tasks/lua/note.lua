-- One more event in the history of a periodic task (spec/asynq.md 3.5, RecordSchedulerEnqueueEvent); the oldest go.
-- KEYS  1 history ZSET
-- ARGV  1 SchedulerEnqueueEvent   2 when, s   3 how many stay   4 seconds to live
-- Returns  "noted"
local history = KEYS[1]
redis.call("ZADD", history, ARGV[2], ARGV[1])
redis.call("ZREMRANGEBYRANK", history, 0, -1 - ARGV[3])
redis.call("EXPIRE", history, ARGV[4])
return "noted"
