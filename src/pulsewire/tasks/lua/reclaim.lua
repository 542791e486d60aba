-- Sets whose aggregation did not end in time go back to their groups (spec/asynq.md 3.4), at most 10 of them.
-- KEYS  1 aggregation_sets ZSET   2 groups SET; the sets and groups are of the same slot
-- ARGV  1 what the groups' keys begin with   2 a set to give back now, or "": those whose life is over
-- Returns  {keys of those that went back}
local sets, groups = KEYS[1], KEYS[2]
local prefix, wanted = ARGV[1], ARGV[2]
-- @include "clock"
redis.call("SREM", groups, "") -- a script that has begun to write is not refused for want of memory
local stale = { wanted }
if wanted == "" then
  stale = redis.call("ZRANGEBYSCORE", sets, "-inf", now, "LIMIT", 0, 10)
end
local back = {}
for _, set in ipairs(stale) do
  local group = string.match(set, "^(.*):[^:]*$")
  if group and string.sub(group, 1, #prefix) == prefix and redis.call("EXISTS", set) == 1 then
    redis.call("ZUNIONSTORE", group, 2, group, set, "AGGREGATE", "MIN")
    redis.call("SADD", groups, string.sub(group, #prefix + 1))
    redis.call("DEL", set)
    back[#back + 1] = set
  end
  redis.call("ZREM", sets, set)
end
return back
