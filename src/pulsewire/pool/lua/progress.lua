-- Note how far a job has come, if it still is its owner's. A job that was lost from the owner's set is there again.
-- KEYS  1 job    HASH  the job
--       2 owned  SET   keys of the worker's jobs
-- ARGV  1 worker   2 epoch   3 progress   4 "1" to note it, else only to look   5 key
-- Returns  {"noted", state}  {"stale", ""}: it is another's by now
local there = redis.call("HMGET", KEYS[1], "owner", "epoch", "state")
if there[1] ~= ARGV[1] or there[2] ~= ARGV[2] then
  return { "stale", "" }
end
if redis.call("SISMEMBER", KEYS[2], ARGV[5]) == 0 then
  redis.pcall("SADD", KEYS[2], ARGV[5]) -- a full server may refuse it: then another time
end
if ARGV[4] == "1" then
  redis.call("HDEL", KEYS[1], "progress") -- see renew.lua
  redis.call("HSET", KEYS[1], "progress", ARGV[3])
end
return { "noted", there[3] }
