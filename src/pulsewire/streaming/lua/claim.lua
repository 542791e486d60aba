-- Take over events whose consumer has been silent for too long, and note down how far the group has come.
-- Pending entries that are no longer in the stream are acknowledged, since nobody can ever get them.
-- KEYS  1 stream     STREAM  pulse:stream:<name>
--       2 positions  HASH    group -> oldest id it still needs
-- ARGV  1 group   2 consumer   3 min idle ms   4 how many at most (0: only note the position)
--       5 the position this consumer noted down last
--       6 an event is a suspect if it has been delivered so often   7 and less than so often (0 and 0: none is),
--       and last to another consumer: that one may have died of it   8 how many suspects at most
-- Returns  {"claimed", {{id, deliveries, owner before, fields}...}, number gone, position}
--          error NOGROUP when the group is gone
local key, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local claimed, gone = {}, 0
local from, below, suspects = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

-- One less than a whole number in digits, which may be past what a Lua number holds exactly; nil for zero.
local function one_less(digits)
  local head, last, zeros = string.match(digits, "^(%d-)([1-9]?)(0*)$")
  if last == "" then
    return nil
  end
  local less = head .. (tonumber(last) - 1) .. string.rep("9", #zeros)
  return (string.gsub(less, "^0+(%d)", "%1"))
end

-- One look tells an idle group, which is the usual case, that there is nothing to do.
local summary = redis.call("XPENDING", key, group)
local oldest = summary[1] > 0 and summary[2]

local wanted, after, pages = tonumber(ARGV[4]), "-", 0
while oldest and wanted > 0 and pages < 10 do -- suspects that are left must not hide what is behind them
  local page = redis.call("XPENDING", key, group, "IDLE", ARGV[3], after, "+", ARGV[4])
  for _, pending in ipairs(page) do
    local id, owner, deliveries = pending[1], pending[2], pending[4]
    local is_suspect = deliveries >= from and deliveries < below and owner ~= consumer
    if wanted > 0 and (not is_suspect or suspects > 0) then
      local entry = redis.call("XCLAIM", key, group, consumer, ARGV[3], id)[1]
      if entry then
        claimed[#claimed + 1] = { id, deliveries + 1, owner, entry[2] }
        wanted = wanted - 1
        suspects = suspects - (is_suspect and 1 or 0)
      else
        redis.call("XACK", key, group, id)
        gone = gone + 1
      end
    end
  end
  pages = pages + 1
  if #page < tonumber(ARGV[4]) then
    break
  end
  after = "(" .. page[#page][1]
end

local position = nil
if oldest then
  -- the entry before the oldest pending one: a rebuilt group begins after its position
  local ms, seq = string.match(oldest, "^(%d+)%-(%d+)$")
  if seq == "0" then
    position = one_less(ms) .. "-18446744073709551615"
  else
    position = ms .. "-" .. one_less(seq)
  end
else
  for _, flat in ipairs(redis.call("XINFO", "GROUPS", key)) do
    if flat[2] == group then
      for i = 1, #flat, 2 do
        if flat[i] == "last-delivered-id" then
          position = flat[i + 1]
        end
      end
    end
  end
end
if position and position ~= ARGV[5] then
  redis.pcall("HSET", KEYS[2], group, position) -- pcall: on a full server the claim must still be reported
  redis.pcall("PEXPIRE", KEYS[2], 604800000)
end
return { "claimed", claimed, gone, position or "" }
