-- Keep events that are still in work: set their idle time to zero, if they are still this consumer's.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
-- ARGV  1 group   2 consumer   3... ids (at most 500)
-- Returns  {"kept", {ids that are not this consumer's any more...}}; error NOGROUP when the group is gone
local lost = {}
for i = 3, #ARGV do
  local pending = redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if pending[1] then
    redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], "IDLE", 0, "JUSTID")
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return { "kept", lost }
