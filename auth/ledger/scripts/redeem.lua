-- Open the token's session, or answer it again to the node that opened it.
-- KEYS: the token, the stream of events.
-- ARGV: limits, node, proposed sid ('' to check everything and open nothing),
-- proof ('' when the caller has checked the node, else 'c' for a certificate of the node, or '-'),
-- hash of the secret, packed source address, event as JSON ('' for none).
-- Answers {'ok', sid, ms to the deadline, ms to the hard end, exchanges, binding, networks}, or {why not}.

local node, sid, event = ARGV[2], ARGV[3], ARGV[7]
local proof, secret, source = ARGV[4], ARGV[5], ARGV[6]

-- Whether the source lies in one of the networks of its family: a byte for the prefix, then the address.
local function within(networks)
  local step = #source + 1
  for at = 1, #networks, step do
    local bits = string.byte(networks, at)
    local whole, rest = math.floor(bits / 8), bits % 8
    local same = string.sub(networks, at + 1, at + whole) == string.sub(source, 1, whole)
    if same and rest > 0 then
      local shift = 2 ^ (8 - rest)
      local theirs, ours = string.byte(networks, at + 1 + whole), string.byte(source, whole + 1)
      same = math.floor(theirs / shift) == math.floor(ours / shift)
    end
    if same then
      return true
    end
  end
  return false
end

-- Why the caller is not proven to be the node that the token was minted for; nil when it is.
-- Lua interns its strings, so the comparison takes the same time whatever they are.
local function unproven(hash)
  if not hash.bd then
    return proof ~= '' and 'node_unknown' or nil
  elseif hash.bd == 'c' then
    if proof ~= 'c' then
      return 'wrong_peer'
    end
  elseif #secret ~= 32 or hash.bd ~= 's' .. secret then
    return 'wrong_secret'
  end
  if hash.n4 or hash.n6 then
    local networks = #source == 4 and hash.n4 or #source == 16 and hash.n6 or ''
    return not within(networks) and 'wrong_network' or nil
  end
end

-- Append the event, before the change: should this fail, nothing has changed.
local function record(kind)
  if event ~= '' then
    redis.call('XADD', KEYS[2], '*', 'id', sid, 'type', kind, 'event', event)
  end
end

local hash = read()
if not hash.st then
  return {'unknown'}
end
local state = settle(hash)
if hash.nd then
  if hash.nd ~= node then
    redis.call('HINCRBY', key, 'mm', 1)
    return {'wrong_node'}
  end
  local why = unproven(hash)
  if why then
    return {why}
  end
end
local open = state == 'minted' or state == 'active' and now <= num(hash, 'ra') + limits.cap
if state == 'revoked' then
  return {'revoked'}
elseif not open then
  return {hash.ra and 'replayed' or hash.fe and 'fenced' or 'expired'}
elseif sid ~= '' and event ~= '' and redis.call('XLEN', KEYS[2]) >= limits.backlog then
  return {'backlog'}
elseif sid == '' then
  return {'ok', '', 0, 0, 0, hash.bd or '', hash.n4 or '', hash.n6 or ''}
elseif state == 'minted' then
  record('token.redeemed')
  local deadline = now + math.min(limits.base + num(hash, 'sz') * 1000 / limits.rate, limits.cap)
  write(hash, {st = 'active', sid = sid, ra = now, ls = now, dl = deadline, xc = 1})
else
  -- The opening exchange repeated is recorded already; of the others the ledger records the first few.
  if hash.sid ~= sid and num(hash, 'xc') < limits.exchanges then
    record('token.exchanged')
  end
  write(hash, {ls = now, xc = num(hash, 'xc') + 1})
end
prolong(hash)
return {
  'ok', hash.sid, num(hash, 'dl') - now, num(hash, 'ra') + limits.cap - now, num(hash, 'xc'),
  hash.bd or '', hash.n4 or '', hash.n6 or '',
}
