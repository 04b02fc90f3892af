-- Create a token. ARGV: limits, ttl, number of non-empty blobs, then field and value pairs.
-- Answers {'ok'} or, when a revocation or another token came first, its state. An id is 128 random bits,
-- so a minted token is this very one: a lost answer asked for again.

local hash = read()
if hash.st then
  if hash.st == 'minted' and limits.fence then
    write(hash, {rn = reign()})
  end
  return {hash.st == 'minted' and 'ok' or hash.st}
end
local changes = {st = 'minted', mi = now, ex = now + tonumber(ARGV[2]), nb = ARGV[3]}
if limits.fence then
  changes.rn = reign()
end
for i = 4, #ARGV, 2 do
  changes[ARGV[i]] = ARGV[i + 1]
end
write(hash, changes)
prolong(hash)
return {'ok'}
