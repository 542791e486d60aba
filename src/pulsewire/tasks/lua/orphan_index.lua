-- A group, or an aggregation set, that its index does not name, so that nobody looks after it.
-- KEYS  1 group or aggregation set ZSET   2 groups SET, or aggregation_sets ZSET
--       3 what the index is called while the queue is being removed: then all is as it should be
-- ARGV  1 "mend": have the index name it, else "look"   2 "group" or "set"   3 how the index names it
-- Returns  1 if it was not named, else 0
-- A set is named as one whose time is over: whoever looks next gives it back to its group.
local item, index, mode, kind, name = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
-- @include "clock"
if redis.call("EXISTS", item) == 0 or redis.call("EXISTS", KEYS[3]) == 1 then
  return 0
end
if kind == "group" then
  if redis.call("SISMEMBER", index, name) == 1 then
    return 0
  end
  if mode == "mend" then
    redis.call("SADD", index, name)
  end
  return 1
end
if redis.call("ZSCORE", index, name) then
  return 0
end
if mode == "mend" then
  redis.call("ZADD", index, now - 1, name)
end
return 1
