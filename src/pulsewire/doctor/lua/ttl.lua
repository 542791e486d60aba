-- A key that should have a time to live, and has none.
-- KEYS  1 key of any type
-- ARGV  1 "mend": give it one, else "look"   2 ms
-- Returns  1 if it has none, else 0
if redis.call("PTTL", KEYS[1]) ~= -1 then
  return 0
end
if ARGV[1] == "mend" then
  redis.call("PEXPIRE", KEYS[1], ARGV[2])
end
return 1
