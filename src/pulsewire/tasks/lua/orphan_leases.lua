-- Active tasks without a lease, and leases of tasks that are not in the list of active ones.
-- KEYS  1 active LIST   2 lease ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 "mend", else "look"   2 what the tasks' keys begin with   3 "active" or "lease": where the ids come from
--       4 ms until a new lease lapses   5.. ids
-- Returns  {ids that are only there}
-- An active task gets a lease, for its owner to renew or for a recoverer to find lapsed. A leased one comes back into the list if
-- it is active, else its lease goes.
local active, lease = KEYS[1], KEYS[2]
local mode, prefix, from, grace = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
-- @include "clock"
-- @include "ours"
local alone = {}
for index = 5, #ARGV do
  local id = ARGV[index]
  local task = prefix .. id
  local has_lease = redis.call("ZSCORE", lease, id)
  if from == "active" and not has_lease and is_task(task) and redis.call("LPOS", active, id) then
    if mode == "mend" then
      local ends = owner_of(task) and lease_end(now_ms + grace) or now + grace / 1000
      redis.call("ZADD", lease, ends, id)
    end
    alone[#alone + 1] = id
  elseif from == "lease" and has_lease and is_task(task) and not redis.call("LPOS", active, id) then
    if mode == "mend" and redis.call("HGET", task, "state") == "active" then
      redis.call("LPUSH", active, id)
    elseif mode == "mend" then
      redis.call("ZREM", lease, id)
    end
    alone[#alone + 1] = id
  end
end
return alone
