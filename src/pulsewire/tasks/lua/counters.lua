-- Fragment: counters of attempts (spec/asynq.md 3.6). Needs "clock".
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   add(total, day, count): to a total, which starts again at 1 after the largest number, and to that of a day
local function add(total, day, count)
  if count == 0 then
    return
  end
  if type(redis.pcall("INCRBY", total, count)) == "table" then -- it would overflow, or is no number
    redis.call("SET", total, count)
  end
  local sum = redis.pcall("INCRBY", day, count)
  if type(sum) == "table" then -- as above
    redis.call("SET", day, count)
    sum = count
  end
  if sum == count then
    redis.call("EXPIREAT", day, now + 90 * 86400)
  end
end
