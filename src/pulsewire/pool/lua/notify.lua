-- Put a notification into the inbox of a job's owner, behind its start.
-- KEYS  1 job    HASH    the job
--       2 inbox  STREAM  of the worker that the caller takes for the owner
-- ARGV  1 key   2 worker that the caller takes for the owner   3 payload
-- Returns  {"sent", ""}  {"missing", ""}  {"waiting", ""}: it has no owner now   {"elsewhere", owner}
local there = redis.call("HMGET", KEYS[1], "state", "owner", "epoch")
if not there[1] then
  return { "missing", "" }
end
if there[1] == "waiting" then
  return { "waiting", "" }
end
if there[2] ~= ARGV[2] then
  return { "elsewhere", there[2] or "" }
end
redis.call("XADD", KEYS[2], "*", "do", "notify", "key", ARGV[1], "epoch", there[3], "payload", ARGV[3])
return { "sent", "" }
