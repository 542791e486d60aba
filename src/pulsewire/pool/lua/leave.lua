-- Take a worker out of the pool once it owns nothing; one whose lease holds only at its own request.
-- KEYS  1 leases  ZSET    worker -> end of its lease, ms
--       2 owned   SET     its jobs
--       3 inbox   STREAM  what it should do
-- ARGV  1 worker   2 "dead" when its lease must have lapsed, else "alive"
-- Returns  {"left", 0}  {"owns", how many jobs}  {"alive", 0}
-- @include "clock"
-- @include "moves"
if ARGV[2] == "dead" and holds(KEYS[1], ARGV[1], now_ms()) then
  return { "alive", 0 }
end
local owns = redis.call("SCARD", KEYS[2])
if owns > 0 then
  return { "owns", owns }
end
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("DEL", KEYS[3])
return { "left", 0 }
