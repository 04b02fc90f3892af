-- Remove entries that are in the catalog, and return the oldest remaining ones.
-- KEYS: stream. ARGV: maximum number of entries, then pairs of entry id and event id.
-- After a failover, another event may have the same entry id, so both ids are compared.

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
