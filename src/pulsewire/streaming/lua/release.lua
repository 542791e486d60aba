-- Give events that were never begun to the other consumers at once; their delivery is not counted.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
-- ARGV  1 group   2 consumer   3 idle ms that makes an event claimable at once   4... ids (at most 500)
-- Returns  {"released", number}; error NOGROUP when the group is gone
local released = 0
for i = 4, #ARGV do
  local pending = redis.call("XPENDING", KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  if pending and pending[3] < tonumber(ARGV[3]) then -- else it was released already, by a request whose reply was lost
    local count = math.max(pending[4] - 1, 0)
    redis.call("XCLAIM", KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], "IDLE", ARGV[3], "RETRYCOUNT", count, "JUSTID")
    released = released + 1
  end
end
return { "released", released }
