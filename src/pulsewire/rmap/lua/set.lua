-- Store values, one after the other: each always, or only where its key is absent or holds an expected value.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 value   9 condition: "always", "absent" or "equal"   10 value expected; and so on, up to 100 times
-- Returns  for each {"stored", revision, 1 if the key existed, old value}  or  {"kept", 0, 1 if it exists, value there}
-- Publishes a notice for each that is stored.
-- @include "request"
-- @include "change"
local asked, held, count = {}, {}, 0
for at = 7, #ARGV, 4 do
  count = count + 1
  asked[count] = ARGV[at]
end
asked[count + 1] = "=rev"
local found = redis.call("HMGET", content, unpack(asked))
local revision = tonumber(found[count + 1]) or 0
local pairs, notices, replies = {}, {}, {}
for i = 1, count do
  local at = 4 * i + 3
  local key, value, condition = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local old = held[key] or found[i]
  if condition == "absent" and old or condition == "equal" and old ~= ARGV[at + 3] then
    replies[i] = { "kept", 0, old and 1 or 0, old or "" }
  else
    revision = revision + 1
    held[key] = value
    pairs[#pairs + 1], pairs[#pairs + 2] = key, value
    notices[#notices + 1] = set_notice(key, value, revision)
    replies[i] = { "stored", revision, old and 1 or 0, old or "" }
  end
end
if #notices == 0 then
  return (answer(replies))
end
return commit_sets(pairs, notices, revision, replies)
