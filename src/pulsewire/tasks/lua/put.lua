-- Fragment: one new task (spec/asynq.md 3.2). Needs "clock", and locals `scheduled` and `groups`.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   put(task, id, message, plan) -> word, see "enqueue"; what is to be pushed is added to `fresh`
local since = stamp()
local fresh = {}
local function put(task, id, message, plan)
  local at = plan.delay and now_ms + plan.delay or plan.at
  local is_later = at and at > now_ms
  if is_later then
    at = math.ceil(at / 1000)
  end
  if plan.tick then
    local claimed = tonumber(redis.call("GET", KEYS[plan.tick]) or 0)
    if claimed >= plan.due and claimed <= now + 86400 then -- what is beyond that, a leap of the clock has left
      return "fired"
    end
  end
  local lock = plan.lock and KEYS[plan.lock]
  if lock then
    local ttl = plan.ttl
    if is_later then
      ttl = ttl + at - now
    end
    if not redis.call("SET", lock, id, "NX", "EX", ttl) then
      return "duplicate"
    end
  end
  if redis.call("EXISTS", task) == 1 then
    if lock then
      redis.call("DEL", lock)
    end
    return "conflict"
  end
  local fields = { "msg", message }
  if lock then
    fields[3], fields[4] = "unique_key", lock
  end
  if plan.group then
    -- For later the field is ours: Go's servers would forward it into a group that they do not register, so that nobody
    -- looked at it again. So they run it by itself, as they do theirs.
    fields[#fields + 1] = is_later and "pulsewire:group" or "group"
    fields[#fields + 1] = plan.name
  end
  local state
  if is_later then
    state = "scheduled"
    redis.call("HSET", task, "state", state, unpack(fields))
    redis.call("ZADD", scheduled, at, id)
  elseif plan.group then
    state = "aggregating"
    redis.call("HSET", task, "state", state, unpack(fields))
    redis.call("ZADD", KEYS[plan.group], now, id)
    redis.call("SADD", groups, plan.name)
  else
    state = "pending"
    redis.call("HSET", task, "state", state, "pending_since", since, unpack(fields))
    fresh[#fresh + 1] = id
  end
  if plan.tick then
    redis.call("SET", KEYS[plan.tick], plan.due, "EX", 86400)
  end
  return state
end
