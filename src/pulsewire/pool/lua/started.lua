-- Record that the owner has started a job, and tell the dispatcher.
-- KEYS  1 job    HASH    the job               2 starting  ZSET    jobs not running yet
--       3 inbox  STREAM  of the worker         4 replies   STREAM  of the dispatcher's node
-- ARGV  1 key   2 worker   3 epoch   4 inbox entry
-- Returns  {"running"}  {"stopping"}: it shall stop again   {"stale"}: it is another's by now
-- @include "clock"
-- @include "moves"
local job = KEYS[1]
redis.call("XDEL", KEYS[3], ARGV[4])
local there = redis.call("HMGET", job, "owner", "epoch", "state", "request", "node")
if there[1] ~= ARGV[2] or there[2] ~= ARGV[3] then
  return { "stale" }
end
redis.call("ZREM", KEYS[2], ARGV[1])
if there[5] and there[5] ~= "" then
  tell(KEYS[4], there[4], "started", ARGV[2])
end
if there[3] == "stopping" then
  redis.call("HSET", job, "node", "")
  return { "stopping" }
end
redis.call("HSET", job, "state", "running", "since", now_ms(), "node", "")
return { "running" }
