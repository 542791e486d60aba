-- Ask for the end of a job. One without an owner ends at once; else its owner is told.
-- KEYS  1 job      HASH    the job                2 waiting  ZSET    jobs without an owner
--       3 starting ZSET    jobs not running yet   4 inbox    STREAM  of the worker that the caller takes for the owner
-- ARGV  1 key   2 worker that the caller takes for the owner   3 request of the caller   4 its node, "" when it does not wait
-- Returns  {"stopping", "", ""}  {"missing", "", ""}  {"elsewhere", owner, ""}
--          {"ended", request of the dispatch, its node, "" when it does not wait}
-- @include "moves"
local job, key = KEYS[1], ARGV[1]
local there = redis.call("HMGET", job, "state", "owner", "epoch", "stoppers", "request", "node")
if not there[1] then
  return { "missing", "", "" }
end
if there[1] == "waiting" then
  finish({ job = job, starting = KEYS[3], waiting = KEYS[2] }, key)
  return { "ended", there[5] or "", there[6] or "" }
end
if there[2] ~= ARGV[2] then
  return { "elsewhere", there[2] or "", "" }
end
redis.call("ZREM", KEYS[3], key) -- it counts no more; and see renew.lua
if ARGV[4] ~= "" then
  local stoppers, mine = there[4] or "", ARGV[3] .. "@" .. ARGV[4] .. " "
  if not string.find(stoppers, mine, 1, true) then
    redis.call("HSET", job, "stoppers", stoppers .. mine)
  end
end
if there[1] ~= "stopping" then
  redis.call("HSET", job, "state", "stopping")
  redis.call("XADD", KEYS[4], "*", "do", "stop", "key", key, "epoch", there[3])
end
return { "stopping", "", "" }
