-- What is left of a worker that has no lease, so that no janitor looks after it (pool protocol 6.1).
-- KEYS  1 leases ZSET   2 owned SET   3 inbox STREAM   4 shutdown STRING
-- ARGV  1 "mend", else "look"   2 worker
-- Returns  {"jobs"}: it owns jobs; it is given a lease that has lapsed, and the janitor finds it
--          {"inbox"}: only its inbox is left, and is deleted   {"well"}
local leases, owned, inbox = KEYS[1], KEYS[2], KEYS[3]
local mode, worker = ARGV[1], ARGV[2]
if redis.call("ZSCORE", leases, worker) or redis.call("EXISTS", KEYS[4]) == 1 then
  return { "well" }
end
if redis.call("EXISTS", owned) == 1 then
  if mode == "mend" then
    redis.call("ZADD", leases, 1, worker)
  end
  return { "jobs" }
end
if redis.call("EXISTS", inbox) == 0 then
  return { "well" }
end
if mode == "mend" then
  redis.call("DEL", inbox)
end
return { "inbox" }
