-- A worker's set that names jobs which are not its own.
-- KEYS  1 owned SET of one worker; the jobs are of the same slot
-- ARGV  1 "mend": take them out, else "look"   2 worker   3 what the keys of jobs begin with   4.. keys of jobs
-- Returns  {keys of jobs that are gone, or another's}
local owned, mode, worker, jobs = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local foreign = {}
for index = 4, #ARGV do
  local key = ARGV[index]
  if redis.call("SISMEMBER", owned, key) == 1 and redis.pcall("HGET", jobs .. key, "owner") ~= worker then
    if mode == "mend" then
      redis.call("SREM", owned, key)
    end
    foreign[#foreign + 1] = key
  end
end
return foreign
