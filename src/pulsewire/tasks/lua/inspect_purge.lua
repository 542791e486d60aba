-- Delete the tasks of a removed queue, so many at a time, with the unique locks that they hold.
-- KEYS  1 pending LIST   2 scheduled   3 retry   4 archived   5 completed: ZSETs   6 groups SET   7 aggregation_sets ZSET
--       all as "inspect_remove" has set them aside; tasks, locks, groups and sets are of the same slot
-- ARGV  1 how many   2 most bytes to read   3.. what the keys of tasks, of groups and of locks begin with, each
-- Returns  "purged", or "more": call it again
local count, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local prefix, group_prefix, locks = ARGV[3], ARGV[4], ARGV[5]
-- @include "lock"
-- @include "inspect_lock"
local done, bytes = 0, 0
local function has_room()
  return done < count and bytes <= most
end
local function empty(place, command)
  while has_room() do
    local popped = redis.call(command, place)
    local id = popped
    if type(popped) == "table" then
      id = popped[1]
    end
    if not id then
      return true
    end
    done = done + 1
    bytes = bytes + delete(id)
  end
  return false
end
if not empty(KEYS[1], "RPOP") then
  return "more"
end
for index = 2, 5 do
  if not empty(KEYS[index], "ZPOPMIN") then
    return "more"
  end
end
while has_room() do
  local group = redis.call("SRANDMEMBER", KEYS[6])
  local set = not group and redis.call("ZRANGE", KEYS[7], 0, 0)[1]
  if not group and not set then
    return "purged"
  end
  done = done + 1
  if group then
    if empty(group_prefix .. group, "ZPOPMIN") then
      redis.call("SREM", KEYS[6], group)
    end
  elseif string.sub(set, 1, #group_prefix) ~= group_prefix or empty(set, "ZPOPMIN") then
    redis.call("ZREM", KEYS[7], set)
  end
end
return "more"
