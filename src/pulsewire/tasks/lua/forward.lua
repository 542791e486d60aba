-- Tasks whose time has come go to pending, or back to their group (spec/asynq.md 3.4, Forward). At most 100 of each.
-- Those that have lost servers have been pending before: they waited to run alone, and go to the front as they came.
-- KEYS  1 scheduled ZSET   2 retry ZSET   3 pending LIST   4 groups SET; HASHes and groups are of the same slot
-- ARGV  1 what the tasks' keys begin with   2 what the groups' keys begin with
-- Returns  {how many, ms until the next one is due or -1}
local pending, groups = KEYS[3], KEYS[4]
local prefix, group_prefix = ARGV[1], ARGV[2]
-- @include "clock"
-- @include "ours"
redis.call("SREM", groups, "") -- a script that has begun to write is not refused for want of memory
local since = stamp()
local moved, next_due = 0, -1
for index = 1, 2 do
  local source = KEYS[index]
  local ids = redis.call("ZRANGEBYSCORE", source, "-inf", now, "LIMIT", 0, 100)
  local fresh, again = {}, {}
  for _, id in ipairs(ids) do
    local task = prefix .. id
    local found = redis.pcall("HMGET", task, "msg", "group", "pulsewire:group", LOST)
    local group = found[2] or found[3]
    if not found[1] then
      redis.call("DEL", task) -- there is no message: it would stand in the way of its id for ever
    elseif group and group ~= "" then
      redis.call("ZADD", group_prefix .. group, now, id)
      redis.call("SADD", groups, group)
      redis.call("HSET", task, "state", "aggregating", "group", group)
      redis.call("HDEL", task, "pulsewire:group")
    else
      redis.call("HSET", task, "state", "pending", "pending_since", since)
      local list = (tonumber(found[4] or 0) or 0) > 0 and again or fresh
      list[#list + 1] = id
    end
  end
  if #fresh > 0 then
    redis.call("LPUSH", pending, unpack(fresh))
  end
  if #again > 0 then
    redis.call("RPUSH", pending, unpack(again))
  end
  if #ids > 0 then
    redis.call("ZREM", source, unpack(ids))
  end
  moved = moved + #ids
  local first = redis.call("ZRANGE", source, 0, 0, "WITHSCORES")
  if first[2] then
    local due = math.max(tonumber(first[2]) * 1000 - now_ms, 0)
    if next_due < 0 or due < next_due then
      next_due = due
    end
  end
end
return { moved, math.floor(next_due) }
