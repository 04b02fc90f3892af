-- Create a token. ARGV: limits, ttl, number of non-empty blobs, then field and value pairs.
-- Returns {'ok'}, or {state} if there is a tombstone or another token. An id has 128 random bits, so an
-- existing minted token is the same one, and the call is a retry after a lost reply.

local hash = read()
if hash.st then
  if hash.st == 'minted' and limits.fence then
    write(hash, {rn = replication_id()})
  end
  return {hash.st == 'minted' and 'ok' or hash.st}
end
local changes = {st = 'minted', mi = now, ex = now + tonumber(ARGV[2]), nb = ARGV[3]}
if limits.fence then
  changes.rn = replication_id()
end
for i = 4, #ARGV, 2 do
  changes[ARGV[i]] = ARGV[i + 1]
end
write(hash, changes)
prolong(hash)
return {'ok'}
