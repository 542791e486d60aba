-- Set members of a group apart to be aggregated, if it is time (spec/asynq.md 3.4, AggregationCheck).
-- KEYS  1 group ZSET   2 set ZSET, to be made   3 aggregation_sets ZSET   4 groups SET
-- ARGV  1 name of the group   2 most members or 0   3 longest delay in s or 0   4 grace in s   5 life of the set in s
-- Returns  {"gathered", how many, end of the set's life in s}   {"wait"}: it is not time   {"empty"}
local group, set, sets, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, most, delay, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include "clock"
local gathered = redis.call("ZCARD", set)
if gathered > 0 then -- sent again: the set is this request's alone, and was made the first time
  return { "gathered", gathered, tonumber(redis.call("ZSCORE", sets, set) or 0) }
end
local size = redis.call("ZCARD", group)
if size == 0 then
  redis.call("SREM", groups, name)
  return { "empty" }
end
local function score(rank)
  return tonumber(redis.call("ZRANGE", group, rank, rank, "WITHSCORES")[2])
end
local is_full = most ~= 0 and size >= most
local is_late = delay ~= 0 and score(0) <= now - delay
if not (is_full or is_late or score(-1) <= now - grace) then
  return { "wait" }
end
local count = size
if most ~= 0 and size > most then
  count = most
  redis.call("ZRANGESTORE", set, group, 0, count - 1)
  redis.call("ZREMRANGEBYRANK", group, 0, count - 1)
else
  redis.call("RENAME", group, set)
  redis.call("SREM", groups, name)
end
local ends = now + tonumber(ARGV[5])
redis.call("ZADD", sets, ends, set)
return { "gathered", count, ends }
