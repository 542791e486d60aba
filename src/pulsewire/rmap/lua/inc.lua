-- Add to a whole number; an absent key counts as 0.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 how much, 64 bits
-- Returns  {"stored", revision, new number as text}  or  {"refused", 0, why}: no whole number, or beyond 64 bits
-- Publishes one notice when stored. Numbers of Lua are exact to 53 bits; beyond 15 digits the server does the sum.
-- @include "request"
-- @include "change"
local key = ARGV[7]
local found = redis.call("HMGET", content, key, "=rev")
local old, by, value = found[1] or "0", ARGV[8], nil
if #old < 16 and #by < 16 and (old == "0" or string.find(old, "^%-?[1-9]%d*$")) then
  value = text(tonumber(old) + tonumber(by))
else -- the server does the sum, aside, so that the content is untouched until all has gone well
  local aside, place = writer or content, writer and "sum" or key
  if writer then
    redis.call("HSET", aside, place, old)
  end
  local done = redis.pcall("HINCRBY", aside, place, by)
  value = redis.call("HGET", aside, place)
  if writer then
    redis.call("HDEL", aside, place)
  end
  if type(done) == "table" and done.err then
    if string.find(done.err, "not an integer") or string.find(done.err, "overflow") then
      return (answer({ "refused", 0, done.err }))
    end
    return done
  end
end
local revision = (tonumber(found[2]) or 0) + 1
return commit_set(key, value, revision, { "stored", revision, value })
