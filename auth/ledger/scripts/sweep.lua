-- Return the next members of a revocation index. The first call sets the barrier.
-- KEYS: index, barrier. ARGV: lifetime of the barrier in ms, maximum number of members, then handled members.

if tonumber(ARGV[1]) > 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
end
if #ARGV > 2 then
  redis.call('ZREM', KEYS[1], unpack(ARGV, 3))
end
if tonumber(ARGV[2]) == 0 then
  return {}
end
return redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[2]) - 1)
