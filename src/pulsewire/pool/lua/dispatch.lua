-- Admit a new job and give it to the worker that the dispatcher proposes (pool protocol 4.1).
-- KEYS  1 job      HASH    the job                2 leases    ZSET    worker -> end of its lease, ms
--       3 owned    SET     jobs of the worker     4 inbox     STREAM  of the worker
--       5 starting ZSET    jobs not running yet   6 waiting   ZSET    jobs without an owner
--       7 epoch    STRING  the last token         8 shutdown  STRING  who has asked for the end of the pool
-- ARGV  1 key   2 payload   3 worker proposed, "" for none   4 most jobs that may wait to start
--       5 request   6 node of the dispatcher, "" when it does not wait
--       7 "park" to have it wait although there are workers, which all are draining
-- Returns  {"given", epoch, worker}  {"parked", 0, ""}  {"repeated", epoch, state}: it is this request's already
--          {"exists", epoch, owner}  {"full", jobs that wait to start, ""}  {"shutdown", 0, who asked}
--          {"lapsed", 0, worker}: its lease is over   {"wanted", 0, ""}: there are workers to propose
-- @include "clock"
-- @include "moves"
local job, leases, key, worker = KEYS[1], KEYS[2], ARGV[1], ARGV[3]
local there = redis.call("HMGET", job, "request", "epoch", "owner", "state")
if there[4] then
  if there[1] == ARGV[5] then
    return { "repeated", tonumber(there[2]) or 0, there[4] }
  end
  return { "exists", tonumber(there[2]) or 0, there[3] or "" }
end
local asker = redis.call("GET", KEYS[8])
if asker then
  return { "shutdown", 0, asker }
end
local queued = redis.call("ZCARD", KEYS[5]) + redis.call("ZCARD", KEYS[6])
if queued >= tonumber(ARGV[4]) then
  return { "full", queued, "" }
end
local now = now_ms()
if worker == "" then
  if ARGV[7] ~= "park" and redis.call("ZCOUNT", leases, "(" .. now, "+inf") > 0 then
    return { "wanted", 0, "" }
  end
elseif not holds(leases, worker, now) then
  return { "lapsed", 0, worker }
end
if worker == "" then
  redis.call("HSET", job, "payload", ARGV[2], "created", now, "request", ARGV[5], "node", ARGV[6], "starts", 0)
  park({ job = job, starting = KEYS[5], waiting = KEYS[6] }, key, now, now)
  return { "parked", 0, "" }
end
local keys = { job = job, owned = KEYS[3], inbox = KEYS[4], starting = KEYS[5], waiting = KEYS[6], epoch = KEYS[7] }
local fresh = { payload = ARGV[2], request = ARGV[5], node = ARGV[6] }
return { "given", give(keys, key, worker, now, fresh), worker }
