-- Fragment: a change happens once, however often it is sent. Its reply is kept under its number, and given again.
-- KEYS     1 record HASH  number of a request -> its reply, of one inspector; with a TTL
-- ARGV     1 number of the request   2 ms to keep its reply
-- Returns  answer(reply) -> reply, once it is kept
local record, request, keep = KEYS[1], ARGV[1], ARGV[2]
local packed = redis.call("HGET", record, request)
if packed then
  return cmsgpack.unpack(packed)
end
redis.call("HDEL", record, "") -- a script that has begun to write is not refused for want of memory
local function answer(reply)
  redis.call("HSET", record, request, cmsgpack.pack(reply))
  redis.call("PEXPIRE", record, keep)
  return reply
end
