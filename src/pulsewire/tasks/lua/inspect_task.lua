-- What is known of one task (spec/asynq.md 3.8, GetTaskInfo).
-- KEYS  1 HASH of the task   2 scheduled ZSET   3 retry ZSET   4 lease ZSET
-- ARGV  1 id
-- Returns  {}: there is no such task   {now in ms, state, message, result, score}
--          score: when it is run, of one that waits; the end of its lease, of an active one; else ""
local id = ARGV[1]
if redis.call("EXISTS", KEYS[1]) == 0 then
  return {}
end
-- @include "clock"
local found = redis.pcall("HMGET", KEYS[1], "state", "msg", "result")
local places = { scheduled = KEYS[2], retry = KEYS[3], active = KEYS[4] }
local place = places[found[1] or ""]
local score = place and redis.call("ZSCORE", place, id)
return { now_ms, found[1] or "", found[2] or "", found[3] or "", score or "" }
