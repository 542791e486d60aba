-- Fragment: deleting tasks with the unique locks that they hold. Needs "lock", and locals prefix, locks: what the keys
-- of tasks and of locks begin with.
-- KEYS     none; the tasks' HASHes and locks are of the slot of the queue
-- ARGV     none
-- Returns  lock_named(message) -> the lock that a message names (field 10), or "". Group tasks of Go have it there only
--          delete(id) -> bytes that were read
local function varint(data, at)
  local value, scale = 0, 1
  for index = at, at + 9 do
    local byte = string.byte(data, index)
    if not byte then
      return nil
    end
    value = value + byte % 128 * scale
    if byte < 128 then
      return value, index + 1
    end
    scale = scale * 128
  end
  return nil
end
local function lock_named(message)
  local at, lock = 1, ""
  while at and at <= #message do
    local tag, value, length
    tag, at = varint(message, at)
    local kind = tag and tag % 8
    if kind == 0 then
      value, at = varint(message, at)
    elseif kind == 1 then
      at = at + 8
    elseif kind == 5 then
      at = at + 4
    elseif kind == 2 then
      length, at = varint(message, at)
      if length then
        if tag == 82 then -- field 10, of a length
          lock = string.sub(message, at, at + length - 1)
        end
        at = at + length
      end
    else
      return "" -- this is no message
    end
  end
  return at and lock or ""
end
local function delete(id)
  local task, bytes = prefix .. id, 0
  local lock = redis.pcall("HGET", task, "unique_key")
  if not lock or lock == "" then
    local message = redis.call("HGET", task, "msg")
    if message then
      bytes = #message
      lock = lock_named(message)
    end
  end
  if type(lock) == "string" and string.sub(lock, 1, #locks) == locks then -- else it may be of another slot
    release(lock, id)
  end
  redis.call("UNLINK", task)
  return bytes
end
