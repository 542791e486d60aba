-- Take a tick of a ticker if it is due, so that one node gets it; make the ticker where there is none.
-- KEYS  1 tickers   HASH    ticker -> "<next tick, ms>|<interval, ms>|<last tick, ms>|<request that got it>"
--       2 shutdown  STRING  who has asked for the end of the pool
-- ARGV  1 ticker   2 interval ms   3 "all" to give every tick that was missed, "latest" for one in their place
--       4 "make" to make it, else only to tick   5 ms until the first tick of a new one   6 request
-- Returns  {"tick", ms of the tick, ms until the next}  {"wait", 0, ms until the next}  {"gone", 0, 0}: it was stopped
-- @include "clock"
local now, every = now_ms(), tonumber(ARGV[2])
local there = redis.call("HGET", KEYS[1], ARGV[1])
local next_tick, interval, last_tick, last_request
if there then
  next_tick, interval, last_tick, last_request = string.match(there, "^(%d+)|(%d+)|(%d+)|(.*)$")
end
if last_request == ARGV[6] then -- the reply was lost: it is its own
  return { "tick", tonumber(last_tick), math.max(tonumber(next_tick) - now, 0) }
end
if not there and ARGV[4] ~= "make" or redis.call("EXISTS", KEYS[2]) == 1 then
  return { "gone", 0, 0 }
end
if not next_tick or tonumber(interval) ~= every then
  if next_tick and ARGV[4] ~= "make" then -- another node has given it another interval: follow it
    every = tonumber(interval)
  else
    local first = tonumber(ARGV[5])
    redis.call("HSET", KEYS[1], ARGV[1], string.format("%.0f|%.0f|0|", now + first, every))
    return { "wait", 0, first }
  end
end
local due = tonumber(next_tick)
if due > now then
  return { "wait", 0, due - now }
end
local following = due + every
if ARGV[3] ~= "all" and following <= now then
  following = due + every * (math.floor((now - due) / every) + 1)
end
redis.call("HSET", KEYS[1], ARGV[1], string.format("%.0f|%.0f|%.0f|%s", following, every, due, ARGV[6]))
return { "tick", due, math.max(following - now, 0) }
