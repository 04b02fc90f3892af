-- End a token. ARGV: limits, `done` or `revoked`, lifetime in ms of the tombstone if there is no token.
-- A revocation also stops running responses. An ended token without responses keeps its state.
-- Returns {state before, state after, node, group}, or {} if there is no token.

local target, plant = ARGV[2], tonumber(ARGV[3])
local hash = read()
if not hash.st then
  if plant > 0 then
    write(hash, {st = target, en = now})
    redis.call('PEXPIREAT', key, int(now + plant))
  end
  return {}
end
local before = settle(hash)
local open = before == 'minted' or before == 'active'
if open or (target == 'revoked' and before ~= 'revoked' and running(hash)) then
  write(hash, {st = target, en = now})
end
return {before, hash.st, hash.nd or '', hash.gp or ''}
