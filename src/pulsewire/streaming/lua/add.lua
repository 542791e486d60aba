-- Append an event after making room; refuse it when the stream is at its hard limit; do it once per idempotency key.
-- KEYS  1 stream  STREAM  pulse:stream:<name>
--       2 once    STRING  id added under this idempotency key (only when there is one)
-- ARGV  1 max_len (0: unbounded)   2 hard_limit (0: none)   3 retain: "unacked" or "none"
--       4 ttl ms from creation (0: none)   5 sliding ttl ms (0: none)   6 "1": only if the stream exists
--       7 ms the idempotency key is remembered   8... fields and values
-- Returns  {"added", id, length}  {"repeated", id, length}  {"missing", "", 0}  {"full", holding group, length}
-- @include "make_room"
local key, once = KEYS[1], KEYS[2]
if once then
  local id = redis.call("GET", once)
  if id and redis.call("EXISTS", key) == 1 then -- else the stream went, and what was in it
    return { "repeated", id, redis.call("XLEN", key) }
  end
end
if ARGV[6] == "1" and redis.call("EXISTS", key) == 0 then
  return { "missing", "", 0 }
end
local length, held_by = 0, ""
if redis.call("EXISTS", key) == 1 then
  length, held_by = make_room(key, tonumber(ARGV[1]), ARGV[3])
end
local max_len, hard_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
if max_len > 0 and hard_limit > 0 and length >= hard_limit then
  length, held_by = make_exact_room(key, math.min(max_len, hard_limit - 1), ARGV[3])
end
if hard_limit > 0 and length >= hard_limit then
  return { "full", held_by, length }
end
local id = redis.call("XADD", key, "*", unpack(ARGV, 8))
local ttl, sliding = tonumber(ARGV[4]), tonumber(ARGV[5])
if sliding > 0 then
  redis.call("PEXPIRE", key, sliding)
elseif ttl > 0 and redis.call("PTTL", key) < 0 then
  redis.call("PEXPIRE", key, ttl)
end
if once then
  redis.call("SET", once, id, "PX", ARGV[7])
end
return { "added", id, length + 1 }
