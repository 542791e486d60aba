-- What a scheduler enqueues, for inspectors (spec/asynq.md 3.5, WriteSchedulerEntries), in one or several parts.
-- KEYS  1 entries LIST, the last one first
-- ARGV  1 seconds to live   2 how many entries the parts before this one have   3.. SchedulerEntry
-- Returns  "shown"
local entries, before = KEYS[1], tonumber(ARGV[2])
if before == 0 then
  redis.call("DEL", entries)
else
  redis.call("LTRIM", entries, -before, -1) -- in case this part was written already
end
for index = 3, #ARGV, 1000 do
  redis.call("LPUSH", entries, unpack(ARGV, index, math.min(index + 999, #ARGV)))
end
redis.call("EXPIRE", entries, ARGV[1])
return "shown"
