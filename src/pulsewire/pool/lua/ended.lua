-- End a job: its owner has stopped it, or it has come to its end by itself.
-- KEYS  1 job      HASH    the job                2 owned    SET     jobs of the worker
--       3 starting ZSET    jobs not running yet   4 waiting  ZSET    jobs without an owner
--       5 inbox    STREAM  of the worker
-- ARGV  1 key   2 worker   3 epoch   4 inbox entry, "" for none
-- Returns  {"ended", request of the dispatch, its node, stoppers}  {"stale", "", "", ""}: it is another's by now
-- @include "moves"
local job, key = KEYS[1], ARGV[1]
if ARGV[4] ~= "" then
  redis.call("XDEL", KEYS[5], ARGV[4])
end
local there = redis.call("HMGET", job, "owner", "epoch", "request", "node", "stoppers")
if there[1] ~= ARGV[2] or there[2] ~= ARGV[3] then
  return { "stale", "", "", "" }
end
redis.call("SREM", KEYS[2], key)
finish({ job = job, starting = KEYS[3], waiting = KEYS[4] }, key)
return { "ended", there[3] or "", there[4] or "", there[5] or "" }
