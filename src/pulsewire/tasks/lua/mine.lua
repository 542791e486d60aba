-- Which active tasks this owner has: to find those whose taking was carried out while its reply was lost.
-- KEYS  1 active LIST; the tasks' HASHes are of the same slot
-- ARGV  1 owner   2 what the tasks' keys begin with   3 from   4 to
-- Returns  {how many were looked at, id, message, id, ...}
local owner, prefix = ARGV[1], ARGV[2]
-- @include "ours"
local ids = redis.call("LRANGE", KEYS[1], ARGV[3], ARGV[4])
local reply = { #ids }
for _, id in ipairs(ids) do
  local found = redis.pcall("HMGET", prefix .. id, OWNER, "msg")
  if found[1] == owner and found[2] then
    reply[#reply + 1] = id
    reply[#reply + 1] = found[2]
  end
end
return reply
