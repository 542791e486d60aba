-- A server and what it runs, for inspectors (spec/asynq.md 3.5, WriteServerState).
-- KEYS  1 server STRING   2 workers HASH
-- ARGV  1 seconds to live   2 ServerInfo   3.. task id, WorkerInfo, task id, ...
-- Returns  "shown"
local ttl = ARGV[1]
redis.call("DEL", KEYS[2])
redis.call("SETEX", KEYS[1], ttl, ARGV[2])
for index = 3, #ARGV, 1000 do
  redis.call("HSET", KEYS[2], unpack(ARGV, index, math.min(index + 999, #ARGV)))
end
redis.call("EXPIRE", KEYS[2], ttl)
return "shown"
