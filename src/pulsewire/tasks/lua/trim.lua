-- Fragment: the archive keeps the newest 9,999 tasks of the last 90 days (spec/asynq.md 4.6). Needs "clock", "lock".
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   trim(archived, prefix): removes at most 100 of those that are too old and 100 of those that are too many
--           drop(archived, prefix, ids): deletes tasks and their entries, and releases their locks
local function drop(archived, prefix, ids)
  for _, id in ipairs(ids) do
    local task = prefix .. id
    local held = redis.pcall("HGET", task, "unique_key")
    if type(held) == "string" then
      release(held, id)
    end
    redis.call("DEL", task)
    redis.call("ZREM", archived, id)
  end
end
local function trim(archived, prefix)
  local old = now - 90 * 86400
  drop(archived, prefix, redis.call("ZRANGEBYSCORE", archived, "-inf", old, "LIMIT", 0, 100))
  local surplus = redis.call("ZCARD", archived) - 9999
  if surplus > 0 then
    drop(archived, prefix, redis.call("ZRANGE", archived, 0, math.min(surplus, 100) - 1))
  end
end
