-- A unique lock whose task is gone.
-- KEYS  1 lock STRING; the task's HASH is of the same slot
-- ARGV  1 "mend": release it, else "look"   2 what the tasks' keys begin with
-- Returns  id of the task that is gone, or ""
local id = redis.pcall("GET", KEYS[1])
if type(id) ~= "string" or redis.call("EXISTS", ARGV[2] .. id) == 1 then
  return ""
end
if ARGV[1] == "mend" then
  redis.call("DEL", KEYS[1])
end
return id
