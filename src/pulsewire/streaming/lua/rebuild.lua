-- Create a consumer group again that has vanished, where it had come to; a stream that vanished, too, is read from its
-- beginning.
-- KEYS  1 stream     STREAM  pulse:stream:<name>
--       2 positions  HASH    group -> id up to which nothing is needed any more
-- ARGV  1 group
-- Returns  {"rebuilt", position}  or  {"there", ""} when somebody else was faster
local key, group = KEYS[1], ARGV[1]
local position = "0"
local last = nil
if redis.call("EXISTS", key) == 1 then
  local info = redis.call("XINFO", "STREAM", key)
  for i = 1, #info, 2 do
    if info[i] == "last-generated-id" then
      last = info[i + 1]
    end
  end
  position = redis.call("HGET", KEYS[2], group) or "0"
  if position ~= "0" then
    local p_ms = tonumber(string.match(position, "^(%d+)"))
    local l_ms = tonumber(string.match(last, "^(%d+)"))
    if p_ms > l_ms then -- an older or a new stream: the position means nothing in it
      position = "0"
    end
  end
end
local made = redis.pcall("XGROUP", "CREATE", key, group, position, "MKSTREAM")
if made.err then
  if string.find(made.err, "BUSYGROUP", 1, true) then
    return { "there", "" }
  end
  return made
end
return { "rebuilt", position }
