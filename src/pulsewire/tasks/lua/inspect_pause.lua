-- Pause a queue, or let it go on (spec/asynq.md 3.5).
-- KEYS  1 record HASH   2 paused STRING
-- ARGV  1 number of the request   2 ms to keep its reply   3 "pause" or "unpause"
-- Returns  "done", or "already": it is so
-- @include "inspect_once"
local paused = KEYS[2]
-- @include "clock"
local is_done
if ARGV[3] == "pause" then
  is_done = redis.call("SET", paused, now, "NX")
else
  is_done = redis.call("DEL", paused) == 1
end
return answer(is_done and "done" or "already")
