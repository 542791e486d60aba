-- Agree on the protocol with whoever made the pool, before a node does anything in it.
-- KEYS  1 meta      HASH    version and routing of the pool
--       2 shutdown  STRING  who has asked for the end of the pool
--       3 leases    ZSET    worker -> when its lease ends
-- ARGV  1 version   2 routing, "" to take that of the pool and make none
--       3 "again" to make it only while there are workers: the pool may have been shut down meanwhile
-- Returns  {"joined", "", routing there}  {"differs", version there, routing there}  {"shutdown", who asked, ""}
local asker = redis.call("GET", KEYS[2])
if asker then
  return { "shutdown", asker, "" }
end
if ARGV[2] ~= "" and (ARGV[3] ~= "again" or redis.call("EXISTS", KEYS[3]) == 1) then
  redis.call("HSETNX", KEYS[1], "version", ARGV[1])
  redis.call("HSETNX", KEYS[1], "routing", ARGV[2])
end
local there = redis.call("HMGET", KEYS[1], "version", "routing")
local version, routing = there[1] or ARGV[1], there[2] or ""
if version ~= ARGV[1] or ARGV[2] ~= "" and routing ~= ARGV[2] then
  return { "differs", version, routing }
end
return { "joined", "", routing }
