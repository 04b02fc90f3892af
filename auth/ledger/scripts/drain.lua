-- Remove the entries that the catalog has, and answer the oldest of the others.
-- KEYS: stream. ARGV: entries at most, then the ids of entries and of their events, in pairs.
-- After a failover another event may have an entry's id, so both are compared.

local done = {}
for i = 2, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry and entry[2][2] == ARGV[i + 1] then
    done[#done + 1] = ARGV[i]
  end
end
if #done > 0 then
  redis.call('XDEL', KEYS[1], unpack(done))
end
return redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
