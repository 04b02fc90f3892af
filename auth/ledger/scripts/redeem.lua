-- Open the token's session, or answer it again to the node that opened it.
-- ARGV: limits, node, proposed sid.
-- Answers {'ok', sid, ms to the deadline, ms to the hard end, exchanges} or {why not}.

local node, sid = ARGV[2], ARGV[3]
local hash = read()
if not hash.st then
  return {'unknown'}
end
local state = settle(hash)
if hash.nd and hash.nd ~= node then
  redis.call('HINCRBY', key, 'mm', 1)
  return {'wrong_node'}
end
if state == 'minted' then
  local deadline = now + math.min(limits.base + num(hash, 'sz') * 1000 / limits.rate, limits.cap)
  write(hash, {st = 'active', sid = sid, ra = now, ls = now, dl = deadline, xc = 1})
elseif state == 'active' and now <= num(hash, 'ra') + limits.cap then
  write(hash, {ls = now, xc = num(hash, 'xc') + 1})
elseif state == 'revoked' then
  return {'revoked'}
else
  return {hash.ra and 'replayed' or hash.fe and 'fenced' or 'expired'}
end
prolong(hash)
return {'ok', hash.sid, num(hash, 'dl') - now, num(hash, 'ra') + limits.cap - now, num(hash, 'xc')}
