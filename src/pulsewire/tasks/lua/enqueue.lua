-- New tasks for one queue, in order. Sent again, it does nothing and answers alike.
-- KEYS  1 requests   HASH  replies to requests of this client
--       2 pending    LIST
--       3 scheduled  ZSET
--       4 groups     SET
--       5.. the HASH of each task; then locks, groups and ticks, where a plan names them by their place
-- ARGV  1 number of the request   2 ms to keep its reply   3 length of what the tasks' keys begin with
--       then for each task   message, plan: "" to run it now, or msgpack
--         { at = ms | delay = ms,  lock = place, ttl = s,  group = place, name = text,  tick = place, due = s }
-- Returns  {now in ms, word for each task}
--          "pending" "scheduled" "aggregating"; "conflict": the id is taken; "duplicate": the lock is;
--          "fired": this tick was enqueued before
local requests, pending, scheduled, groups = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local request, keep, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3])
local packed = redis.call("HGET", requests, request)
if packed then
  return cmsgpack.unpack(packed)
end
-- @include "clock"
-- @include "put"
local reply = { now_ms }
for index = 1, (#ARGV - 3) / 2 do
  local task, message, plan = KEYS[4 + index], ARGV[2 + 2 * index], ARGV[3 + 2 * index]
  local id = string.sub(task, prefix + 1)
  local word
  if plan ~= "" then
    word = put(task, id, message, cmsgpack.unpack(plan))
  elseif redis.call("EXISTS", task) == 1 then
    word = "conflict"
  else
    redis.call("HSET", task, "msg", message, "state", "pending", "pending_since", since)
    fresh[#fresh + 1] = id
    word = "pending"
  end
  reply[1 + index] = word
end
if #fresh > 0 then
  redis.call("LPUSH", pending, unpack(fresh))
end
redis.call("HSET", requests, request, cmsgpack.pack(reply))
redis.call("PEXPIRE", requests, keep)
return reply
