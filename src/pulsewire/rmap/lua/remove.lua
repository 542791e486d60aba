-- Remove every occurrence of some items from a list. A list that has become empty goes with its key.
-- KEYS  1 content  HASH  map:<name>:content
--       2 writer   HASH  request number -> reply, of the hub that writes
-- ARGV  1 channel   2 PUBLISH or SPUBLISH   3 ttl ms (0: none)   4 sliding ttl ms (0: none)
--       5 ms the reply is kept   6 request number
--       7 key   8... items
-- Returns  {"stored", revision, the list as JSON}  {"deleted", revision, ""}  {"kept", 0, value there, or ""}
--          {"refused", 0, why}: the value there is no list
-- Publishes one notice when something was removed.
-- @include "request"
-- @include "change"
-- @include "list"
make_way()
local key = ARGV[7]
local found = redis.call("HMGET", content, key, "=rev")
local list = read_list(found[1])
if not list then
  return (answer({ "refused", 0, "it is not an array of strings" }))
end
local unwanted, left = {}, {}
for i = 8, #ARGV do
  unwanted[ARGV[i]] = true
end
for _, item in ipairs(list) do
  if not unwanted[item] then
    left[#left + 1] = item
  end
end
if #left == #list then
  return (answer({ "kept", 0, found[1] or "" }))
end
local revision = (tonumber(found[2]) or 0) + 1
if #left == 0 then
  return commit_del(key, revision, { "deleted", revision, "" })
end
local value = cjson.encode(left)
return commit_set(key, value, revision, { "stored", revision, value })
