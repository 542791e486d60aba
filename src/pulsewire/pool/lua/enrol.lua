-- Give a new worker its lease (pool protocol 2.1).
-- KEYS  1 leases    ZSET    worker -> end of its lease, ms
--       2 shutdown  STRING  who has asked for the end of the pool
-- ARGV  1 worker   2 ms the lease lasts
-- Returns  {"enrolled", ""}  {"shutdown", who asked}
-- @include "clock"
local asker = redis.call("GET", KEYS[2])
if asker then
  return { "shutdown", asker }
end
redis.call("ZREM", KEYS[1], ARGV[1]) -- see renew.lua
redis.call("ZADD", KEYS[1], now_ms() + tonumber(ARGV[2]), ARGV[1])
return { "enrolled", "" }
