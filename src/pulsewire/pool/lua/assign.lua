-- Give a job to another worker, or to none: its owner hands it over, its owner is dead, or it has waited (protocol 5).
-- KEYS  1 job      HASH    the job                2 leases    ZSET    worker -> end of its lease, ms
--       3 from     SET     jobs of the old owner  4 owned     SET     jobs of the new owner
--       5 inbox    STREAM  of the new owner       6 starting  ZSET    jobs not running yet
--       7 waiting  ZSET    jobs without an owner  8 epoch     STRING  the last token
--       9 shutdown STRING  who has asked for the end of the pool
-- ARGV  1 key   2 old owner, "" when it waits   3 its epoch, "" when the old owner must be dead   4 new owner, "" for none
-- Returns  {"given", epoch}  {"parked", 0}  {"lapsed", 0}: the lease of the new owner is over   {"early", 0}: not yet
--          {"stopping", its epoch}: it ends instead   {"alive", 0}: the old owner's lease holds
--          {"stale", 0}: the job is another's, or gone   {"shutdown", 0}
-- @include "clock"
-- @include "moves"
local job, leases, key, old, new = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[4]
local there = redis.call("HMGET", job, "owner", "epoch", "state")
local now = now_ms()
if not there[3] then
  redis.call("SREM", KEYS[3], key)
  redis.call("ZREM", KEYS[6], key)
  redis.call("ZREM", KEYS[7], key)
  return { "stale", 0 }
end
if there[1] ~= old or (ARGV[3] ~= "" and there[2] ~= ARGV[3]) then
  if there[1] ~= old and old ~= "" then
    redis.call("SREM", KEYS[3], key)
  end
  return { "stale", 0 }
end
if redis.call("EXISTS", KEYS[9]) == 1 then
  return { "shutdown", 0 }
end
if old ~= "" and ARGV[3] == "" and holds(leases, old, now) then
  return { "alive", 0 }
end
if old == "" then
  local due = redis.call("ZSCORE", KEYS[7], key)
  if due and tonumber(due) > now then
    return { "early", 0 }
  end
end
if there[3] == "stopping" then
  return { "stopping", tonumber(there[2]) }
end
if new ~= "" and not holds(leases, new, now) then
  return { "lapsed", 0 }
end
if new == "" and old == "" then
  return { "parked", 0 }
end
if old ~= "" then
  redis.call("SREM", KEYS[3], key)
end
if new == "" then
  park({ job = job, starting = KEYS[6], waiting = KEYS[7] }, key, now, now)
  return { "parked", 0 }
end
local keys = { job = job, owned = KEYS[4], inbox = KEYS[5], starting = KEYS[6], waiting = KEYS[7], epoch = KEYS[8] }
return { "given", give(keys, key, new, now) }
