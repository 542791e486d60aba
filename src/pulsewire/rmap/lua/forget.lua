-- Remove what destroy has left of a map, if nobody listens at this server.
-- KEYS  1 content  HASH  map:<name>:content
-- ARGV  1 channel   2 NUMSUB or SHARDNUMSUB
-- Returns  {"forgotten", 0}  {"kept", listeners}: it is in use  {"none", 0}: it is no destroyed map
local content = KEYS[1]
if redis.call("HLEN", content) ~= 2 or redis.call("HGET", content, "=kind") ~= "destroy" then
  return { "none", 0 }
end
local listeners = redis.call("PUBSUB", ARGV[2], ARGV[1])[2]
if listeners > 0 then
  return { "kept", listeners }
end
redis.call("UNLINK", content)
return { "forgotten", 0 }
