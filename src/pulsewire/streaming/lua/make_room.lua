-- Fragment: trim a stream to about `max_len` events without eating what a group still needs.
-- "Unacked" keeps everything from the oldest pending or undelivered entry of any group on; whole nodes are trimmed, at
-- most 1,000 entries a call (XTRIM MINID ~ LIMIT), so that a call stays short. Without groups, or with "none", MAXLEN ~.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   make_room(key, max_len, retain) -> length afterwards, group that holds the oldest entry or ""
--           make_exact_room(key, keep, retain) -> the same, by single entries
local function id_parts(id)
  local ms, seq = string.match(id, "^(%d+)%-(%d+)$")
  return tonumber(ms), seq
end

local function is_older(a, b)
  local a_ms, a_seq = id_parts(a)
  local b_ms, b_seq = id_parts(b)
  if a_ms ~= b_ms then
    return a_ms < b_ms
  end
  if #a_seq ~= #b_seq then -- sequences reach 2^64, past what a Lua number holds exactly
    return #a_seq < #b_seq
  end
  return a_seq < b_seq
end

local function by_name(flat)
  local named = {}
  for i = 1, #flat, 2 do
    named[flat[i]] = flat[i + 1]
  end
  return named
end

-- The oldest id a group still needs: its oldest pending entry, else the last one it was given.
local function needed_from(key, group)
  if group["pending"] > 0 then
    local oldest = redis.call("XPENDING", key, group["name"], "-", "+", 1)
    if oldest[1] then
      return oldest[1][1]
    end
  end
  return group["last-delivered-id"]
end

-- The oldest id that any group still needs (nil: none needs anything), and that group.
local function needed_by_all(key, retain)
  local safe, held_by = nil, ""
  if retain == "unacked" then
    for _, flat in ipairs(redis.call("XINFO", "GROUPS", key)) do
      local group = by_name(flat)
      local from = needed_from(key, group)
      if safe == nil or is_older(from, safe) then
        safe, held_by = from, group["name"]
      end
    end
  end
  return safe, held_by
end

local function make_room(key, max_len, retain)
  local length = redis.call("XLEN", key)
  if max_len == 0 or length <= max_len then
    return length, ""
  end
  local safe, held_by = needed_by_all(key, retain)
  if safe == nil then
    redis.call("XTRIM", key, "MAXLEN", "~", max_len)
  else
    redis.call("XTRIM", key, "MINID", "~", safe, "LIMIT", math.min(length - max_len, 1000))
  end
  return redis.call("XLEN", key), held_by
end

-- For a stream at its hard limit, which whole nodes may not bring below it: at most 100 entries a call.
local function make_exact_room(key, keep, retain)
  local safe, held_by = needed_by_all(key, retain)
  local excess = math.min(redis.call("XLEN", key) - keep, 100)
  local oldest = redis.call("XRANGE", key, "-", "+", "COUNT", 1)[1]
  if oldest and (safe == nil or is_older(oldest[1], safe)) then
    local first_kept = redis.call("XRANGE", key, "-", "+", "COUNT", excess + 1)[excess + 1]
    local from = first_kept and first_kept[1] or "18446744073709551615-18446744073709551615"
    if safe and is_older(safe, from) then
      from = safe
    end
    redis.call("XTRIM", key, "MINID", from)
  end
  return redis.call("XLEN", key), held_by
end
