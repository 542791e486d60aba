-- Renew the leases of a node's workers, as far as they still hold (pool protocol 2.1).
-- KEYS  1 leases  ZSET  worker -> end of its lease, ms
-- ARGV  1 ms a lease lasts   2... workers
-- Returns  {"renewed", {workers whose lease has lapsed}}
-- @include "clock"
local now, lost = now_ms(), {}
for i = 2, #ARGV do
  local ends = redis.call("ZSCORE", KEYS[1], ARGV[i])
  if ends and tonumber(ends) > now then
    -- Removed first: a script whose first write frees memory may go on when the server is full, and so do the jobs.
    redis.call("ZREM", KEYS[1], ARGV[i])
    redis.call("ZADD", KEYS[1], now + tonumber(ARGV[1]), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return { "renewed", lost }
