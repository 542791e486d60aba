-- Replace the message of a scheduled task, if it is still the one that was read (spec/asynq.md 3.7, UpdateTaskPayload).
-- KEYS  1 HASH of the task
-- ARGV  1 SHA-1 of the message that was read, in hex   2 message
-- Returns  {"updated"}   {"changed"}: it has another message by now   {"absent"}   {"refused", state}
local found = redis.pcall("HMGET", KEYS[1], "msg", "state")
local message, state = found[1], found[2] or ""
if not message then
  return { "absent" }
elseif state ~= "scheduled" then
  return { "refused", state }
elseif message == ARGV[2] then
  return { "updated" }
elseif redis.sha1hex(message) ~= ARGV[1] then
  return { "changed" }
end
redis.call("HSET", KEYS[1], "msg", ARGV[2])
return { "updated" }
