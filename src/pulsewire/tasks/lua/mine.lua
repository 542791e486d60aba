-- Which active tasks this owner has: to find those whose taking was carried out while its reply was lost.
-- Their leases begin anew, so that nobody recovers what is only just known.
-- KEYS  1 active LIST   2 lease ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 owner   2 what the tasks' keys begin with   3 from   4 to   5 lease in ms
-- Returns  {how many were looked at, id, message, how often its server died, id, ...}
local owner, prefix = ARGV[1], ARGV[2]
-- @include "clock"
-- @include "ours"
local ends = lease_end(now_ms + tonumber(ARGV[5]))
redis.call("ZREM", KEYS[2], "") -- a script that has begun to write is not refused for want of memory
local ids = redis.call("LRANGE", KEYS[1], ARGV[3], ARGV[4])
local reply = { #ids }
for _, id in ipairs(ids) do
  local found = redis.pcall("HMGET", prefix .. id, OWNER, "msg", LOST)
  local score = tonumber(redis.call("ZSCORE", KEYS[2], id) or NO_LEASE)
  if found[1] == owner and found[2] and is_ours(score) then
    redis.call("ZADD", KEYS[2], ends, id)
    reply[#reply + 1] = id
    reply[#reply + 1] = found[2]
    reply[#reply + 1] = found[3] or "0"
  end
end
return reply
