-- Fragment: what inspectors make of a task that was taken out of its place (spec/asynq.md 3.7). Needs "clock", "lock",
-- "trim", "ours", "inspect_lock", and locals pending LIST, archived ZSET.
-- KEYS     none; the tasks' HASHes are of the slot of the queue
-- ARGV     none
-- Returns  move[verb](id) -> bytes that were read; verbs are "run", "archive" and "delete"
--          has_message(id)
local since = stamp()
local move = { delete = delete }
local function has_message(id)
  local size = redis.pcall("HSTRLEN", prefix .. id, "msg")
  return type(size) == "number" and size > 0
end
function move.run(id)
  local task, bytes = prefix .. id, 0
  local found = redis.call("HMGET", task, "group", "unique_key")
  if found[1] and found[1] ~= "" then
    -- Whoever forwards it after a failure would put it into its group again; but only group tasks may lack the name of
    -- their lock, so that it must be kept.
    if not found[2] or found[2] == "" then
      local message = redis.call("HGET", task, "msg")
      local lock = lock_named(message)
      bytes = #message
      if lock ~= "" then
        redis.call("HSET", task, "unique_key", lock)
      end
    end
  end
  redis.call("HSET", task, "state", "pending", "pending_since", since)
  redis.call("HDEL", task, "group", "pulsewire:group", OWNER, LOST, ALONE)
  redis.call("LPUSH", pending, id)
  return bytes
end
function move.archive(id)
  local task = prefix .. id
  redis.call("HSET", task, "state", "archived")
  redis.call("HDEL", task, "pending_since", OWNER, LOST, ALONE)
  redis.call("ZADD", archived, now, id)
  return 0
end
