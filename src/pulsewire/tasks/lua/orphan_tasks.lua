-- Tasks that are in no place of their queue, as when the key of a place was deleted or evicted.
-- KEYS  1 pending LIST   2 active LIST   3 lease ZSET   4 scheduled   5 retry   6 archived   7 completed: ZSETs
--       8 groups SET   9 aggregation_sets ZSET; tasks, groups and sets are of the same slot
--       10.. what places are called while the queue is being removed: then nothing is an orphan
-- ARGV  1 "mend": put them where they can be found, else "look"   2 what the tasks' keys begin with
--       3 what the groups' keys begin with   then for each task   id, when to forget it if it is completed, s
-- Returns  {id, its state or "broken", id, ...}
-- Pending, retry and active ones are to run next; completed, aggregating and archived ones go back where they were. When a
-- scheduled one was to run is not known any more: it is archived, as what is in no state is. What has no message is deleted.
local pending, active, groups, sets = KEYS[1], KEYS[2], KEYS[8], KEYS[9]
local mode, prefix, group_prefix = ARGV[1], ARGV[2], ARGV[3]
-- @include "clock"
-- @include "ours"
for index = 10, #KEYS do
  if redis.call("EXISTS", KEYS[index]) == 1 then
    return {}
  end
end
local apart = redis.call("ZRANGE", sets, 0, 999)

local function has_place(id, group)
  for index = 3, 7 do
    if redis.call("ZSCORE", KEYS[index], id) then
      return true
    end
  end
  if group and redis.pcall("ZSCORE", group_prefix .. group, id) then
    return true
  end
  for _, set in ipairs(apart) do
    if string.sub(set, 1, #group_prefix) == group_prefix and redis.pcall("ZSCORE", set, id) then
      return true
    end
  end
  return redis.call("LPOS", pending, id) or redis.call("LPOS", active, id)
end

local function mend(task, id, state, group, forget)
  if state == "broken" then
    redis.call("DEL", task)
    return
  end
  redis.call("HDEL", task, OWNER, ALONE)
  if state == "pending" or state == "retry" or state == "active" then
    redis.call("RPUSH", pending, id)
    redis.call("HSET", task, "state", "pending", "pending_since", stamp())
  elseif state == "completed" then
    redis.call("ZADD", KEYS[7], forget, id)
  elseif state == "aggregating" and group then
    redis.call("ZADD", group_prefix .. group, now, id)
    redis.call("SADD", groups, group)
  else
    redis.call("ZADD", KEYS[6], now, id)
    redis.call("HSET", task, "state", "archived")
  end
end

local reply = {}
for index = 4, #ARGV, 2 do
  local id = ARGV[index]
  local task = prefix .. id
  local found = redis.pcall("HMGET", task, "msg", "state", "group")
  local is_there = not found.err and redis.call("EXISTS", task) == 1
  if is_there and not has_place(id, found[3]) then
    local state = found[1] and (found[2] or "unknown") or "broken"
    if mode == "mend" then
      mend(task, id, state, found[3], ARGV[index + 1])
    end
    reply[#reply + 1] = id
    reply[#reply + 1] = state
  end
end
return reply
