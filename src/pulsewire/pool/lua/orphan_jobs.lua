-- Jobs that nobody has: neither a worker's set nor the waiting ones name them (pool protocol 1.3).
-- KEYS  1 leases ZSET   2 waiting ZSET   3 shutdown STRING; jobs and sets are of the same slot
-- ARGV  1 "mend", else "look"   2 what the keys of jobs begin with   3 what the keys of sets begin with   4.. keys of jobs
-- Returns  {keys of such jobs}
-- A job goes back to its owner, whose node holds what it runs against it. Where the owner has no lease it gets one that has
-- lapsed, so that the janitor finds the job. A job without an owner waits for one.
local leases, waiting = KEYS[1], KEYS[2]
local mode, jobs, sets = ARGV[1], ARGV[2], ARGV[3]
-- @include "clock"
local now, lost = now_ms(), {}
if redis.call("EXISTS", KEYS[3]) == 1 then
  return lost
end
for index = 4, #ARGV do
  local key = ARGV[index]
  local there = redis.pcall("HMGET", jobs .. key, "state", "owner")
  local owner = there[2] or ""
  if there[1] and owner ~= "" and redis.call("SISMEMBER", sets .. owner, key) == 0 then
    if mode == "mend" then
      redis.call("SADD", sets .. owner, key)
      redis.call("ZADD", leases, "NX", 1, owner)
    end
    lost[#lost + 1] = key
  elseif there[1] and owner == "" and not redis.call("ZSCORE", waiting, key) then
    if mode == "mend" then
      redis.call("HSET", jobs .. key, "state", "waiting")
      redis.call("ZADD", waiting, now, key)
    end
    lost[#lost + 1] = key
  end
end
return lost
