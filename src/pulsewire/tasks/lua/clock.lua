-- Fragment: the server's clock.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   now: whole seconds    now_ms: milliseconds    stamp(): nanoseconds as text, for `pending_since`
local clock = redis.call("TIME")
local now = tonumber(clock[1])
local now_ms = now * 1000 + math.floor(tonumber(clock[2]) / 1000)
local function stamp()
  return string.format("%s%06d000", clock[1], tonumber(clock[2]))
end
