-- Run, archive or delete the tasks of one place, at most so many of them (spec/asynq.md 3.7: RunAll, ArchiveAll,
-- DeleteAll): of a list those that have waited longest, of others those with the lowest score.
-- KEYS  1 record HASH   2 the place LIST or ZSET   3 pending LIST   4 archived ZSET   5 groups SET
--       the tasks' HASHes and locks are of the same slot
-- ARGV  1 number of the request   2 ms to keep its reply   3 "run", "archive" or "delete"   4 "list" or "zset"
--       5 how many   6 most bytes to read   7 what the keys of tasks begin with   8 what those of locks begin with
--       9 name of the group where the place is one, or ""
-- Returns  {how many were taken out, how many of them were changed}; what has no message is just removed
-- @include "inspect_once"
local place, pending, archived, groups = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local verb, kind, count, most = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local prefix, locks, group = ARGV[7], ARGV[8], ARGV[9]
-- @include "clock"
-- @include "lock"
-- @include "trim"
-- @include "ours"
-- @include "inspect_lock"
-- @include "inspect_moves"
local taken, changed, bytes = 0, 0, 0
while taken < count and bytes <= most do
  local id
  if kind == "list" then
    id = redis.call("RPOP", place)
  else
    id = redis.call("ZPOPMIN", place)[1]
  end
  if not id then
    break
  end
  taken = taken + 1
  if verb == "delete" or has_message(id) then
    bytes = bytes + move[verb](id)
    changed = changed + 1
  else
    redis.call("UNLINK", prefix .. id)
  end
end
if verb == "archive" then
  for _ = 0, changed, 100 do
    trim(archived, prefix)
  end
end
if group ~= "" and redis.call("EXISTS", place) == 0 then
  redis.call("SREM", groups, group)
end
return answer({ taken, changed })
