-- Remove a key: always, or only where it holds an expected value.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 condition: "always" or "equal"   9 value expected
-- Returns  {"deleted", revision, 1, old value}  or  {"kept", 0, 1 if the key exists, value there}
-- Publishes one notice when deleted.
-- @include "request"
-- @include "change"
make_way()
local key = ARGV[7]
local found = redis.call("HMGET", content, key, "=rev")
local old, existed = found[1] or "", found[1] and 1 or 0
if existed == 0 or ARGV[8] == "equal" and old ~= ARGV[9] then
  return (answer({ "kept", 0, existed, old }))
end
local revision = (tonumber(found[2]) or 0) + 1
return commit_del(key, revision, { "deleted", revision, 1, old })
