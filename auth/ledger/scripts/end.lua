-- End a token for good. ARGV: limits, `done` or `revoked`, ms to plant a tombstone when there is no hash.
-- A revocation also stops running responses; what is over and idle keeps the state that it ended in.
-- Answers {state before, state after, node, group}, or {} when there is no token.

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
