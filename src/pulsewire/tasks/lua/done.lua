-- Tasks have succeeded and are not to be kept (spec/asynq.md 3.3, "Done", for many). Those of other owners stay.
-- KEYS  1 active LIST   2 lease ZSET   3 processed STRING   4 processed on this day STRING   5.. HASH of each task
-- ARGV  1 owner   2 length of what the tasks' keys begin with
-- Returns  {ids that are not this owner's}
local active, lease = KEYS[1], KEYS[2]
local owner, prefix = ARGV[1], tonumber(ARGV[2])
-- @include "clock"
-- @include "ours"
-- @include "counters"
local lost, ids, tasks = {}, {}, {}
local all = {}
for index = 5, #KEYS do
  all[index - 4] = string.sub(KEYS[index], prefix + 1)
end
local scores = redis.call("ZMSCORE", lease, unpack(all))
for index = #KEYS, 5, -1 do -- what was taken last is next to the head of the list
  local task, id, score = KEYS[index], all[index - 4], tonumber(scores[index - 4] or NO_LEASE)
  local may_leave = is_ours(score) and owner_of(task) == owner
  if may_leave and (redis.call("LREM", active, 1, id) == 1 or scores[index - 4]) then -- one of the two may be lost
    ids[#ids + 1] = id
    tasks[#tasks + 1] = task
  else
    lost[#lost + 1] = id
  end
end
if #ids > 0 then
  redis.call("ZREM", lease, unpack(ids))
  redis.call("DEL", unpack(tasks))
  add(KEYS[3], KEYS[4], #ids)
end
return lost
