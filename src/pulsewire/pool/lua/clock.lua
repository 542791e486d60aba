-- Fragment: the server's clock, which alone decides leases.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   now_ms() -> milliseconds since 1970
local function now_ms()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
