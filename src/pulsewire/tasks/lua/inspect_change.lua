-- Run, archive or delete one task (spec/asynq.md 3.7: RunTask, ArchiveTask, DeleteTask).
-- KEYS  1 record HASH   2 pending LIST   3 active LIST   4 lease ZSET
--       5 scheduled   6 retry   7 archived   8 completed: ZSETs   9 groups SET   10 aggregation_sets ZSET
--       11 HASH of the task; its group, sets and locks are of the same slot
-- ARGV  1 number of the request   2 ms to keep its reply   3 "run", "archive" or "delete"   4 id
--       5.. what the keys of tasks, of groups and of locks begin with, each
-- Returns  {"done"}   {"absent"}: there is no such task   {"refused", why not}
--          why not: the state it is in; "being aggregated"; "lost": it is not where its state says
-- @include "inspect_once"
local pending, active, lease, archived = KEYS[2], KEYS[3], KEYS[4], KEYS[7]
local zsets = { scheduled = KEYS[5], retry = KEYS[6], archived = archived, completed = KEYS[8] }
local groups, sets, task = KEYS[9], KEYS[10], KEYS[11]
local verb, id = ARGV[3], ARGV[4]
local prefix, group_prefix, locks = ARGV[5], ARGV[6], ARGV[7]
-- @include "clock"
-- @include "lock"
-- @include "trim"
-- @include "ours"
-- @include "inspect_lock"
-- @include "inspect_moves"
local found = redis.pcall("HMGET", task, "state", "group")
local state, group = found[1] or "", found[2] or ""

local function take_out()
  if state == "pending" then
    return redis.call("LREM", pending, 1, id)
  elseif zsets[state] then
    return redis.call("ZREM", zsets[state], id)
  elseif state == "aggregating" then
    local removed = redis.call("ZREM", group_prefix .. group, id)
    if removed == 1 and redis.call("EXISTS", group_prefix .. group) == 0 then
      redis.call("SREM", groups, group)
    end
    return removed
  end
  return 0
end
local function is_being_aggregated()
  for _, set in ipairs(redis.call("ZRANGE", sets, 0, 999)) do
    if string.sub(set, 1, #group_prefix) == group_prefix and redis.call("ZSCORE", set, id) then
      return true
    end
  end
  return false
end
local function clear_away() -- what is left of it in places where its state does not name it
  local places = redis.call("LREM", pending, 0, id) + redis.call("LREM", active, 0, id)
  places = places + redis.call("ZREM", lease, id)
  for _, zset in pairs(zsets) do
    places = places + redis.call("ZREM", zset, id)
  end
  return places
end

if not has_message(id) then
  if verb ~= "delete" then
    return answer({ "absent" })
  end
  local places = take_out() + clear_away()
  if redis.call("EXISTS", task) == 0 then
    return answer({ places > 0 and "done" or "absent" })
  end
elseif verb == "run" and state == "pending" or verb == "archive" and state == "archived" then
  return answer({ "refused", state })
elseif
  state == "active" and (redis.call("ZSCORE", lease, id) or redis.call("LPOS", active, id))
then
  return answer({ "refused", state })
elseif take_out() == 0 then
  if state == "aggregating" and is_being_aggregated() then
    return answer({ "refused", "being aggregated" })
  elseif verb ~= "delete" then
    return answer({ "refused", "lost" })
  end
  clear_away()
end
move[verb](id)
if verb == "archive" then
  trim(archived, prefix)
end
return answer({ "done" })
