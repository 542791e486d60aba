-- Take everything that a queue has out of sight, at one moment (spec/asynq.md 3.7, RemoveQueue). "inspect_purge"
-- deletes it bit by bit.
-- KEYS  1 active LIST   2 lease ZSET   3 pending LIST   4 scheduled   5 retry   6 archived   7 completed: ZSETs
--       8 groups SET   9 aggregation_sets ZSET   10.. what 3 to 9 are called when they are set aside
--       17.. other keys that go; tasks, groups and sets are of the same slot
-- ARGV  1 "force": also if it has tasks   2 what the tasks' keys begin with   3 what the groups' keys begin with
-- Returns  {"removed"}   {"active", how many tasks}   {"full", how many tasks}; then nothing was changed
--          {"unfinished"}: the keys of an earlier removal are to be purged first
local active, lease, pending, groups, sets = KEYS[1], KEYS[2], KEYS[3], KEYS[8], KEYS[9]
local is_forced, prefix, group_prefix = ARGV[1] == "force", ARGV[2], ARGV[3]
for index = 10, 16 do
  if redis.call("EXISTS", KEYS[index]) == 1 then
    return { "unfinished" }
  end
end
local running, ghosts = redis.call("LLEN", active), {}
if running <= 1000 then
  for _, id in ipairs(redis.call("LRANGE", active, 0, -1)) do
    local size = redis.pcall("HSTRLEN", prefix .. id, "msg")
    if size == 0 then -- nobody can run what has no message
      ghosts[#ghosts + 1] = prefix .. id
    end
  end
  running = running - #ghosts
end
if is_forced then
  if running > 0 then
    return { "active", running }
  end
else
  local size = running + redis.call("LLEN", pending)
  for index = 4, 7 do
    size = size + redis.call("ZCARD", KEYS[index])
  end
  for _, group in ipairs(redis.call("SRANDMEMBER", groups, 1000)) do
    size = size + redis.call("ZCARD", group_prefix .. group)
  end
  for _, set in ipairs(redis.call("ZRANGE", sets, 0, 999)) do
    if string.sub(set, 1, #group_prefix) == group_prefix then
      size = size + redis.call("ZCARD", set)
    end
  end
  if size > 0 then
    return { "full", size }
  end
end
for _, task in ipairs(ghosts) do
  redis.call("DEL", task)
end
redis.call("DEL", active, lease)
for index = 3, 9 do
  if redis.call("EXISTS", KEYS[index]) == 1 then
    redis.call("RENAME", KEYS[index], KEYS[index + 7])
  end
end
for index = 17, #KEYS do
  redis.call("DEL", KEYS[index])
end
return { "removed" }
