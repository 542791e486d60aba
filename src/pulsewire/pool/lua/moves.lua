-- Fragment, after "clock": the one owner of how a job gets an owner, loses it, and ends (pool protocol 1 and 5).
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   holds(leases, worker, now) -> whether a lease holds
--           give(keys, key, worker, now, fresh) -> the new epoch; keys: job, owned, inbox, starting, waiting, epoch.
--             It is at least the time in ms, so that it grows even where the last one was lost (protocol 1.2).
--             fresh: payload, request and node of a job that is not there yet
--           park(keys, key, now, due) -> nothing; keys: job, starting, waiting
--           finish(keys, key) -> nothing; keys: job, starting, waiting
--           tell(replies, request, outcome, text) -> nothing
local REPLIES_KEPT, REPLIES_TTL = 10000, 3600000
local function holds(leases, worker, now)
  local ends = redis.call("ZSCORE", leases, worker)
  return ends and tonumber(ends) > now
end
local function give(keys, key, worker, now, fresh)
  if not fresh then
    redis.call("ZREM", keys.waiting, key) -- first, see renew.lua
  end
  local epoch = math.max((tonumber(redis.call("GET", keys.epoch)) or 0) + 1, now)
  redis.call("SET", keys.epoch, string.format("%.0f", epoch))
  local token = string.format("%.0f", epoch)
  local starts, payload, created, node = 1, nil, now, nil
  if fresh then
    payload, node = fresh.payload, fresh.node
    redis.call(
      "HSET", keys.job, "state", "starting", "owner", worker, "epoch", token, "since", now, "starts", 1,
      "payload", payload, "created", now, "request", fresh.request, "node", node
    )
  else
    redis.call("HSET", keys.job, "state", "starting", "owner", worker, "epoch", token, "since", now)
    starts = redis.call("HINCRBY", keys.job, "starts", 1)
    local known = redis.call("HMGET", keys.job, "payload", "created", "node")
    payload, created, node = known[1] or "", known[2] or now, known[3] or ""
  end
  redis.call("SADD", keys.owned, key)
  redis.call("ZADD", keys.starting, now, key)
  redis.call(
    "XADD", keys.inbox, "*", "do", "start", "key", key, "epoch", token, "starts", starts,
    "payload", payload, "created", created, "node", node
  )
  return epoch
end
local function park(keys, key, now, due)
  redis.call("HSET", keys.job, "state", "waiting", "owner", "", "since", now)
  redis.call("ZREM", keys.starting, key)
  redis.call("ZADD", keys.waiting, due, key)
end
local function finish(keys, key)
  redis.call("DEL", keys.job)
  redis.call("ZREM", keys.starting, key)
  redis.call("ZREM", keys.waiting, key)
end
local function tell(replies, request, outcome, words)
  redis.call("XADD", replies, "MAXLEN", "~", REPLIES_KEPT, "*", "request", request, "outcome", outcome, "text", words)
  redis.call("PEXPIRE", replies, REPLIES_TTL)
end
