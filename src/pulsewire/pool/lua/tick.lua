-- Take a tick of a ticker if it is due, so that one node gets it; make the ticker where there is none; or stop it.
-- A ticker that was stopped stays as such for a while, so that a node can tell it from one that was lost: that is made
-- again. All of them vanish when nobody has asked for a tick for long.
-- KEYS  1 tickers   HASH    ticker -> "<next tick, ms>|<interval, ms>|<last tick, ms>|<request that got it>", or
--                           "stopped|<ms until which that is remembered>"
--       2 shutdown  STRING  who has asked for the end of the pool
-- ARGV  1 ticker   2 interval ms   3 "all" to give every tick that was missed, "latest" for one in their place
--       4 "make" to make it though it was stopped, "tick" to go on with it, "stop"
--       5 ms until the first tick of a new one   6 request
-- Returns  {"tick", ms of the tick, ms until the next}  {"wait", 0, ms until the next}  {"gone", 0, 0}: it was stopped
--          to "stop": {"stopped", 1 if there was one, 0}
-- @include "clock"
local now, every, mode = now_ms(), tonumber(ARGV[2]), ARGV[4]

local function write(value, interval)
  redis.call("HSET", KEYS[1], ARGV[1], value)
  local lives, left = math.max(86400000, 3 * interval), redis.call("PTTL", KEYS[1])
  if left < lives then
    redis.call("PEXPIRE", KEYS[1], lives)
  end
end

local there = redis.call("HGET", KEYS[1], ARGV[1])
local next_tick, interval, last_tick, last_request
if there then
  next_tick, interval, last_tick, last_request = string.match(there, "^(%d+)|(%d+)|(%d+)|(.*)$")
end
if mode == "stop" then
  local all = redis.call("HGETALL", KEYS[1])
  for i = 1, #all, 2 do
    local remembered = string.match(all[i + 1], "^stopped|(%d+)$")
    if remembered and tonumber(remembered) < now then
      redis.call("HDEL", KEYS[1], all[i])
    end
  end
  if next_tick or not there then
    local longest = math.max(every, tonumber(interval or 0))
    local until_when = now + math.max(86400000, 2 * longest)
    write(string.format("stopped|%.0f", until_when), longest)
  end
  return { "stopped", next_tick and 1 or 0, 0 }
end
if last_request == ARGV[6] then -- the reply was lost: it is its own
  return { "tick", tonumber(last_tick), math.max(tonumber(next_tick) - now, 0) }
end
if there and not next_tick and mode ~= "make" or redis.call("EXISTS", KEYS[2]) == 1 then
  return { "gone", 0, 0 }
end
if next_tick and tonumber(interval) ~= every and mode == "tick" then
  every = tonumber(interval) -- another node has given it another interval: follow it
elseif not next_tick or tonumber(interval) ~= every then
  local first = tonumber(ARGV[5])
  write(string.format("%.0f|%.0f|0|", now + first, every), every)
  return { "wait", 0, first }
end
local due = tonumber(next_tick)
if due > now then
  return { "wait", 0, due - now }
end
local following = due + every
if ARGV[3] ~= "all" and following <= now then
  following = due + every * (math.floor((now - due) / every) + 1)
end
write(string.format("%.0f|%.0f|%.0f|%s", following, every, due, ARGV[6]), every)
return { "tick", due, math.max(following - now, 0) }
