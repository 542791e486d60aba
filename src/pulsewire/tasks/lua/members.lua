-- Members of an aggregation set, oldest first (spec/asynq.md 3.4, ReadAggregationSet), by page.
-- KEYS  1 set ZSET; the tasks' HASHes are of the same slot
-- ARGV  1 what the tasks' keys begin with   2 from   3 to
-- Returns  {id, message or "", id, ...}
local reply = {}
for _, id in ipairs(redis.call("ZRANGE", KEYS[1], ARGV[2], ARGV[3])) do
  local message = redis.pcall("HGET", ARGV[1] .. id, "msg")
  reply[#reply + 1] = id
  reply[#reply + 1] = type(message) == "string" and message or ""
end
return reply
