-- Fragment: unique locks (spec/asynq.md 1.1).
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   release(lock, id): gives a lock up if this task holds it
local function release(lock, id)
  if lock and lock ~= "" and redis.pcall("GET", lock) == id then
    redis.call("DEL", lock)
  end
end
