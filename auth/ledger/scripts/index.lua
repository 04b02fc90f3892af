-- Add a member to a revocation index, unless its scope has just been revoked.
-- KEYS: index, barrier. ARGV: member, lifetime of the entry in ms. Returns 1, or 0 if there is a barrier.

if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local last = string.format('%.0f', now + tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))
redis.call('ZADD', KEYS[1], 'GT', last, ARGV[1])
redis.call('PEXPIREAT', KEYS[1], last)
return 1
