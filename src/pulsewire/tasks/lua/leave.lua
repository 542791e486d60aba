-- Tasks leave the state active, each in its own way (spec/asynq.md 3.3: Done unique, MarkAsComplete, Retry, Archive,
-- Requeue). A task that is not the caller's any more is left alone.
-- KEYS  1 active LIST   2 lease ZSET   3 pending LIST   4 retry ZSET   5 archived ZSET   6 completed ZSET
--       7 processed   8 failed   9 processed on this day   10 failed on this day: STRINGs
--       11.. for each task its HASH, and its lock (or its HASH again where it has none)
-- ARGV  1 owner, or "" for tasks whose lease has lapsed   2 length of what the tasks' keys begin with
--       3 ms by which a lease of others must have lapsed
--       then for each task   verb, message, number
--         done      -           -           it has succeeded, or is to be dropped
--         complete  message     keep for s
--         retry     message     after ms    it has failed
--         again     message     after ms    it is tried again, without having failed
--         archive   message     -
--         back      -           -           to the front of the queue
--         defer     -           after ms    it is tried later, with nothing forgotten
--         recover   -           1 or 0      as back, since its owner is lost; counted
--         shelve    -           -           archive what cannot be read, as it is
-- Returns  {word for each task}  "left"; "other": it has another owner; "gone": there is no such task;
--          "held": its lease holds
local active, lease, pending, retry, archived, completed =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local owner, prefix, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- @include "clock"
-- @include "ours"
-- @include "lock"
-- @include "counters"
-- @include "trim"
local succeeded, failed = 0, 0

local function may_leave(task, id)
  if owner ~= "" then
    if owner_of(task) ~= owner or not is_ours(tonumber(redis.call("ZSCORE", lease, id) or NO_LEASE)) then
      return redis.call("EXISTS", task) == 1 and "other" or "gone"
    end
  else
    local score = tonumber(redis.call("ZSCORE", lease, id) or 0)
    if score > 0 then
      local ms = score * 1000
      if not is_ours(score) then
        ms = ms + grace
      end
      if ms > now_ms then
        return "held"
      end
    end
  end
  -- what was taken last is at the head, and mostly ends first; what has lapsed is rather at the tail
  local was_active = redis.call("LREM", active, owner ~= "" and 1 or -1, id)
  if redis.call("ZREM", lease, id) + was_active == 0 then -- one of the two may be lost
    return redis.call("EXISTS", task) == 1 and "other" or "gone"
  end
  return "left"
end

local function move(task, id, state, message)
  if message ~= "" then
    redis.call("HSET", task, "msg", message, "state", state)
  else
    redis.call("HSET", task, "state", state)
  end
end

local go = {}
function go.done(task, id, lock)
  if lock ~= task then
    release(lock, id)
  end
  redis.call("DEL", task)
  succeeded = succeeded + 1
end
function go.complete(task, id, lock, message, keep)
  redis.call("ZADD", completed, now + tonumber(keep), id)
  move(task, id, "completed", message)
  redis.call("HDEL", task, OWNER, LOST, ALONE)
  if lock ~= task then
    release(lock, id)
  end
  succeeded = succeeded + 1
end
function go.again(task, id, _, message, after)
  redis.call("ZADD", retry, math.ceil((now_ms + tonumber(after)) / 1000), id)
  move(task, id, "retry", message)
  redis.call("HDEL", task, OWNER, LOST, ALONE)
end
function go.defer(task, id, _, _, after)
  redis.call("ZADD", retry, math.ceil((now_ms + tonumber(after)) / 1000), id)
  redis.call("HSET", task, "state", "retry")
  redis.call("HDEL", task, OWNER, ALONE)
end
function go.retry(task, id, lock, message, after)
  go.again(task, id, lock, message, after)
  failed = failed + 1
end
function go.archive(task, id, _, message)
  redis.call("ZADD", archived, now, id)
  move(task, id, "archived", message)
  redis.call("HDEL", task, OWNER, LOST, ALONE)
  trim(archived, string.sub(task, 1, prefix))
  failed = failed + 1
end
go.shelve = go.archive
function go.back(task, id)
  redis.call("RPUSH", pending, id)
  redis.call("HSET", task, "state", "pending", "pending_since", stamp())
  redis.call("HDEL", task, OWNER, ALONE)
end
function go.recover(task, id, _, _, count)
  go.back(task, id)
  redis.call("HINCRBY", task, LOST, count)
end

local words = {}
for index = 1, (#ARGV - 3) / 3 do
  local task, lock = KEYS[9 + 2 * index], KEYS[10 + 2 * index]
  local verb, message, number = ARGV[1 + 3 * index], ARGV[2 + 3 * index], ARGV[3 + 3 * index]
  local id = string.sub(task, prefix + 1)
  local word = may_leave(task, id)
  if word == "left" and not is_task(task) then
    redis.call("DEL", task)
    word = "gone" -- it is out of the queue now, and nothing can be made of it
  elseif word == "left" then
    go[verb](task, id, lock, message, number)
  end
  words[index] = word
end
add(KEYS[7], KEYS[9], succeeded + failed)
add(KEYS[8], KEYS[10], failed)
return words
