-- Record that a start has failed, or a run has ended with an error. A job that never ran ends, and its dispatcher is
-- told; one that ran before waits and is started again later.
-- KEYS  1 job      HASH    the job                2 owned    SET     jobs of the worker
--       3 starting ZSET    jobs not running yet   4 waiting  ZSET    jobs without an owner
--       5 inbox    STREAM  of the worker          6 replies  STREAM  of the dispatcher's node
-- ARGV  1 key   2 worker   3 epoch   4 inbox entry, "" for none   5 what went wrong   6 ms to wait before it is tried again
--       7 "start" or "run"
-- Returns  {"ended"}  {"waiting"}  {"stopping"}: it was to be stopped, and is   {"stale"}: it is another's by now
-- @include "clock"
-- @include "moves"
local job, key = KEYS[1], ARGV[1]
if ARGV[4] ~= "" then
  redis.call("XDEL", KEYS[5], ARGV[4])
end
local there = redis.call("HMGET", job, "owner", "epoch", "state", "request", "node", "starts")
if there[1] ~= ARGV[2] or there[2] ~= ARGV[3] then
  return { "stale" }
end
if there[3] == "stopping" then
  return { "stopping" }
end
redis.call("SREM", KEYS[2], key)
local keys = { job = job, starting = KEYS[3], waiting = KEYS[4] }
if ARGV[7] == "start" and there[6] == "1" then
  if there[5] and there[5] ~= "" then
    tell(KEYS[6], there[4], "failed", ARGV[5])
  end
  finish(keys, key)
  return { "ended" }
end
local now = now_ms()
redis.call("HSET", job, "error", ARGV[5])
park(keys, key, now, now + tonumber(ARGV[6]))
return { "waiting" }
