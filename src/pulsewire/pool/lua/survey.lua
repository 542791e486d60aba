-- Look whether there is anything to clean up, and become the janitor if there is and nobody else is.
-- KEYS  1 leases   ZSET  worker -> end of its lease, ms    2 waiting  ZSET  jobs without an owner
--       3 janitor  STRING  the node that cleans up
-- ARGV  1 node   2 ms that the janitor's lease lasts   3 most waiting jobs to name
--       4 ms: take for dead only those whose lease ended by then; "" for those whose lease is over (pool protocol 6.3)
-- Returns  {"idle", {}, {}}  {"busy", {}, {}}: another node is at it
--          {"work", {dead workers}, {waiting jobs that are due}}
-- @include "clock"
local now = now_ms()
local dead = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", tonumber(ARGV[4]) or now, "LIMIT", 0, 100)
local due = {}
if redis.call("ZCOUNT", KEYS[1], "(" .. now, "+inf") > 0 then
  due = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", now, "LIMIT", 0, tonumber(ARGV[3]))
end
if #dead == 0 and #due == 0 then
  return { "idle", {}, {} }
end
local holder = redis.call("GET", KEYS[3])
if holder and holder ~= ARGV[1] then
  return { "busy", {}, {} }
end
redis.call("DEL", KEYS[3]) -- see renew.lua
redis.call("SET", KEYS[3], ARGV[1], "PX", ARGV[2])
return { "work", dead, due }
