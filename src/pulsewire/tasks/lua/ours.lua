-- Fragment: what we keep beside asynq's fields of a task, and how a lease of ours looks.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   OWNER: the field with the server that runs the task   LOST: how often one died, or was cut off, meanwhile
--           ALONE: the server in which it runs, or ran, alone
--           lease_end(ms) -> score: the end of a lease of ours, never a whole second   is_ours(score)
--           NO_LEASE: what stands for the score of a task without a lease; it counts as ours
--           owner_of(task) -> who runs it, or false   is_task(task): whether it is a HASH with a message
local OWNER, LOST, ALONE = "pulsewire:owner", "pulsewire:lost", "pulsewire:alone"
local NO_LEASE = 0.5 -- an entry that was lost says nothing: the owner does
local function lease_end(ms)
  return string.format("%d.%03d5", math.floor(ms / 1000), ms % 1000)
end
local function is_ours(score)
  return score % 1 ~= 0
end
local function owner_of(task)
  local owner = redis.pcall("HGET", task, OWNER) -- what stands there may be anything
  return type(owner) == "string" and owner
end
local function is_task(task)
  return redis.pcall("HEXISTS", task, "msg") == 1
end
