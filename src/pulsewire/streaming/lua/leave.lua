-- Delete a consumer that has nothing pending, in the same step as that is checked: deleting it would discard its entries.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
-- ARGV  1 group   2 consumer
-- Returns  {"left", ""} or {"pending", ""}; error NOGROUP when the group is gone
if #redis.call("XPENDING", KEYS[1], ARGV[1], "-", "+", 1, ARGV[2]) > 0 then
  return { "pending", "" }
end
redis.call("XGROUP", "DELCONSUMER", KEYS[1], ARGV[1], ARGV[2])
return { "left", "" }
