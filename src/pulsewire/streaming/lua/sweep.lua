-- Delete consumers that have been silent for long and have nothing pending.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
-- ARGV  1 group   2 consumer that asks   3 min idle ms
-- Returns  {"swept", number deleted}; error NOGROUP when the group is gone
if redis.call("EXISTS", KEYS[1]) == 0 then
  return redis.error_reply("NOGROUP No such key")
end
local swept = 0
for _, flat in ipairs(redis.call("XINFO", "CONSUMERS", KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #flat, 2 do
    consumer[flat[i]] = flat[i + 1]
  end
  if consumer["name"] ~= ARGV[2] and consumer["pending"] == 0 and consumer["idle"] > tonumber(ARGV[3]) then
    redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], consumer["name"])
    swept = swept + 1
  end
end
return { "swept", swept }
