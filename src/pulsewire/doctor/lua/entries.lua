-- Entries of a page that name a hash which is not there.
-- KEYS  1 place LIST or ZSET; the hashes are of the same slot
-- ARGV  1 "mend": take them out, else "look"   2 "list" or "zset"   3 what the keys of the hashes begin with
--       4 a field that each hash has   5 where the page begins   6 entries of a page
-- Returns  {entries looked at, entry without its hash, ...}
local place, mode, kind, prefix, field = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local start = tonumber(ARGV[5])
local page = redis.call(kind == "list" and "LRANGE" or "ZRANGE", place, start, start + ARGV[6] - 1)
local reply = { #page }
for index, entry in ipairs(page) do
  if redis.pcall("HEXISTS", prefix .. entry, field) ~= 1 then
    reply[#reply + 1] = entry
    if mode == "mend" and kind == "list" then
      redis.call("LSET", place, start + index - 1, "") -- no id is empty; they leave together, in one walk
    elseif mode == "mend" then
      redis.call("ZREM", place, entry)
    end
  end
end
if mode == "mend" and kind == "list" and #reply > 1 then
  redis.call("LREM", place, 0, "")
end
return reply
