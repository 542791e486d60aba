-- Add to whole numbers, one after the other; an absent key counts as 0.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 how much, 64 bits; and so on, up to 100 times
-- Returns  for each {"stored", revision, new number as text}  or  {"refused", 0, why}: no whole number, or beyond 64 bits
-- Publishes a notice for each that is stored. Numbers of Lua are exact to 53 bits; beyond 15 digits the server does the sum.
-- @include "request"
-- @include "change"
local asked, held, count = {}, {}, 0
for at = 7, #ARGV, 2 do
  count = count + 1
  asked[count] = ARGV[at]
end
asked[count + 1] = "=rev"
local function sum(key, old, by)
  if #old < 16 and #by < 16 and (old == "0" or string.find(old, "^%-?[1-9]%d*$")) then
    return text(tonumber(old) + tonumber(by))
  end
  -- the server does the sum, aside, so that the content is untouched until all has gone well
  local aside, place = writer or content, writer and "sum" or key
  redis.call("HSET", aside, place, old)
  local done = redis.pcall("HINCRBY", aside, place, by)
  local value = redis.call("HGET", aside, place)
  if writer then
    redis.call("HDEL", aside, place)
  end
  if type(done) == "table" and done.err then
    return nil, done
  end
  return value
end
local found = redis.call("HMGET", content, unpack(asked))
local revision = tonumber(found[count + 1]) or 0
local pairs, notices, replies = {}, {}, {}
for i = 1, count do
  local key = asked[i]
  local value, trouble = sum(key, held[key] or found[i] or "0", ARGV[2 * i + 6])
  if value then
    revision = revision + 1
    held[key] = value
    pairs[#pairs + 1], pairs[#pairs + 2] = key, value
    notices[#notices + 1] = set_notice(key, value, revision)
    replies[i] = { "stored", revision, value }
  elseif string.find(trouble.err, "not an integer") or string.find(trouble.err, "overflow") then
    replies[i] = { "refused", 0, trouble.err }
  else
    return trouble
  end
end
if #notices == 0 then
  return (answer(replies))
end
return commit_sets(pairs, notices, revision, replies)
