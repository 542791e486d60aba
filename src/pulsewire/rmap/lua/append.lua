-- Append items to a list; on demand only those that are not in it yet.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8 "all" or "new"   9 bytes the list may have   10... items
-- Returns  {"stored", revision, the list as JSON}  {"kept", 0, value there, or ""}  {"large", 0, its size in bytes}
--          {"refused", 0, why}: the value there is no list
-- Publishes one notice when stored.
-- @include "request"
-- @include "change"
-- @include "list"
local key = ARGV[7]
local found = redis.call("HMGET", content, key, "=rev")
local list = read_list(found[1])
if not list then
  return (answer({ "refused", 0, "it is not an array of strings" }))
end
local before, seen = #list, {}
if ARGV[8] == "new" then
  for _, item in ipairs(list) do
    seen[item] = true
  end
end
for i = 10, #ARGV do
  if not seen[ARGV[i]] then
    list[#list + 1] = ARGV[i]
    seen[ARGV[i]] = ARGV[8] == "new"
  end
end
if #list == before then
  return (answer({ "kept", 0, found[1] or "" }))
end
local value = cjson.encode(list)
if #value > tonumber(ARGV[9]) then
  return (answer({ "large", 0, #value }))
end
local revision = (tonumber(found[2]) or 0) + 1
return commit_set(key, value, revision, { "stored", revision, value })
