-- Fragment: a write happens once, however often it is sent. Its reply is kept under its number, and given again.
-- Nothing is changed before the reply is kept; so a server that is out of memory refuses the write before it began.
-- Without a writer there is no record: for slots that are half moved, which refuse commands over two keys.
-- KEYS      1 content   2 writer: those of the script that includes it
-- ARGV      1 channel   2 publish   3 ttl   4 sliding_ttl   5 keep   6 request: likewise
-- Returns   make_way() -> nothing. A script that has begun to write is not refused for want of memory: for those that
--             free some, to be called first
--           answer(reply) -> reply, once it is kept; or the reply of the first time, and true
local content, writer = KEYS[1], KEYS[2]
local channel, publish = ARGV[1], ARGV[2]
local ttl, sliding_ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local keep, request = ARGV[5], ARGV[6]
local function make_way()
  redis.call("HDEL", writer or content, "=") -- no entry has this name
end
local function answer(reply)
  if writer then
    local packed = redis.call("HGET", writer, request)
    if packed then
      return cmsgpack.unpack(packed), true
    end
    redis.call("HSET", writer, request, cmsgpack.pack(reply))
    redis.call("PEXPIRE", writer, keep)
  end
  return reply, false
end
