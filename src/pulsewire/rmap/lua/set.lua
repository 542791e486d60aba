-- Store a value: always, or only where the key is absent or holds an expected value.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 value   9 condition: "always", "absent" or "equal"   10 value expected
-- Returns  {"stored", revision, 1 if the key existed, old value}  or  {"kept", 0, 1 if it exists, value there}
-- Publishes one notice when stored.
-- @include "request"
-- @include "change"
local key, value, condition = ARGV[7], ARGV[8], ARGV[9]
local found = redis.call("HMGET", content, key, "=rev")
local old, existed = found[1] or "", found[1] and 1 or 0
if
  condition == "absent" and existed == 1
  or condition == "equal" and (existed == 0 or old ~= ARGV[10])
then
  return (answer({ "kept", 0, existed, old }))
end
local revision = (tonumber(found[2]) or 0) + 1
return commit_set(key, value, revision, { "stored", revision, existed, old })
