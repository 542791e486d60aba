-- Remove all keys, as reset or destroy; where pairs are given, only if every key holds the value expected.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 "reset" or "destroy"   8... keys, each with the value expected
-- Returns  {"cleared", revision}  or  {"kept", 0}
-- Publishes one notice when cleared. What is left is `=rev` and `=kind`, so that revisions go on (spec/pulse.md 1.3).
-- @include "request"
-- @include "change"
make_way()
for i = 8, #ARGV, 2 do
  if redis.call("HGET", content, ARGV[i]) ~= ARGV[i + 1] then
    return (answer({ "kept", 0 }))
  end
end
local revision = (tonumber(redis.call("HGET", content, "=rev")) or 0) + 1
return commit_clear(ARGV[7], revision, { "cleared", revision })
