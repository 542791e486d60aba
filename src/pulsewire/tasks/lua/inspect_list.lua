-- Tasks of one place (spec/asynq.md 3.8): of a list those that are next to run first, of others by score.
-- KEYS  1 the place LIST or ZSET   2 lease ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 "list" or "zset"   2 how many to pass over   3 how many   4 most bytes to read, after the first task
--       5 what the tasks' keys begin with
-- Returns  {now in ms, id, message or "", result or "", score, id, ...}
--          score: that of the place; in a list the end of the lease, or ""
local place, lease = KEYS[1], KEYS[2]
local kind, offset, count, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local prefix = ARGV[5]
-- @include "clock"
local ids, scores = {}, {}
if kind == "list" then
  local found = redis.call("LRANGE", place, -offset - count, -offset - 1)
  for index = #found, 1, -1 do
    ids[#ids + 1] = found[index]
  end
else
  local found = redis.call("ZRANGE", place, offset, offset + count - 1, "WITHSCORES")
  for index = 1, #found, 2 do
    ids[#ids + 1] = found[index]
    scores[#scores + 1] = found[index + 1]
  end
end
local reply, bytes = { now_ms }, 0
for index, id in ipairs(ids) do
  local found = redis.pcall("HMGET", prefix .. id, "msg", "result")
  local message, result = found[1] or "", found[2] or ""
  bytes = bytes + #message + #result
  if index > 1 and bytes > most then
    break
  end
  reply[#reply + 1] = id
  reply[#reply + 1] = message
  reply[#reply + 1] = result
  reply[#reply + 1] = scores[index] or redis.call("ZSCORE", lease, id) or ""
end
return reply
