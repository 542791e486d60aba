-- Trim a stream now, as `add` does now and then.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
-- ARGV  1 max_len   2 retain: "unacked" or "none"
-- Returns  {"trimmed", events removed, length afterwards}
-- @include "make_room"
if redis.call("EXISTS", KEYS[1]) == 0 then
  return { "trimmed", 0, 0 }
end
local before = redis.call("XLEN", KEYS[1])
local length = make_room(KEYS[1], tonumber(ARGV[1]), ARGV[2])
return { "trimmed", before - length, length }
