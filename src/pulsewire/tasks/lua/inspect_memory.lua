-- About how many bytes a queue takes, from samples (spec/asynq.md 3.8): the first 20 tasks of each place, the first 20
-- of 5 groups.
-- KEYS  1 pending LIST   2 active LIST   3 scheduled   4 retry   5 archived   6 completed: ZSETs   7 groups SET
--       groups and tasks are of the same slot
-- ARGV  1 what the tasks' keys begin with   2 what the groups' keys begin with   3 members of all groups
-- Returns  bytes
local prefix, group_prefix = ARGV[1], ARGV[2]
local total = 0
local function usage(key)
  return redis.call("MEMORY", "USAGE", key) or 0
end
local function sample(ids)
  local bytes = 0
  for _, id in ipairs(ids) do
    bytes = bytes + usage(prefix .. id)
  end
  return bytes
end
for index = 1, 6 do
  local place = KEYS[index]
  local is_list = index <= 2
  local ids = redis.call(is_list and "LRANGE" or "ZRANGE", place, 0, 19)
  if #ids > 0 then
    local size = redis.call(is_list and "LLEN" or "ZCARD", place)
    total = total + sample(ids) / #ids * size + usage(place)
  end
end
local bytes, looked_at = 0, 0
for _, group in ipairs(redis.call("SRANDMEMBER", KEYS[7], 5)) do
  local ids = redis.call("ZRANGE", group_prefix .. group, 0, 19)
  bytes = bytes + sample(ids)
  looked_at = looked_at + #ids
end
if looked_at > 0 then
  total = total + bytes / looked_at * tonumber(ARGV[3])
end
return math.floor(total)
