-- Sizes, counters and the oldest pending task of a queue (spec/asynq.md 3.8, CurrentStats), at one moment.
-- KEYS  1 pending LIST   2 active LIST   3 scheduled   4 retry   5 archived   6 completed: ZSETs
--       7 groups SET   8 aggregation_sets ZSET   9 paused   10 processed   11 failed
--       12 processed on this day   13 failed on this day: STRINGs; groups, sets and tasks are of the same slot
-- ARGV  1 what the tasks' keys begin with   2 what the groups' keys begin with
-- Returns  {now in ms, pending, active, scheduled, retry, archived, completed, groups,
--           members of groups or -1 if there are too many groups to count, members of aggregation sets,
--           paused, processed, failed, processed on this day, failed on this day: text or nothing,
--           pending since: text or ""}
local groups, sets = KEYS[7], KEYS[8]
local prefix, group_prefix = ARGV[1], ARGV[2]
-- @include "clock"
local reply = { now_ms, redis.call("LLEN", KEYS[1]), redis.call("LLEN", KEYS[2]) }
for index = 3, 6 do
  reply[#reply + 1] = redis.call("ZCARD", KEYS[index])
end
local count, members = redis.call("SCARD", groups), -1
if count <= 1000 then
  members = 0
  for _, group in ipairs(redis.call("SMEMBERS", groups)) do
    members = members + redis.call("ZCARD", group_prefix .. group)
  end
end
local apart = 0
for _, set in ipairs(redis.call("ZRANGE", sets, 0, 999)) do
  if string.sub(set, 1, #group_prefix) == group_prefix then
    apart = apart + redis.call("ZCARD", set)
  end
end
reply[#reply + 1] = count
reply[#reply + 1] = members
reply[#reply + 1] = apart
for index = 9, 13 do
  reply[#reply + 1] = redis.call("GET", KEYS[index])
end
local oldest = redis.call("LINDEX", KEYS[1], -1)
local since = oldest and redis.pcall("HGET", prefix .. oldest, "pending_since")
reply[#reply + 1] = type(since) == "string" and since or ""
return reply
