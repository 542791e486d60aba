-- Fragment, after "request": the one owner of how a map changes (spec/pulse.md 1.1 and 1.2). The new content, the next
-- revision, the kind and the notices, together or not at all: what memory or the ACL may refuse is tried before anything
-- is changed, and the notices go before the change. (Redis 6.2 cannot say beforehand what its ACL forbids.)
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   commit_set(key, value, revision, reply) -> reply; or that of the first time, or why it was refused
--           commit_sets({key, value, ...}, {set_notice(key, value, revision), ...}, last revision, reply) -> the same
--           commit_del(key, revision, reply), commit_clear(kind, revision, reply) -> the same
local function text(number)
  return string.format("%.0f", number)
end
local function life(is_new)
  return sliding_ttl > 0 and sliding_ttl or ttl > 0 and (is_new or redis.call("PTTL", content) < 0) and ttl
end
local function announce(notices, reply)
  local known, is_repeated = answer(reply)
  if is_repeated then
    return known
  end
  if not writer then
    redis.call("HINCRBY", content, "=rev", 0) -- changes nothing, but is refused when memory is full, as the record is
  end
  for i = 1, #notices do
    local sent = redis.pcall(publish, channel, notices[i])
    if type(sent) == "table" and sent.err then -- the first one is: it is the same channel for all
      if writer then
        redis.call("HDEL", writer, request)
      end
      return sent
    end
  end
end
local function forbidden(command, ...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, content, ...) then
    return redis.error_reply("NOPERM this user may not use " .. command .. " on this map")
  end
end
local function set_notice(key, value, revision)
  local rev = text(revision)
  return "set:" .. struct.pack("<i4c0i4c0i4c0", #key, key, #value, value, #rev, rev)
end
local function commit_sets(pairs, notices, revision, reply)
  local expires = life(false)
  local otherwise = announce(notices, reply)
  if otherwise then
    return otherwise
  end
  redis.call("HSET", content, "=rev", text(revision), "=kind", "set", unpack(pairs))
  if expires then
    redis.call("PEXPIRE", content, expires)
  end
  return reply
end
local function commit_set(key, value, revision, reply)
  return commit_sets({ key, value }, { set_notice(key, value, revision) }, revision, reply)
end
local function commit_del(key, revision, reply)
  local rev, expires = text(revision), life(false)
  local notice = "del:" .. struct.pack("<i4c0i4c0", #key, key, #rev, rev)
  local otherwise = forbidden("HDEL", key) or announce({ notice }, reply)
  if otherwise then
    return otherwise
  end
  redis.call("HDEL", content, key)
  redis.call("HSET", content, "=rev", rev, "=kind", "del")
  if expires then
    redis.call("PEXPIRE", content, expires)
  end
  return reply
end
local function commit_clear(kind, revision, reply)
  local rev, expires = text(revision), life(true)
  local otherwise = forbidden("UNLINK") or announce({ kind .. ":" .. rev }, reply)
  if otherwise then
    return otherwise
  end
  redis.call("UNLINK", content) -- freeing a large hash takes longer than everybody else can wait
  redis.call("HSET", content, "=rev", rev, "=kind", kind)
  if expires then
    redis.call("PEXPIRE", content, expires)
  end
  return reply
end
